//! `demask runs edit`: another name, other tags, another note.

use anyhow::Context as _;
use demask_actors::control::client::who;
use demask_actors::home::Home;
use demask_storage::{Record, Relabelled, Writer, journal};

use crate::args::RunsEdit;
use crate::connection::append::append;
use crate::exit::UsageError;
use crate::terminal::print;

/// Changes what a run is called; it is on disk when this returns.
///
/// # Errors
/// No such run; a name or tag that may not be kept; the store's.
pub fn edit(home: &Home, options: &RunsEdit) -> anyhow::Result<()> {
    let run = super::find(home, &options.run)?;
    let mut writer = Writer::open(&home.database())?;
    let (found, _) = journal::run(writer.connection(), &run)?.context("the run is gone")?;
    let mut labels = found.labels;
    if let Some(name) = &options.run_name {
        labels.name = (!name.is_empty()).then(|| name.clone());
    }
    options.tags.iter().for_each(|tag| labels.tag(tag));
    options.untags.iter().for_each(|tag| labels.untag(tag));
    if let Some(note) = &options.note {
        labels.note.clone_from(note);
    }
    labels.check().map_err(UsageError)?;
    let relabelled = Relabelled {
        run: run.clone(),
        by: who("cli"),
        labels: labels.clone(),
    };
    append(&mut writer, &[Record::Relabelled(relabelled)])?;
    if options.output.json {
        return print::json(&serde_json::json!({ "run": run, "labels": labels }));
    }
    let name = labels.name.as_deref().unwrap_or("no name");
    let tags = labels.tags.join(", ");
    println!(
        "run {run}: {name}; tags: {}",
        if tags.is_empty() { "none" } else { &tags }
    );
    Ok(())
}
