#!/usr/bin/env bash
# Measures the dashboard's frame time on a store of many runs: each screen is drawn at 200 x 50, and the time in which
# the store answers the screen's queries is measured too.
#
#   tests/benches/frames.sh [RUNS] [METRIC ROWS]     200 runs and 10 000 000 rows; the store takes about 1.2 GB below TMPDIR
set -euo pipefail
cd "$(dirname "$0")/../.."
runs=${1:-200} rows=${2:-10000000}
cargo build --release --quiet --locked --workspace --examples
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
./target/release/examples/fill "$home/demask.db" "$rows" "$runs"
./target/release/examples/frames "$home/demask.db"
