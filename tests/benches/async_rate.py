#!/usr/bin/env python3
"""Rollouts beside training against the synchronous loop: seconds a policy step on the tabletop, interleaved.

    tests/benches/async_rate.py [ROUNDS] [STEPS]

All begin with the shipped model and have the same two cores: one loop computes with two threads and draws between steps, another has a
thread for the engine that trains and one for the engine that draws the next step's groups. A third computes as the first with one
thread: half its seconds are the least that two cores could take for the work if each were busy at one thread's efficiency all the time, so twice the
first's seconds over the third's are the most that rollouts beside training can gain (`bound`), however they are scheduled. The
first two steps are left out. Prints a JSON line a round, and the median ratios at the end.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMASK = ROOT / "target/release/demask"
SYNCHRONOUS = ["engine.threads=2"]
ALONE = ["engine.threads=1"]
BESIDE = ["engine.threads=1", "rollouts.samplers=1", "rollouts.staleness=1", "rollouts.threads=1"]


def profile():
    text = (ROOT / "actors/profiles/tabletop-align.toml").read_text()
    head, *stages = text.split("[[stage]]")
    stage = next(stage for stage in stages if 'kind = "align"' in stage)
    return head + "[rollouts]\n[[stage]]" + stage


def seconds_a_step(settings, steps, file):
    with tempfile.TemporaryDirectory() as home:
        run = [DEMASK, "run", file, "--headless", "--set", f"stage.0.steps={steps}", "--set", "stage.0.resample=0"]
        for one in settings:
            run += ["--set", one]
        environment = {**os.environ, "DEMASK_HOME": home}
        done = subprocess.run(run, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stderr)
        sql = "SELECT value FROM v_metric WHERE name = 'rate/step_seconds' ORDER BY step"
        out = subprocess.run([DEMASK, "query", "--json", sql], env=environment, capture_output=True, text=True, check=True)
        values = [row["value"] for row in json.loads(out.stdout)]
        subprocess.run([DEMASK, "daemon", "stop"], env=environment, capture_output=True)
    return statistics.median(values[2:])


def main():
    rounds, steps = (int(word) for word in (sys.argv[1:] + ["3", "8"][len(sys.argv) - 1 :])[:2])
    ratios, bounds = [], []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "align.toml"
        file.write_text(profile())
        for _ in range(rounds):
            synchronous, beside, alone = (seconds_a_step(one, steps, file) for one in (SYNCHRONOUS, BESIDE, ALONE))
            ratios.append(synchronous / beside)
            bounds.append(2 * synchronous / alone)
            line = {"synchronous": synchronous, "beside": beside, "one thread": alone, "times": ratios[-1], "bound": bounds[-1]}
            print(json.dumps(line), flush=True)
    print(json.dumps({"median": statistics.median(ratios), "bound": statistics.median(bounds), "rounds": rounds, "steps": steps}))


main()
