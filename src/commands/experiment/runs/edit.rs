//! `demask runs edit`: changes the name, the tags and the note of a run, also of a waiting one.

use anyhow::Context as _;
use demask_actors::control::client::who;
use demask_actors::home::Home;
use demask_storage::runs::find::{self, FindError};
use demask_storage::runs::queue;
use demask_storage::{Labels, Record, Relabelled, Writer, journal};

use crate::args::RunsEdit;
use crate::connection::append::append;
use crate::exit::UsageError;
use crate::terminal::print;

/// Changes the labels of a run. The change is on disk when this returns.
///
/// # Errors
/// An error if there is no such run, or if a name or tag is not permitted; any error of the store.
pub fn edit(home: &Home, options: &RunsEdit) -> anyhow::Result<()> {
    let mut writer = Writer::open(&home.database())?;
    let (run, mut labels) = labelled(&writer, &options.run)?;
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
    let tags = if tags.is_empty() { "none" } else { &tags };
    print::say(&format!("run {run}: {name}; tags: {tags}"));
    Ok(())
}

/// Returns the run that the name matches, begun or waiting, with its labels.
fn labelled(writer: &Writer, named: &str) -> anyhow::Result<(String, Labels)> {
    let none = match find::find(writer.connection(), named) {
        Ok(run) => {
            let (found, _) =
                journal::run(writer.connection(), &run)?.context("the run is no longer in the store")?;
            return Ok((run, found.labels));
        }
        Err(none @ FindError::None(_)) => none,
        Err(error) => return Err(error.into()),
    };
    let waiting = queue::waiting(writer.connection())?;
    match queue::named(&waiting, named) {
        Ok(one) => match &one.request {
            Ok(request) => Ok((one.run.clone(), request.labels.clone())),
            Err(why) => anyhow::bail!("{why}; its labels cannot be changed"),
        },
        Err(_) if waiting.is_empty() => Err(none.into()),
        Err(why) => anyhow::bail!("{none}; {why}"),
    }
}
