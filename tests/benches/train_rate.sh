#!/usr/bin/env bash
# Compares training tokens per second of Demask and of eager PyTorch with the same shape, alternating, and prints the
# ratio of each pair.
#
#   tests/benches/train_rate.sh [ROUNDS] [THREADS] [SHAPE…]     $PYTHON (default python3) has PyTorch; run it on a quiet machine
#
# SHAPE: --width N --layers N --heads N --hidden N --vocabulary N --length N --rows N, --dtype f32|bf16. WAY=eager
# computes the output head at masked positions only, as Demask does; WAY=published at all positions; WAY=compile uses
# torch.compile. tests/benches/rivals.sh runs all of these.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} threads=${2:-2} python=${PYTHON:-python3}
shape=("${@:3}")
cargo build --release --quiet --locked --workspace --bins --examples
rate() { sed 's/.*"tokens_per_s": *\([0-9]*\).*/\1/'; }
for round in $(seq "$rounds"); do
  theirs=$("$python" tests/benches/train_rate.py --way "${WAY:-eager}" --steps 15 --threads "$threads" "${shape[@]}" | rate)
  line=$(./target/release/examples/train_rate --steps 15 --threads "$threads" "${shape[@]}")
  ours=$(rate <<<"$line")
  share=$(sed 's/.*"share": *\([0-9.]*\).*/\1/' <<<"$line")
  dtype=$(sed 's/.*"dtype": *"\([a-z0-9]*\)".*/\1/' <<<"$line")
  awk -v r="$round" -v o="$ours" -v t="$theirs" -v s="$share" -v d="$dtype" -v w="${WAY:-eager}" \
    'BEGIN { printf "round %d: %s, demask %d, PyTorch (%s) %d, share of the matrix-product rate %.2f, ratio %.2f\n", r, d, o, w, t, s, o / t }'
done | tee >(awk '{ print $NF }' | sort -n | awk '{ v[NR] = $1 } END { print "median ratio " v[int((NR + 1) / 2)] }')
