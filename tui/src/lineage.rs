//! The queries of the lineage (law L5). They lead from a trained sequence to its text and picture, its source and row,
//! its generator and judge, the step that trained on it, and the benchmark results around that step.

use demask_storage::Command;
use demask_storage::query::curves::quoted;

/// The column that marks a result as the list of sequences.
pub const LIST: &str = "lineage";
/// The column that marks a result as the story of one sequence.
pub const STORY: &str = "story";
/// The row of a story that names the sequence from which this one was made.
pub const PARENT: &str = "parent";
/// The rows of a story that name pictures.
pub const PICTURES: [&str; 2] = ["picture", "asked about"];

/// Queries what a run was trained on, newest first. An empty name means the current run, else the newest.
#[must_use]
pub fn list(run: &str) -> Command {
    let run = match run {
        "" => "(SELECT run FROM v_run ORDER BY status = 'running' DESC, started_us DESC LIMIT 1)".to_owned(),
        named => quoted(named),
    };
    Command::Query {
        sql: format!(
            "SELECT subject AS {LIST}, step, stage, source, verifier, round(score, 3) AS score, replace(text, char(10), ' ') AS text \
             FROM v_lineage WHERE run = {run} ORDER BY step DESC, subject LIMIT 200"
        ),
        limit: 200,
    }
}

/// Queries everything that the store knows about one sequence, as pairs; `run` is the run whose training is described.
#[must_use]
pub fn story(run: &str, subject: &str) -> Command {
    let (id, run) = (quoted(subject), quoted(run));
    let mut parts = vec![pair("sequence", &id)];
    parts.extend(content(&id));
    parts.extend(origin(&id));
    parts.extend(judgement(&id));
    parts.push(pair(
        PARENT,
        &format!(
            "coalesce((SELECT example FROM v_rollout WHERE sample = {id} LIMIT 1), \
             (SELECT example FROM v_trace WHERE trace = {id} LIMIT 1))"
        ),
    ));
    parts.extend(training(&run, &id));
    Command::Query {
        sql: format!(
            "SELECT * FROM ({}) WHERE value IS NOT NULL AND value <> ''",
            parts.join(" UNION ALL ")
        ),
        limit: 50,
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("SELECT '{name}' AS {STORY}, cast({value} AS TEXT) AS value")
}

/// Queries its text and pictures.
fn content(id: &str) -> [String; 5] {
    let rollout = |column: &str| format!("(SELECT {column} FROM v_rollout WHERE sample = {id})");
    let example = |column: &str| format!("(SELECT {column} FROM example WHERE id = {id})");
    let trace = |column: &str| format!("(SELECT {column} FROM v_trace WHERE trace = {id} LIMIT 1)");
    [
        pair("text", &example("text")),
        pair(
            "prompt",
            &format!("coalesce({}, {})", rollout("prompt"), trace("prompt")),
        ),
        pair(
            "answer",
            &format!("coalesce({}, {})", rollout("text"), trace("text")),
        ),
        pair(
            PICTURES[0],
            &format!("coalesce({}, {})", example("picture"), rollout("picture")),
        ),
        pair(PICTURES[1], &rollout("asked")),
    ]
}

/// Queries its source and generator.
fn origin(id: &str) -> [String; 2] {
    [
        pair(
            "source",
            &format!(
                "(SELECT source || CASE place WHEN '' THEN '' ELSE ', ' || place END || ', licence ' || licence FROM example WHERE id = {id})"
            ),
        ),
        pair(
            "made by",
            &format!(
                "(SELECT generator || coalesce(' (' || (SELECT path FROM v_checkpoint WHERE v_checkpoint.run = made.run AND \
                 'weights:' || weights = generator LIMIT 1) || ')', '') FROM (\
                 SELECT run, generator FROM v_trace WHERE trace = {id} UNION ALL \
                 SELECT run, 'weights:' || weights FROM v_rollout WHERE sample = {id} UNION ALL \
                 SELECT run, nullif(generator, 'none') FROM example WHERE id = {id}) AS made LIMIT 1)"
            ),
        ),
    ]
}

/// Queries its judge and verdicts.
fn judgement(id: &str) -> [String; 4] {
    [
        pair(
            "right",
            &format!("(SELECT reference FROM v_rollout WHERE sample = {id})"),
        ),
        pair(
            "rewards",
            &format!(
                "(SELECT group_concat(name || ' ' || round(value, 3) || ' × ' || weight, ' + ') || ' = ' || \
                 (SELECT round(total, 3) || ', advantage ' || round(advantage, 3) FROM v_rollout WHERE sample = {id}) \
                 FROM v_reward WHERE sample = {id})"
            ),
        ),
        pair(
            "verified",
            &format!(
                "(SELECT verifier || ', score ' || round(score, 3) FROM example WHERE id = {id} AND verifier <> 'source')"
            ),
        ),
        pair(
            "gates",
            &format!(
                "(SELECT group_concat(gate || CASE WHEN passed THEN ' passed' ELSE ' rejected: ' || reason END, ', ') FROM \
                 (SELECT DISTINCT gate, passed, reason FROM v_trace WHERE trace = {id} AND gate IS NOT NULL))"
            ),
        ),
    ]
}

/// Queries the steps that trained on it, and each benchmark's results before and after.
fn training(run: &str, id: &str) -> [String; 2] {
    let used = format!("FROM v_lineage WHERE subject = {id} AND run = {run}");
    let of = |order: &str| {
        format!(
            "(SELECT printf('%.1f %% at step %d', 100.0 * value, step) FROM v_eval AS one WHERE one.run = {run} AND \
             one.suite = measured.suite AND {order} LIMIT 1)"
        )
    };
    let before = of(&format!(
        "one.step <= (SELECT min(step) {used}) ORDER BY one.step DESC"
    ));
    let after = of(&format!("one.step > (SELECT max(step) {used}) ORDER BY one.step"));
    [
        pair(
            "trained",
            &format!(
                "(SELECT group_concat(stage || CASE times WHEN 1 THEN ', step ' || last ELSE ', ' || times || ' times, steps ' || \
                 first || ' to ' || last END, '; ') FROM (SELECT stage, count(*) AS times, min(step) AS first, max(step) AS last \
                 {used} GROUP BY stage))"
            ),
        ),
        pair(
            "benchmarks",
            &format!(
                "(SELECT group_concat(suite || ' ' || coalesce({before}, 'not measured') || ' before, ' || \
                 coalesce({after}, 'not measured') || ' after', '; ') FROM (SELECT DISTINCT suite FROM v_eval WHERE run = {run}) \
                 AS measured WHERE EXISTS (SELECT 1 {used}))"
            ),
        ),
    ]
}
