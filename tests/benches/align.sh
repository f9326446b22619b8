#!/usr/bin/env bash
# Measures what UniGRPO gains from the shipped, fine-tuned model: the benchmarks before and after, for three seeds
# (about 12 minutes each on two cores).
#
#   make build && tests/benches/align.sh [SEED]...   PROFILE=FILE.toml selects another profile than tabletop-align
set -euo pipefail
cd "$(dirname "$0")/../.."
for seed in "${@:-1 2 3}"; do for one in $seed; do
  home="${TMPDIR:-/tmp}/demask-align-$one"
  rm -rf "$home"
  export DEMASK_HOME="$home"
  start=$(date +%s)
  ./target/release/demask run --profile "${PROFILE:-actors/profiles/tabletop-align.toml}" --headless --set seed="$one" > "$home.log" 2>&1
  echo "seed $one, $(( $(date +%s) - start )) s with both benchmarks"
  ./target/release/demask query "SELECT suite, step, round(value, 3) AS value, round(low, 3) AS low, round(high, 3) AS high, n FROM v_eval ORDER BY suite, step"
  ./target/release/demask query "SELECT name, round(avg(CASE WHEN step <= 10 THEN value END), 3) AS first, round(avg(CASE WHEN step > (SELECT max(step) FROM v_metric) - 10 THEN value END), 3) AS last FROM v_metric WHERE name LIKE 'reward/%' GROUP BY name"
  ./target/release/demask daemon stop > /dev/null
done; done
