#!/usr/bin/env bash
# Evaluation by log-likelihoods: `demask eval arc-challenge:llada-base` against lm-eval's way in eager PyTorch, in turn, on the shipped
# model, both on the same made-up rows in ARC's form ($PYTHON, default python3, with PyTorch and safetensors):
#
#   tests/benches/eval_rate.sh [ITEMS, default 60] [TIMES, default 3]
set -euo pipefail
cd "$(dirname "$0")/../.."
items=${1:-60} times=${2:-3} python=${PYTHON:-python3}
cargo build --release --quiet --locked --workspace --bins
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
mkdir -p "$room/benchmarks/arc-challenge/ARC-Challenge"
arc=$room/benchmarks/arc-challenge/ARC-Challenge/test.jsonl
"$python" - "$items" > "$arc" <<'ROWS'
import json, random, sys
draw = random.Random(1)
words = "red blue green orange yellow purple circle square triangle cross table boats birds key coins left right top bottom".split()
say = lambda count: " ".join(draw.choice(words) for _ in range(count))
for number in range(int(sys.argv[1])):
    choices = {"text": [say(draw.randint(2, 8)) for _ in range(4)], "label": list("ABCD")}
    row = {"id": str(number), "question": say(draw.randint(10, 25)), "choices": choices, "answerKey": draw.choice("ABCD")}
    print(json.dumps(row))
ROWS
for _ in $(seq "$times"); do
  begun=$(date +%s.%N)
  DEMASK_HOME=$room/home DEMASK_DATA=$room ./target/release/demask eval arc-challenge:llada-base --no-store --json > "$room/result"
  "$python" - "$items" "$begun" "$(date +%s.%N)" <<'RATE'
import json, sys
items, begun, ended = map(float, sys.argv[1:])
print(json.dumps({"loop": "demask eval, start and loading included", "items": int(items), "items/s": round(items / (ended - begun), 3)}))
RATE
  "$python" tests/benches/eval_rate.py "$arc"
done
