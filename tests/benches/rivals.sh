#!/usr/bin/env bash
# Compares Demask with PyTorch implementations, alternating, on the same weights and settings: ratios of speed, memory,
# and whether the tokens are equal.
#
#   tests/benches/rivals.sh [ROUNDS, default 5]      a quiet machine, $PYTHON (default python3) with PyTorch 2.11 and safetensors
#   ONLY=REGEX    run only these cases         THREADS=N       threads of each program; default: one per processor
#   DTYPE=f32|bf16   default: what the machine supports best   OUT=FILE   file for the JSON lines (rivals.jsonl)
#
# llada: LLaDA's published loop, with logits at every position and the softmax in f64.
# plain: the same tokens, with the output head computed only at the masked positions of the block.
# prefix, dual: Fast-dLLM's caches with a threshold of 0.9, block by block, as TextCache::Prefix and Dual{refresh:1,
# vicinity:0}.
# mmada: MMaDA's published image loop, with guidance. maskgit: the same with logits of the image only.
# Training: eager (output head at masked positions, as in Demask), published (output head at all positions), compile
# (torch.compile).
#
# Each number is measured in a process of its own after a warm-up. A ratio is computed per round, and the median is
# printed.
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} python=${PYTHON:-python3} threads=${THREADS:-$(nproc)} dtype=${DTYPE:-auto} out=${OUT:-rivals.jsonl}
[[ $rounds =~ ^[1-9][0-9]*$ ]] || { echo "rivals.sh: $rounds: expected a number of rounds, at least 1" >&2; exit 2; }
"$python" -c 'import torch, safetensors' || { echo "rivals.sh: $python: expected PyTorch and safetensors; PYTHON names another" >&2; exit 2; }
cargo build --release --quiet --locked --workspace --bins --examples
programs=${CARGO_TARGET_DIR:-target}/release/examples
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
tabletop=model/shipped/tabletop d512=$work/d512
wide=(--width 512 --layers 8 --heads 8 --hidden 1408 --vocabulary 32000 --length 256)
"$programs/random_folder" "$d512" "${wide[@]}"
machine=(--threads "$threads" --dtype "$dtype")
: > "$out"

# Prefixes a program's JSON line with its case and round.
note() { sed "s/^{/{\"case\": \"$1\", \"round\": $2, /" >> "$out"; }

wanted() { [[ $1 =~ ${ONLY:-.} ]]; }

# NAME FOLDER LOOP PROMPT LENGTH BLOCK BATCH REPEATS
sample() {
  local name="$1 $3, blocks of $6, batch $7" sampler
  [[ $3 != mmada && $3 != maskgit ]] || name="$1 pictures, $3, $6 steps, batch $7"
  wanted "$name" || return 0
  local commit='"commit":{"rule":"threshold","threshold":0.9}' cache
  case $3 in
    prefix) cache='"cache":{"keep":"prefix"},'$commit ;;
    dual) cache='"cache":{"keep":"dual","refresh":1,"vicinity":0},'$commit ;;
    *) cache='"cache":{"keep":"none"}' ;;
  esac
  sampler="{\"steps\":0,\"block\":$6,\"end\":{\"when\":\"never\"},$cache}"
  [[ $3 != mmada && $3 != maskgit ]] || sampler="{\"image\":{\"steps\":$6,\"guidance\":1.0}}"
  local sizes=(--prompt "$4" --length "$5" --batch "$7" --rounds "$8" "${machine[@]}")
  echo "$name" >&2
  for round in $(seq "$rounds"); do
    "$programs/sample_rate" folder "$2" "${sizes[@]}" "$sampler" | note "$name" "$round"
    "$python" tests/benches/sample_rate.py "$2" --loop "$3" --block "$6" "${sizes[@]}" | note "$name" "$round"
  done
}

# NAME WAY STEPS ROWS SHAPE…
train() {
  local name="training $1, $2" way=$2 code=0
  wanted "$name" || return 0
  local sizes=(--steps "$3" --rows "$4" "${machine[@]}" "${@:5}")
  echo "$name" >&2
  for round in $(seq "$rounds"); do
    # PyTorch runs first, so that no line of Demask is recorded where torch.compile has no compiler.
    "$python" tests/benches/train_rate.py --way "$way" "${sizes[@]}" > "$work/line" || code=$?
    if ((code == 3)); then echo "$name: left out, no C++ compiler" >&2; return 0; fi
    ((code == 0)) || return "$code"
    "$programs/train_rate" "${sizes[@]}" | note "$name" "$round"
    note "$name" "$round" < "$work/line"
  done
}

"$python" tests/benches/rivals/table.py --machine
sample tabletop "$tabletop" llada 32 64 8 1 3
sample tabletop "$tabletop" llada 32 64 8 16 1
sample tabletop "$tabletop" plain 32 64 8 1 3
sample tabletop "$tabletop" plain 32 64 8 16 1
sample tabletop "$tabletop" prefix 32 64 8 1 5
sample tabletop "$tabletop" dual 32 64 8 1 5
sample tabletop "$tabletop" dual 32 64 32 1 5
sample tabletop "$tabletop" dual 32 64 32 16 2
for loop in mmada maskgit; do
  sample tabletop "$tabletop" "$loop" 32 16 16 1 10
  sample tabletop "$tabletop" "$loop" 32 16 16 16 3
done
sample "d 512" "$d512" llada 128 128 32 1 1
sample "d 512" "$d512" prefix 128 128 32 1 1
sample "d 512" "$d512" dual 128 128 32 1 1
sample "d 512" "$d512" dual 128 128 32 16 1
for way in published eager compile; do train tabletop "$way" 15 32; done
for way in published eager compile; do train "d 512" "$way" 5 8 "${wide[@]}"; done
"$python" tests/benches/rivals/table.py "$out"
