#!/bin/sh
# `kill -9` of the daemon and of its engine, in turn, at pseudo-random moments of smoke runs: nothing acknowledged may be
# lost, every run must go on, and end in the weights, losses and rows of a run that nobody killed (laws L1 and L8).
#
#     tests/benches/kills.sh [KILLS, default 50] [SEED, default 1]
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --workspace --bins
DEMASK_KILLS="${1:-50}" DEMASK_KILL_SEED="${2:-1}" \
    cargo test --release --workspace --test programs -- --exact --nocapture \
    runs::crash::l1_l8_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one
