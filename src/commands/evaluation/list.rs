//! `demask eval --list`: the suites, the availability of their data, and the way to get it.

use std::process::ExitCode;

use demask_rewards::benchmarks::{Data, Suite};
use serde_json::json;

use crate::terminal::print;

/// Prints one row per suite, or with `--json` one object per suite.
///
/// # Errors
/// Any error of standard output.
pub fn list(suites: &[Suite], json: bool) -> anyhow::Result<ExitCode> {
    if json {
        let all: Vec<_> = suites.iter().map(object).collect();
        print::json(&all)?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows: Vec<Vec<String>> = suites.iter().map(row).collect();
    print::table(&["suite", "items", "here", "licence or description"], &rows)?;
    if suites.iter().any(|suite| !suite.is_available()) {
        print::note(
            "\nMissing data: `demask pull --benchmark NAME` downloads what the hub has; put the rest below the folder that \
             DEMASK_DATA names (README). `demask eval --embedded all` tries every benchmark on a few invented rows.",
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn object(suite: &Suite) -> serde_json::Value {
    let protocol = suite.protocol();
    let published: Vec<_> = protocol
        .published
        .iter()
        .map(|figure| json!({ "model": figure.model, "value": figure.value, "cited": figure.cited }))
        .collect();
    let mut object = json!({
        "suite": suite.name(), "protocol": protocol.label(), "metric": suite.metric(), "items": suite.size(),
        "available": suite.is_available(), "about": suite.about(), "published": published,
    });
    if let Data::Published(source) = suite.data() {
        object["licence"] = source.licence.into();
        object["megabytes"] = source.megabytes.into();
        object["gated"] = source.is_gated.into();
        object["hub"] = source.hub.into();
        object["from"] = source.from.into();
        object["places"] = json!(source.places);
    }
    object
}

/// Returns a row that fits into 80 columns. A published benchmark is known by its name, so its description is only in
/// `--json`.
fn row(suite: &Suite) -> Vec<String> {
    let source = match suite.data() {
        Data::Published(source) => Some(source),
        _ => None,
    };
    let here = match source {
        _ if suite.is_available() => "yes".to_owned(),
        Some(source) if source.is_gated => format!("no: gated, {} MB", source.megabytes),
        Some(source) if source.hub.is_some() => format!("no: pull, {} MB", source.megabytes),
        Some(_) | None => "no".to_owned(),
    };
    // The rest of a licence is in the terms of the files.
    let short = |licence: &'static str| licence.split([';', ',']).next().unwrap_or(licence);
    vec![
        suite.name(),
        suite.size().to_string(),
        here,
        source.map_or_else(
            || suite.about().to_owned(),
            |source| short(source.licence).to_owned(),
        ),
    ]
}
