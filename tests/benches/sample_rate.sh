#!/usr/bin/env bash
# Measures samples per second and the share of right answers, for several samplers of the shipped model in turn, on a
# quiet machine:
#
#   tests/benches/sample_rate.sh [ITEMS, default 256]
#
# 1. Word problems with answers of 64 tokens: the plain sampler (a full forward pass and one token per step, with the
#    horizon that this model needs for answers longer than it was trained on) against thresholds and caches, 1 and 16
#    rows at a time.
# 2. Images: plain MaskGIT against the same with confident codes accepted at once, and with surprises first.
# 3. The plain sampler against LLaDA's loop in eager PyTorch, alternating, on the same prompts ($PYTHON, default
#    python3, with PyTorch and safetensors). tests/benches/rivals.sh has the other rivals, with memory and medians.
set -euo pipefail
cd "$(dirname "$0")/../.."
items=${1:-256} python=${PYTHON:-python3}
cargo build --release --quiet --locked --workspace --bins --examples
rate=./target/release/examples/sample_rate

plain='{"text":{"steps":0,"block":4,"end":{"when":"never"},"horizon":32}}'
sure='"block":8,"commit":{"rule":"threshold","threshold":0.98},"end":{"when":"token","threshold":0.5},"horizon":12'
echo "word problems, answers of 64 tokens; the last is the shipped model's own sampler"
"$rate" tabletop-sums "$items" 1,16 64 "$plain" "{\"text\":{$sure}}" \
  "{\"text\":{$sure,\"cache\":{\"keep\":\"dual\",\"refresh\":1,\"vicinity\":4}}}" \
  "{\"text\":{$sure,\"cache\":{\"keep\":\"dual\",\"refresh\":16,\"vicinity\":4}}}"

echo "pictures; the third is the shipped model's own sampler"
"$rate" tabletop-draw "$items" 1,16 0 '{"image":{"steps":16,"guidance":1.0}}' \
  '{"image":{"steps":16,"guidance":1.0,"temperature":0.0,"accept":0.9}}' \
  '{"image":{"steps":16,"guidance":0.6,"temperature":0.0,"accept":0.93,"surprise":0.03}}' \
  '{"image":{"steps":16,"guidance":0.6,"temperature":0.0,"accept":0.9,"surprise":0.02}}'

echo "the plain sampler and eager PyTorch, in turn"
whole='{"steps":0,"block":4,"end":{"when":"never"}}'
for batch in 1 16; do for _ in 1 2 3; do
  sizes=(--prompt 34 --length 64 --batch "$batch" --rounds $(( batch == 1 ? 6 : 2 )))
  "$rate" folder model/shipped/tabletop "${sizes[@]}" "$whole"
  "$python" tests/benches/sample_rate.py model/shipped/tabletop --block 4 "${sizes[@]}"
done; done
