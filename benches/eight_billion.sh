#!/usr/bin/env bash
# How fast the published 8B shape samples on this machine's GPU, with random weights, and how fast it is loaded:
#
#   benches/eight_billion.sh [FOLDER for 16.2 GB of weights, default a temporary one]
#
# On a machine without Rust: carry target/release/examples/eight_billion there and run it with LD_LIBRARY_PATH at PyTorch's lib.
# On a CPU, to see that it runs: target/release/examples/eight_billion --layers 1
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-$(mktemp -d)}
cargo build --release --quiet --workspace --examples
./target/release/examples/eight_billion --folder "$folder"
