#!/bin/sh
# Storms: `kill -9`, SIGSTOP and full disks hit runs, queues and evaluations at pseudo-random moments. Nothing
# acknowledged may be lost, and everything must end with the weights, losses and rows of an undisturbed run (laws L1,
# L8, L10). For `queue` and `stop` only the weights are compared, for `evaluation` the printed output.
#
#     tests/benches/kills.sh [--seed N] [--first ROUND] [KIND[=COUNT]...]
#
# Without a kind, runs of kind `plain` are attacked fifty times. `kills.sh --help` lists the kinds. A failed round is
# reported with its number and can be repeated with `--seed SEED --first NUMBER KIND=1`.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins --examples
[ $# -gt 0 ] || set -- plain=50
exec target/release/examples/storms "$@"
