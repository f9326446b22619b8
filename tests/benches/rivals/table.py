#!/usr/bin/env python3
"""What `tests/benches/rivals.sh` found, as a table: medians over the rounds, the ratio of each pair, whether tokens are equal.

    python3 tests/benches/rivals/table.py FILE.jsonl      python3 tests/benches/rivals/table.py --machine
"""

import json
import os
import sys
from pathlib import Path
from statistics import median

SETS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")


def machine():
    """The processor, what it can, and how busy it is."""
    fields = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    has = (fields.get("flags") or fields.get("Features") or "").split()
    sets = " ".join(name for name in SETS if name in has)
    return f"{fields.get('model name', 'a processor without a name')}, {os.cpu_count()} cores, {sets}; load {os.getloadavg()[0]:.2f}"


def rate(line):
    return line.get("samples_per_s") or line["tokens_per_s"]


def row(name, lines):
    ours = [line for line in lines if line["what"] == "demask"]
    theirs = [line for line in lines if line["what"] != "demask"]
    if not ours or len(ours) != len(theirs):
        raise SystemExit(f"{name}: {len(ours)} lines of demask, {len(theirs)} of the rival; expected pairs")
    ratios = sorted(rate(one) / rate(other) for one, other in zip(ours, theirs))
    equal = "–"
    # Images have no tokens to compare, because each program draws them with its own random generator.
    if all("tokens" in line for line in lines):
        equal = "equal" if len({line["tokens"] for line in lines}) == 1 else "**not equal**"
    passes = f"{ours[0]['passes']} / {theirs[0]['passes']}" if "passes" in ours[0] else "–"
    share = f"{median(line['share'] for line in ours):.2f}" if "share" in ours[0] else "–"
    memory = " / ".join(str(round(median(line["peak_mb"] for line in side))) for side in (ours, theirs))
    dtypes = "/".join(sorted({line["dtype"] for line in lines}))
    show = lambda lines: f"{median(map(rate, lines)):.4g}"
    return (f"| {name} | {dtypes} | {show(ours)} | {show(theirs)} | {median(ratios):.2f} | {ratios[0]:.2f} to {ratios[-1]:.2f} "
            f"| {equal} | {passes} | {share} | {memory} |")


def main():
    if sys.argv[1:] == ["--machine"]:
        return print(machine())
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    cases = {}
    for line in map(json.loads, Path(sys.argv[1]).read_text().splitlines()):
        cases.setdefault(line["case"], []).append(line)
    print("Samples or training tokens a second; passes of a batch; share of the matrix-product rate; peak MB, ours / theirs.\n")
    print("| case | dtype | demask | PyTorch | ratio | from, to | tokens | passes | share | MB |\n" + "| --- " * 10 + "|")
    for name, lines in cases.items():
        print(row(name, lines))
    print(f"\n{machine()}")


if __name__ == "__main__":
    main()
