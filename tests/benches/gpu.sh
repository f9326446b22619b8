#!/usr/bin/env bash
# Is Demask right on this machine's GPU, and how fast? One command, on a machine with PyTorch 2.11 and no Rust:
#
#   tests/benches/gpu.sh --pack FOLDER     here, with Rust: all that has to be carried, stripped, at most 30 MB (target/gpu, say)
#   FOLDER/gpu.sh [FLAGS]            there: doctor, recordings, tests, ranks on NCCL, the 8B shape, rollouts beside training, the
#                                    tabletop, a kill; a table and JSON
#   tests/benches/gpu.sh [FLAGS]     the same with what is built here
#
#   --device cuda:N|cpu   where (cuda:0)             --minutes N   for all of it (8); what does not fit is skipped
#   --small               a tiny shape, tiny recordings: to see that all of it runs, on a CPU too
#   --only NAME,...       these sections alone       --profile     also of what a step is made, kernel by kernel
#   --resume | --fresh    what is done with these programs on this device is not done again (as a rule) | is
#   --layers N            of the 8B shape, where there is less memory
#   --out FOLDER          results.jsonl, results.json, table.txt, profile.json, log.txt (gpu-results)
#   --programs FOLDER     where the programs are     --golden FOLDER   the recordings
#
# The sections come in the order of their worth (model/examples/gpu/sections.rs has the time that each is expected to
# need, together eight minutes, and its limit):
#   doctor, golden-f32, golden-bf16, cuda      is it right
#   world          every collective call of a world of one, on NCCL: values, streams, time
#   sharded-step   a training step of all weights of the 8B shape, block by block: tokens/s, share of the peak, memory beside the plan
#   forward, lora, qlora                       passes, adapters, adapters over NF4 and int8 (memory beside the plan)
#   peers          peers that never come, hang, leave, are killed or suspended: how long until that is noticed
#   beside         UniGRPO with a sampling engine beside the trainer on one device, against one engine in turn: steps/s, memory
#   ranks          the same run without ranks, with --ranks 1, and sharded: the hashes of the final weights
#   unigrpo        every kind of stage and UniGRPO steps, with the engine in its sandbox
#   picture, text, full-step, kill, loading, lora-long, tabletop, nccl, profile (on request)
# One GPU is enough. If there are two, peers and ranks also start two ranks, on cuda:0 and cuda:1; otherwise these figures are skipped.
#
# libtorch is LIBTORCH's, else that of the active Python's PyTorch, else the one that the programs were built with.
# Exit code: 0 nothing failed (slower than asked is a verdict, no failure), 1 something did, 2 wrong usage.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
most=30000000
names=(demask demask-engine gpu cuda)

usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" | sed '$d'; }

wrong() {
  echo "gpu.sh: $*; --help says how it is used" >&2
  exit 2
}

# Prints the newest build of tests/cuda.rs in a target folder of cargo.
built_tests() {
  local newest="" one
  for one in "$1"/deps/cuda-*; do
    [[ -f $one && -x $one && $one != *.d ]] || continue
    [[ -z $newest || $one -nt $newest ]] && newest=$one
  done
  echo "$newest"
}

# Prints the folder of recordings: those of the published code if available, else the small ones of the tests.
recordings() {
  local shared=${DEMASK_SHARED:-$here/../../../shared}
  if [[ -d $shared/golden && $1 != small ]]; then echo "$shared/golden"; else echo "$here/../../model/tests/fixtures"; fi
}

pack() {
  local folder=$1 root="$here/../.." set
  [[ -n $folder ]] || wrong "--pack needs a folder"
  [[ -f $root/Cargo.toml ]] || wrong "--pack works in the repository only"
  mkdir -p "$folder"
  folder="$(cd "$folder" && pwd)"
  cd "$root"
  cargo build --release --locked --workspace --bins --examples
  cargo test --release --locked --workspace --test cuda --no-run
  local built=${CARGO_TARGET_DIR:-target}/release
  work="$(mktemp -d)"
  trap 'rm -rf "$work"' EXIT
  mkdir -p "$work/bin" "$work/golden" "$work/shipped"
  strip -o "$work/bin/demask" "$built/demask"
  strip -o "$work/bin/demask-engine" "$built/demask-engine"
  strip -o "$work/bin/gpu" "$built/examples/gpu"
  strip -o "$work/bin/cuda" "$(built_tests "$built")"
  cp -r model/shipped/tabletop "$work/shipped/"
  for set in "$(recordings all)"/*/; do
    [[ -f $set/reference.safetensors ]] || continue
    mkdir -p "$work/golden/$(basename "$set")"
    cp "$set"/*.safetensors "$work/golden/$(basename "$set")/"
    if [[ -f $set/config.json ]]; then cp "$set/config.json" "$work/golden/$(basename "$set")/"; fi
  done
  chmod -R u+w "$work"
  # xz -9 has a dictionary that spans all programs, which share much code.
  tar -C "$work" -c bin shipped golden | xz -9 > "$folder/carried.tar.xz"
  cp tests/benches/gpu.sh "$folder/gpu.sh"
  local size
  size=$(du -sbL "$folder/carried.tar.xz" "$folder/gpu.sh" | awk '{ sum += $1 } END { print sum }')
  awk -v s="$size" -v f="$folder" 'BEGIN { printf "%s: %.1f MB to carry; there: FOLDER/gpu.sh\n", f, s / 1e6 }'
  ((size <= most)) || { echo "gpu.sh: more than $((most / 1000000)) MB" >&2; exit 1; }
}

# Unpacks the archive once, beside it or, where that folder is read-only, in a temporary folder, and prints the folder.
unpack() {
  local packed="$here/carried.tar.xz" to="$here"
  [[ -w $here ]] || to="${TMPDIR:-/tmp}/demask-gpu-$(id -u)"
  mkdir -p "$to"
  if [[ ! -f $to/unpacked || $packed -nt $to/unpacked ]]; then
    if command -v xz > /dev/null; then
      xz -dc "$packed" | tar -C "$to" -x
    else
      python3 -c 'import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])' "$packed" "$to"
    fi
    touch "$to/unpacked"
  fi
  echo "$to"
}

# Prints libtorch's lib folder: LIBTORCH's, else the active Python's. Prints nothing if only the programs know it.
torch_lib() {
  if [[ -n ${LIBTORCH:-} ]]; then
    echo "$LIBTORCH/lib"
    return
  fi
  local one
  for one in python3 python; do
    command -v "$one" > /dev/null || continue
    # PyTorch is located without importing it, which would take seconds.
    "$one" - <<'PYTHON' 2> /dev/null && return
import importlib.util, pathlib, re
folder = pathlib.Path(importlib.util.find_spec("torch").submodule_search_locations[0])
assert re.search(r"__version__ = .2\.11\.", (folder / "version.py").read_text())
print(folder / "lib")
PYTHON
  done
}

flags=() programs="" golden="" small="" out=""
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --pack)
      pack "${2:-}"
      exit 0
      ;;
    --small) small=small flags+=("$1") ;;
    --fresh | --resume | --profile) flags+=("$1") ;;
    --programs) programs=${2:-}; shift ;;
    --golden) golden=${2:-}; shift ;;
    --out) out=${2:-}; shift ;;
    --device | --only | --minutes | --layers)
      (($# > 1)) || wrong "$1 needs a value"
      flags+=("$1" "$2")
      shift
      ;;
    *) wrong "unknown flag $1" ;;
  esac
  shift || wrong "a flag needs a value"
done

if [[ -f $here/carried.tar.xz ]]; then
  base="$(unpack)"
  programs=${programs:-$base/bin} golden=${golden:-$base/golden} shipped=$base/shipped/tabletop
else
  programs=${programs:-$here/../../target/release} golden=${golden:-$(recordings "$small")}
  shipped=$here/../../model/shipped/tabletop
fi
[[ -d $programs ]] || wrong "no programs in $programs: build them, or --programs"
programs="$(cd "$programs" && pwd)"
gpu=$programs/gpu tests=$programs/cuda
if [[ -f $programs/examples/gpu ]]; then gpu=$programs/examples/gpu tests="$(built_tests "$programs")"; fi
for name in "${names[@]:0:2}"; do [[ -x $programs/$name ]] || wrong "no $name in $programs: build it"; done
[[ -x $gpu ]] || wrong "no $gpu: build the examples"

lib="$(torch_lib)"
if [[ -n $lib ]]; then
  [[ -f $lib/libtorch_cpu.so ]] || wrong "no libtorch_cpu.so in $lib"
  # In a pip installation, CUDA's libraries are in packages beside PyTorch.
  for folder in "$lib"/../../nvidia/*/lib; do if [[ -d $folder ]]; then lib="$lib:$(cd "$folder" && pwd)"; fi; done
  export LD_LIBRARY_PATH="$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
elif ldd "$gpu" | grep -q "not found"; then
  wrong "no libtorch 2.11 here: activate a Python that has PyTorch 2.11, or let LIBTORCH name its folder torch"
fi
mkdir -p "${out:=gpu-results}" || wrong "--out $out cannot be made"
if [[ -n $tests ]]; then flags+=(--tests "$tests"); fi
exec "$gpu" run "${flags[@]}" --programs "$programs" --golden "$(cd "$golden" && pwd)" --shipped "$(cd "$shipped" && pwd)" \
  --out "$(cd "$out" && pwd)"
