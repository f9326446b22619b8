#!/bin/sh
# Storms: `kill -9`, SIGSTOP and full disks against runs, queues and evaluations at pseudo-random moments. Nothing acknowledged may
# be lost, and all must end in the weights, losses and rows of a run that nobody disturbed (laws L1, L8, L10); of `queue` and `stop`
# the weights are compared, of `evaluation` what is printed.
#
#     tests/benches/kills.sh [--seed N] [--first ROUND] [KIND[=COUNT]...]
#
# Without a kind: fifty of the plain one. `kills.sh --help` lists the kinds; a failed round is told with its number, and done again
# with `--seed SEED --first NUMBER KIND=1`.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --locked --workspace --bins --examples
[ $# -gt 0 ] || set -- plain=50
exec target/release/examples/storms "$@"
