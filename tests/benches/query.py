#!/usr/bin/env python3
"""Milliseconds of `demask query`, start to finish, on a store of a million metric rows.

    cargo build --release --workspace --bins
    cargo build --release -p demask-storage --example fill
    python3 tests/benches/query.py [--rows 1000000] [--rounds 31] [--home FOLDER]

Each round runs every query once by `demask query` and once by `python3 -S -c` with its sqlite3 module (the same
statement on the same file, rows printed), a whole process each, interleaved, so that a noisy machine meets both. Printed
are medians, the fastest and slowest tenth of demask, the ratio of the medians, and the processor's time of demask (user
and system), which a loaded machine does not stretch as it does the wall's.
"""

import argparse
import os
import resource
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
DEMASK = os.environ.get("DEMASK", PROGRAMS / "demask")
BASELINE = """
import sqlite3, sys
rows = sqlite3.connect("file:" + sys.argv[1] + "?mode=ro", uri=True).execute(sys.argv[2])
print(*[column[0] for column in rows.description], sep=",")
for row in rows.fetchmany(1000): print(*row, sep=",")
"""


def queries(database):
    store = sqlite3.connect(database)
    run = store.execute("SELECT run FROM v_run ORDER BY started_us DESC LIMIT 1").fetchone()[0]
    subject = store.execute("SELECT subject FROM v_lineage LIMIT 1").fetchone()[0]
    return {
        "start-up alone (SELECT 1)": "SELECT 1",
        "the latest values": "SELECT * FROM v_latest",
        "last 100 of a metric": "SELECT run, step, value FROM v_metric WHERE name = 'train/loss' ORDER BY step DESC LIMIT 100",
        "last 100 of a run's": f"SELECT step, value FROM v_metric WHERE run = '{run}' AND name = 'train/loss' ORDER BY step DESC LIMIT 100",
        "a metric's means per 1000": "SELECT run, step / 1000 * 1000 AS from_step, avg(value) AS mean FROM v_metric WHERE name = 'train/loss' GROUP BY 1, 2",
        "all values of one step": f"SELECT name, value FROM v_metric WHERE run = '{run}' AND step = 7000",
        "the runs": "SELECT * FROM v_run",
        "the benchmarks": "SELECT * FROM v_eval ORDER BY at_us DESC",
        "one sequence's lineage": f"SELECT * FROM v_lineage WHERE subject = '{subject}'",
        "one step's lineage": f"SELECT * FROM v_lineage WHERE run = '{run}' AND step = 7000",
        "the last 50 events": "SELECT * FROM v_event ORDER BY seq DESC LIMIT 50",
        "every row: means by metric": "SELECT name, count(*) AS n, avg(value) AS mean FROM v_metric GROUP BY name",
    }


def timed(command):
    began, used = time.perf_counter(), children()
    done = subprocess.run(command, capture_output=True)
    took = 1000 * (time.perf_counter() - began), 1000 * (children() - used)
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr.decode()}")
    return took


def children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--home", type=Path, help="a filled home is used again, else filled")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = options.home or Path(temporary)
        database = home / "demask.db"
        if not database.exists():
            home.mkdir(parents=True, exist_ok=True)
            subprocess.run([PROGRAMS / "examples/fill", database, str(options.rows)], check=True)
        measure(home, database, options.rounds)


def measure(home, database, rounds):
    asked = queries(database)
    ours = {name: [] for name in asked}
    theirs = {name: [] for name in asked}
    for _ in range(rounds):
        for name, sql in asked.items():
            ours[name].append(timed([DEMASK, "--home", home, "query", sql]))
            theirs[name].append(timed(["python3", "-S", "-c", BASELINE, database, sql]))
    print(f"{'milliseconds, median':28} {'demask':>8} {'tenths':>15} {'CPU':>6} {'python':>8} {'ratio':>6}")
    for name in asked:
        walls = [wall for wall, _ in ours[name]]
        mine, other = statistics.median(walls), statistics.median(wall for wall, _ in theirs[name])
        tenths, cpu = statistics.quantiles(walls, n=10), statistics.median(cpu for _, cpu in ours[name])
        print(
            f"{name:28} {mine:8.1f} {tenths[0]:7.1f} {tenths[-1]:7.1f} {cpu:6.1f} {other:8.1f} {other / mine:6.1f}"
        )


if __name__ == "__main__":
    main()
