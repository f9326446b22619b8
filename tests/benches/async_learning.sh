#!/usr/bin/env bash
# Measures what UniGRPO learns when rollouts are drawn beside training: samplers off, `exact` with staleness 1, `freshest` with staleness 2,
# by seeds. Prints, for each, the mean reward of the last tenth of the steps and the benchmarks after them: mean over the seeds with its
# 95 % interval (Student's t), and the paired difference from samplers off; then the reward of the first three steps.
#
#   make build && tests/benches/async_learning.sh     about 3 minutes a run on two cores, nine runs
#
# SEEDS, STEPS, BATCH and LIMIT change the sizes; HOME_DIR keeps the runs, and what is done there is not done again.
set -euo pipefail
cd "$(dirname "$0")/../.."
seeds="${SEEDS:-1, 2, 3}"
steps="${STEPS:-30}"
home="${HOME_DIR:-$(mktemp -d)}"
demask="$PWD/target/release/demask"
export DEMASK_HOME="$home/home"
mkdir -p "$home"
python3 - "$home/align.toml" <<'PY'
import sys
from pathlib import Path

head, *stages = Path("actors/profiles/tabletop-align.toml").read_text().split("[[stage]]")
wanted = [stage for stage in stages if 'kind = "align"' in stage or 'name = "after"' in stage]
Path(sys.argv[1]).write_text("[[stage]]".join([head, *wanted]))
PY
cat > "$home/async_learning.toml" <<TOML
profile = "align.toml"
seeds = [$seeds]
metrics = ["reward/*", "eval/*"]
value = "tail"

[set]
"stage.unigrpo.steps" = $steps
"stage.unigrpo.batch" = ${BATCH:-12}
"stage.unigrpo.resample" = 0
"stage.unigrpo.warmup" = 4
"stage.unigrpo.learning_rate" = 2e-4
"stage.after.limit" = ${LIMIT:-160}

[[setting]]
name = "samplers off"
set = { "engine.threads" = 2 }

[[setting]]
name = "exact, staleness 1"
set = { "engine.threads" = 1, "rollouts.samplers" = 1, "rollouts.staleness" = 1, "rollouts.threads" = 1 }

[[setting]]
name = "freshest, up to 2"
set = { "engine.threads" = 1, "rollouts.samplers" = 1, "rollouts.staleness" = 2, "rollouts.threads" = 1, "rollouts.mode" = "freshest" }
TOML
trap '"$demask" daemon stop > /dev/null 2>&1 || true' EXIT
"$demask" study "$home/async_learning.toml" > "$home/study.log"
"$demask" study show "$home/async_learning.toml"
"$demask" query "SELECT substr(v_run.name, instr(v_run.name, ' ') + 1) AS run, round(avg(CASE WHEN v_metric.step < 3 THEN value END), 3) AS first_reward,
  round(avg(CASE WHEN v_metric.step >= $((steps - (steps + 9) / 10)) THEN value END), 3) AS last_reward
  FROM v_metric JOIN v_run USING (run) WHERE v_metric.name = 'reward/total' GROUP BY 1 ORDER BY 1"
"$demask" query "SELECT name, round(avg(value), 4) AS mean, round(max(value), 4) AS highest FROM v_metric WHERE name LIKE 'async/%' GROUP BY name"
echo "the runs are in $DEMASK_HOME"
