#!/usr/bin/env bash
# Measures what an external reward adds to a UniGRPO step: exact match in Python against the built-in `correct`,
# alternating, on a network too small to take noticeable time. Prints the median seconds that a step spends on sampling
# and scoring, and the difference in milliseconds.
#
#   tests/benches/reward_rate.sh [ROUNDS] [STEPS]     run it on a quiet machine
set -euo pipefail
cd "$(dirname "$0")/../.."
rounds=${1:-5} steps=${2:-40}
cargo build --release --quiet --locked --workspace --bins
home=$(mktemp -d)
trap './target/release/demask --home "$home" daemon stop >/dev/null 2>&1 || true; rm -rf "$home"' EXIT
example=actors/examples/rewards/exact-match.toml
# 8 prompts with 8 samples each.
small=(--set stage.unigrpo.steps="$steps" --set stage.unigrpo.batch=8 --set stage.unigrpo.group=8)
run() {
  ./target/release/demask --home "$home" run --headless --from-scratch --profile "$example" "${small[@]}" "$@" >/dev/null
  ./target/release/demask --home "$home" query --format csv --limit 0 \
    "SELECT value FROM v_metric WHERE name = 'rate/rollout_seconds' AND run = (SELECT max(run) FROM v_run) ORDER BY value" |
    tail -n +2 | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
for round in $(seq "$rounds"); do
  theirs=$(run --set rewards.exact=2)
  ours=$(run --set rewards.exact=0 --set rewards.correct=2)
  awk -v r="$round" -v t="$theirs" -v o="$ours" 'BEGIN {
    printf "round %d: built-in %.1f ms a step of 64 completions, in Python %.1f ms, between %.2f ms\n", r, 1000 * o, 1000 * t, 1000 * (t - o) }'
done | tee >(awk '{ print $(NF - 1) }' | sort -n | awk '{ v[NR] = $1 } END { print "median between " v[int((NR + 1) / 2)] " ms" }')
