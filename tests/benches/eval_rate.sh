#!/usr/bin/env bash
# Compares the speed of evaluation by log-likelihoods: `demask eval arc-challenge:llada-base` against lm-eval's method
# in eager PyTorch, alternating, with the shipped model on the same made-up rows in ARC's format. $PYTHON (default
# python3) needs PyTorch and safetensors. `published` is the same estimator as lm-eval's (128 draws). `reduced` has the
# same standard error with 24 draws (LOG.md).
#
#   tests/benches/eval_rate.sh [ITEMS, default 60] [TIMES, default 3]
set -euo pipefail
cd "$(dirname "$0")/../.."
items=${1:-60} times=${2:-3} python=${PYTHON:-python3}
[ -n "${DEMASK:-}" ] || cargo build --release --quiet --locked --workspace --bins
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
# Prints the seconds that the whole evaluation of the first items takes.
took() {
  local begun ended
  begun=$(date +%s.%N)
  DEMASK_HOME=$room/home DEMASK_DATA=$room ${DEMASK:-./target/release/demask} eval arc-challenge:llada-base --no-store --json \
    --limit "$1" --likelihood "$2" > "$room/result"
  ended=$(date +%s.%N)
  echo "$begun $ended" | awk '{ print $2 - $1 }'
}
for _ in $(seq "$times"); do
  for way in published reduced; do
    one=$(took 1 "$way") all=$(took "$items" "$way")
    echo "$items $one $all" | awk -v way="$way" '{
      printf "{\"loop\": \"demask eval, %s\", \"items\": %d, \"items/s\": %.3f, \"items/s, start and loading included\": %.3f}\n",
        way, $1, ($1 - 1) / ($3 - $2), $1 / $3 }'
  done
  "$python" tests/benches/eval_rate.py "$arc"
done
