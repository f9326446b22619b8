//! Walking the lineage (law L5): from what was trained on to its source, generator, verifier and score.

use demask_storage::Command;

/// The column that marks an answer as the list of sequences.
pub const LIST: &str = "lineage";
/// The column that marks an answer as one sequence's story.
pub const STORY: &str = "story";

/// Whether these are the columns of an answer to the dashboard's own questions.
#[must_use]
pub fn is_own(columns: &[String]) -> bool {
    columns
        .first()
        .is_some_and(|column| column == LIST || column == STORY)
}

/// The row of a story that names what the sequence was made from.
pub const PARENT: &str = "parent";

/// What the present run, or else the newest, was trained on, newest first.
#[must_use]
pub fn list() -> Command {
    Command::Query {
        sql: format!(
            "SELECT subject AS {LIST}, step, stage, source, generator, verifier, round(score, 3) AS score \
             FROM v_lineage WHERE run = (SELECT run FROM v_run ORDER BY status = 'running' DESC, started_us DESC LIMIT 1) \
             ORDER BY step DESC, subject LIMIT 200"
        ),
        limit: 200,
    }
}

/// All that the store knows of one sequence, as pairs.
#[must_use]
pub fn story(subject: &str) -> Command {
    let quoted = subject.replace('\'', "''");
    let of = |view: &str, key: &str, columns: &[&str]| {
        columns
            .iter()
            .map(|column| {
                format!(
                    "SELECT '{column}' AS {STORY}, (SELECT cast({column} AS TEXT) FROM {view} WHERE {key} = '{quoted}' \
                     LIMIT 1) AS value"
                )
            })
            .collect::<Vec<_>>()
    };
    let mut parts = vec![format!("SELECT 'sequence' AS {STORY}, '{quoted}' AS value")];
    parts.extend(of(
        "v_lineage",
        "subject",
        &["source", "generator", "verifier", "score"],
    ));
    parts.extend(of(
        "v_rollout",
        "sample",
        &["prompt", "text", "parts", "total", "advantage"],
    ));
    parts.extend(of("v_trace", "trace", &["round", "prompt", "text"]));
    parts.push(format!(
        "SELECT '{PARENT}', coalesce((SELECT example FROM v_rollout WHERE sample = '{quoted}' LIMIT 1), \
         (SELECT example FROM v_trace WHERE trace = '{quoted}' LIMIT 1))"
    ));
    parts.push(format!(
        "SELECT 'uses', (SELECT count(*) || ' times, last at step ' || max(step) FROM v_lineage WHERE subject = '{quoted}')"
    ));
    parts.push(format!(
        "SELECT 'checkpoint', (SELECT path FROM v_checkpoint WHERE 'weights:' || weights = \
         (SELECT generator FROM v_lineage WHERE subject = '{quoted}' LIMIT 1) LIMIT 1)"
    ));
    Command::Query {
        sql: format!(
            "SELECT * FROM ({}) WHERE value IS NOT NULL",
            parts.join(" UNION ALL ")
        ),
        limit: 50,
    }
}
