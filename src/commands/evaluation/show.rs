//! `demask eval show` and `demask eval history`: the items of an evaluation, and the list of evaluations.

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::{EvalItem, query};

use super::subject::Subject;
use crate::args::EvalShow;
use crate::terminal::print;

/// Prints items; with `--json` one line of JSON per item.
///
/// # Errors
/// An error if there is no such evaluation.
pub fn show(home: &Home, options: &EvalShow) -> anyhow::Result<ExitCode> {
    let subject = Subject::find(home, &options.evaluation)?;
    let wanted = |item: &&EvalItem| {
        options.suite.as_ref().is_none_or(|suite| *suite == item.suite)
            && (!options.wrong || item.credit < 1.0)
    };
    let all: Vec<&EvalItem> = subject.items.iter().filter(wanted).collect();
    let limit = if options.limit == 0 {
        all.len()
    } else {
        options.limit
    };
    if options.output.json {
        for item in all.iter().take(limit) {
            println!("{}", serde_json::to_string(item)?);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = all.iter().take(limit).map(|item| row(item)).collect();
    print::table(
        &["suite", "item", "asked", "answer", "right answer", "credit"],
        &rows,
    )?;
    let which = if options.wrong { " that are not right" } else { "" };
    print::note(&format!(
        "{} of {} items{which} of {}; --json and the view v_item have every field",
        rows.len(),
        all.len(),
        subject.name()
    ));
    Ok(ExitCode::SUCCESS)
}

fn row(item: &EvalItem) -> Vec<String> {
    vec![
        item.suite.clone(),
        item.number.to_string(),
        print::short(&item.prompt),
        print::short(&item.answer),
        print::short(&item.reference),
        match item.counted {
            true => item.credit.to_string(),
            false => format!("{} (held out)", item.credit),
        },
    ]
}

/// Lists the evaluations of `demask eval` and those of runs, newest first.
///
/// # Errors
/// An error if there is no store.
pub fn history(home: &Home, json: bool) -> anyhow::Result<ExitCode> {
    let sql = "SELECT eval.run AS evaluation, eval.step, coalesce(evaluation.state, '') AS state, eval.suite,
               printf('%.1f', 100.0 * eval.value) AS percent, eval.n, eval.checkpoint,
               datetime(eval.at_us / 1000000, 'unixepoch') AS at
               FROM v_eval AS eval LEFT JOIN v_evaluation AS evaluation ON evaluation.run = eval.run
               UNION ALL SELECT run, 0, state, suites, NULL, (SELECT count(*) FROM v_item WHERE v_item.run = v_evaluation.run),
               checkpoint, datetime(started_us / 1000000, 'unixepoch') FROM v_evaluation WHERE state = 'running'
               ORDER BY at DESC";
    let rows = query::query(&home.database(), sql, 0)?;
    let format = if json {
        query::Format::Json
    } else {
        query::Format::Table
    };
    print!("{}", rows.print(format));
    if rows.rows.is_empty() && !json {
        print::note("there is no evaluation yet; `demask eval SUITE` runs one");
    }
    Ok(ExitCode::SUCCESS)
}
