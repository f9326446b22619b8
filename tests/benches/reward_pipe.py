"""Milliseconds of one batch to an external reward and back: the pipe, JSON read and written in Python, nothing else.

    python3 tests/benches/reward_pipe.py [ITEMS] [BATCHES]      # exact match of actors/examples/rewards, 64 items
"""

import json
import pathlib
import statistics
import subprocess
import sys
import time

given = [int(one) for one in sys.argv[1:3]]
items, batches = given + [64, 400][len(given) :]
folder = pathlib.Path(__file__).resolve().parents[2] / "actors/examples/rewards"
item = {
    "id": "12/ab/0", "task": "text", "mode": "think", "prompt": "Ana has 5 pens, loses 2. How many pens?",
    "reference": "3", "completion": "<think>5 - 2 = 3.</think>3", "answer": "3", "tokens": 20, "source": "sums",
    "place": "", "category": "one_step", "columns": {},
}
line = json.dumps({"reward": "exact", "run": "r", "batch": 1, "items": [item] * items}) + "\n"
reward = subprocess.Popen(
    [sys.executable, "exact_match.py"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
)
took = []
for _ in range(batches):
    began = time.perf_counter()
    reward.stdin.write(line)
    reward.stdin.flush()
    assert len(json.loads(reward.stdout.readline())["values"]) == items
    took.append(1000 * (time.perf_counter() - began))
reward.stdin.close()
reward.wait()
took.sort()
print(f"{items} items: median {statistics.median(took):.2f} ms, 95 % below {took[int(0.95 * batches)]:.2f} ms")
