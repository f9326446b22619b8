#!/usr/bin/env python3
"""Samples a second of published loops in eager PyTorch on a checkpoint folder: the rivals of `sample_rate folder`.

    python3 tests/benches/sample_rate.py [FOLDER] [--loop llada|plain|prefix|dual|mmada|maskgit] [--prompt TOKENS] [--length TOKENS]
        [--block TOKENS] [--batch ROWS] [--threshold P] [--rounds N] [--dtype auto|f32|bf16] [--threads N] [--show]

With `mmada` and `maskgit` the block is the number of steps. Prints a JSON line: the rate, forward passes of a batch, the peak of memory, a hash of the tokens (those of all rows, in order;
with --show the tokens too). What each loop computes is said in `rivals/decode.py`.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from rivals.decode import LOOPS, Words
from rivals.model import Model, good_dtype, peak_megabytes


def prompts(config, rows, length):
    """The same that `sample_rate folder` takes: spread over the text tokens, but for a few at either end."""
    end = Words(config).end
    if end <= 64:
        raise SystemExit(f"{end} tokens of text: expected more than 64")
    row, at = torch.arange(rows)[:, None], torch.arange(length)[None, :]
    return 16 + (row * 7919 + at * 104_729) % (end - 32)


def fnv(tokens):
    """FNV-1a over the tokens as four bytes each, the lowest first."""
    state = 0xCBF29CE484222325
    for token in tokens:
        for byte in int(token).to_bytes(4, "little"):
            state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shipped = Path(__file__).resolve().parents[2] / "model" / "shipped" / "tabletop"
    parser.add_argument("folder", type=Path, nargs="?", default=shipped)
    parser.add_argument("--loop", default="llada", choices=LOOPS)
    defaults = {"prompt": 32, "length": 64, "block": 8, "batch": 1, "rounds": 5, "threads": 2}
    for name, default in defaults.items():
        parser.add_argument("--" + name, type=int, default=default)
    parser.add_argument("--threshold", type=float, default=0.9)
    parser.add_argument("--dtype", default="auto", choices=["auto", "f32", "bf16"])
    parser.add_argument("--show", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    dtype = good_dtype(given.dtype)
    model = Model.load(given.folder, dtype)
    longest = model.config["max_sequence_length"]
    if given.prompt + given.length > longest:
        raise SystemExit(f"{given.prompt} + {given.length} tokens: expected at most {longest}")
    prompt, loop = prompts(model.config, given.batch, given.prompt), LOOPS[given.loop]
    run = lambda: loop(model, prompt, given.length, given.block, given.threshold)
    made, passes = run()
    began = time.perf_counter()
    for _ in range(given.rounds):
        run()
    seconds = time.perf_counter() - began
    line = {
        "what": f"PyTorch {given.loop}", "dtype": dtype, "batch": given.batch,
        "samples_per_s": round(given.rounds * given.batch / seconds, 3), "passes": passes,
        "peak_mb": peak_megabytes(),
    }
    if given.loop not in ("mmada", "maskgit"):
        line["tokens"] = fnv(made[:, given.prompt :].flatten().tolist())
    if given.show:
        line["shown"] = made[:, given.prompt :].tolist()
    print(json.dumps(line))


if __name__ == "__main__":
    main()
