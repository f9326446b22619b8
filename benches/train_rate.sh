#!/usr/bin/env bash
# Training tokens a second of Demask and of eager PyTorch, the same shape, in turn, and the ratio of each pair.
#
#   benches/train_rate.sh [ROUNDS] [THREADS]      needs a `python3` (or $PYTHON) that has PyTorch; run it on a quiet machine
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=${1:-5} threads=${2:-2} python=${PYTHON:-python3}
cargo build --release --quiet -p demask-model --example train_rate
rate() { sed 's/.*"tokens_per_s": \([0-9]*\).*/\1/'; }
for round in $(seq "$rounds"); do
  theirs=$("$python" benches/train_rate.py --steps 15 --dtype bf16 --threads "$threads" | rate)
  line=$(./target/release/examples/train_rate 15 "$threads")
  ours=$(rate <<<"$line")
  share=$(sed 's/.*"share": \([0-9.]*\).*/\1/' <<<"$line")
  awk -v r="$round" -v o="$ours" -v t="$theirs" -v s="$share" \
    'BEGIN { printf "round %d: demask %d, eager PyTorch %d, ratio %.2f, share of the matrix-product rate %.2f\n", r, o, t, o / t, s }'
done | tee >(awk '{ gsub(",", ""); print $9 }' | sort -n | awk '{ v[NR] = $1 } END { print "median ratio " v[int((NR + 1) / 2)] }')
