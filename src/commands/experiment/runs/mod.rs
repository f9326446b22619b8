//! `demask runs`: lists, shows and compares two runs. `compare.rs` compares several side by side, `edit.rs` changes
//! labels, and `series.rs` summarizes a value of a run.

mod compare;
mod edit;
pub mod series;

use std::collections::BTreeMap;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::query::{self, Rows};
use demask_storage::{runs::find, store};
use serde_json::{Value, json};

use crate::args::Runs;
use crate::terminal::print;

/// Runs the subcommand of `demask runs`.
///
/// # Errors
/// An error if there is no store or no such run.
pub fn runs(home: &Home, options: Runs) -> anyhow::Result<ExitCode> {
    match options {
        Runs::List { tags, output } => list(home, &tags, output.json),
        Runs::Show { run, output } => show(home, &run, output.json),
        Runs::Diff { a, b, output } => diff(home, &a, &b, output.json),
        Runs::Compare(options) => compare::compare(home, &options),
        Runs::Edit(options) => edit::edit(home, &options),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn rows(home: &Home, sql: &str) -> anyhow::Result<Rows> {
    Ok(query::query(&home.database(), sql, 0)?)
}

fn print_rows(rows: &Rows, json: bool) {
    print!(
        "{}",
        rows.print(if json {
            query::Format::Json
        } else {
            query::Format::Table
        })
    );
}

fn list(home: &Home, tags: &[String], json: bool) -> anyhow::Result<()> {
    let sql = "SELECT run, name, profile, status, step, seed, generation,
               datetime(started_us / 1000000, 'unixepoch') AS started, tags FROM v_run ORDER BY started_us DESC";
    let mut rows = rows(home, sql)?;
    let last = rows.columns.len() - 1;
    rows.rows.retain_mut(|row| {
        let has = tags_of(&row[last]);
        row[last] = has.join(", ").into();
        tags.iter().all(|tag| has.contains(tag))
    });
    if json {
        let mut objects = rows.objects();
        for object in &mut objects {
            let tags = object["tags"].as_str().unwrap_or_default();
            object["tags"] = tags.split(", ").filter(|tag| !tag.is_empty()).collect();
        }
        return print::json(&objects);
    }
    print_rows(&rows, false);
    if rows.rows.is_empty() {
        print::note(match tags {
            [] => "there is no run yet; `demask run` starts one",
            _ => "no run has these tags; `demask runs list` shows all",
        });
    }
    Ok(())
}

/// Returns the legend name of each run: its name or its profile, and the end of its id.
///
/// # Errors
/// An error if there is no store.
pub fn names(home: &Home) -> anyhow::Result<BTreeMap<String, String>> {
    let rows = rows(home, "SELECT run, COALESCE(name, profile) FROM v_run")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let name = |row: &Vec<Value>| {
        (
            text(&row[0]),
            format!("{} {}", text(&row[1]), ending(&text(&row[0]))),
        )
    };
    Ok(rows.rows.iter().map(name).collect())
}

/// Parses the tags in a cell of `v_run.tags`.
fn tags_of(cell: &Value) -> Vec<String> {
    let tags = cell.as_str().map(serde_json::from_str);
    tags.and_then(Result::ok).unwrap_or_default()
}

/// Returns the whole id of the named run.
///
/// # Errors
/// An error if none or several match, or if there is no store.
pub fn find(home: &Home, named: &str) -> anyhow::Result<String> {
    Ok(find::find(&store::open_read_only(&home.database())?, named)?)
}

fn show(home: &Home, prefix: &str, json: bool) -> anyhow::Result<()> {
    let run = find(home, prefix)?;
    let config = config(home, &run)?;
    let of = |view: &str, columns: &str, order: &str| {
        rows(
            home,
            &format!("SELECT {columns} FROM {view} WHERE run = '{run}' ORDER BY {order}"),
        )
    };
    let head = of(
        "v_run",
        "run, name, tags, note, profile, status, reason, step, seed, generation, host, version, parent, parent_step",
        "run",
    )?;
    let evals = of(
        "v_eval",
        "step, suite, value, low, high, n, decision",
        "step, suite",
    )?;
    let checkpoints = of("v_checkpoint", "step, hash, reason, bytes, kept, path", "step")?;
    let latest = of("v_latest", "name, step, value", "name")?;
    if json {
        let parsed =
            |rows: &Rows| serde_json::from_str::<Value>(&rows.print(query::Format::Json)).unwrap_or_default();
        return print::json(&json!({
            "run": parsed(&head), "config": config, "evals": parsed(&evals),
            "checkpoints": parsed(&checkpoints), "latest": parsed(&latest),
        }));
    }
    for (title, rows) in [
        ("run", &head),
        ("benchmarks", &evals),
        ("checkpoints", &checkpoints),
        ("latest values", &latest),
    ] {
        println!("{title}");
        print_rows(rows, false);
        println!();
    }
    print::say(&format!(
        "configuration\n{}",
        serde_json::to_string_pretty(&config)?
    ));
    Ok(())
}

fn config(home: &Home, run: &str) -> anyhow::Result<Value> {
    let found = rows(home, &format!("SELECT config FROM v_run WHERE run = '{run}'"))?;
    let text = found
        .rows
        .first()
        .and_then(|row| row[0].as_str())
        .unwrap_or("null");
    Ok(serde_json::from_str(text)?)
}

fn diff(home: &Home, a: &str, b: &str, json: bool) -> anyhow::Result<()> {
    let (a, b) = (find(home, a)?, find(home, b)?);
    let mut lines: Vec<(String, Value, Value)> = Vec::new();
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    flatten("config", &config(home, &a)?, &mut left);
    flatten("config", &config(home, &b)?, &mut right);
    for (run, into) in [(&a, &mut left), (&b, &mut right)] {
        let sql = format!("SELECT name, value FROM v_latest WHERE run = '{run}'");
        values("latest", &rows(home, &sql)?, into);
        let sql = format!("SELECT suite, value FROM v_eval WHERE run = '{run}' ORDER BY step");
        values("eval", &rows(home, &sql)?, into);
    }
    for key in left
        .keys()
        .chain(right.keys().filter(|key| !left.contains_key(*key)))
    {
        let (one, other) = (
            left.get(key).cloned().unwrap_or_default(),
            right.get(key).cloned().unwrap_or_default(),
        );
        if one != other {
            lines.push((key.clone(), one, other));
        }
    }
    if json {
        let list: Vec<Value> = lines
            .into_iter()
            .map(|(key, a, b)| json!({ "key": key, "a": a, "b": b }))
            .collect();
        return print::json(&list);
    }
    let table: Vec<Vec<String>> = lines
        .into_iter()
        .map(|(key, a, b)| vec![key, shown(&a), shown(&b)])
        .collect();
    if table.is_empty() {
        println!("the same configuration, values and benchmarks");
        return Ok(());
    }
    print::table(&["key", ending(&a), ending(&b)], &table)
}

/// Returns the end of an id, by which runs differ that began in the same minute.
fn ending(run: &str) -> &str {
    run.rsplit('-').next().unwrap_or(run)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn values(prefix: &str, rows: &Rows, into: &mut BTreeMap<String, Value>) {
    for row in &rows.rows {
        into.insert(
            format!("{prefix}.{}", row[0].as_str().unwrap_or_default()),
            row[1].clone(),
        );
    }
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, value)| flatten(&format!("{prefix}.{key}"), value, into)),
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(at, value)| flatten(&format!("{prefix}.{at}"), value, into));
        }
        other => drop(into.insert(prefix.to_owned(), other.clone())),
    }
}
