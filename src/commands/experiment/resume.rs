//! `demask resume`: resumes a paused run, or continues a stopped or failed run from its last checkpoint.

use std::process::ExitCode;

use demask_actors::home::Home;
use demask_storage::runs::find::find;
use demask_storage::{Command, Reply, journal, store};
use serde_json::json;

use crate::args::Resume;
use crate::commands::experiment::follow::{Since, watched};
use crate::commands::experiment::{control, daemon};
use crate::connection::line::connect;
use crate::terminal::print;

/// Resumes the present run, or the named one.
///
/// # Errors
/// An error if there is no such run, if it is done, or if another run is under way.
pub fn resume(home: &Home, options: &Resume) -> anyhow::Result<ExitCode> {
    let json = options.output.json;
    let Some(named) = &options.run else {
        return control::send(home, Command::Resume, json);
    };
    let run = find(&store::open_read_only(&home.database())?, named)?;
    daemon::ensure(home)?;
    match connect(home)?.ask(Command::ResumeRun { run: run.clone() })? {
        Reply::Started { .. } => {
            let kept = journal::checkpoints(&store::open_read_only(&home.database())?, &run)?;
            let step = kept.first().map_or(0, |saved| saved.step);
            if json {
                print::json(&json!({ "resumed": run, "step": step }))?;
            } else {
                println!("run {run} continues at step {step}");
            }
        }
        Reply::Accepted { step, .. } if json => print::json(&json!({ "under_way": run, "step": step }))?,
        Reply::Accepted { step, .. } => println!("run {run} is active at step {step} and is not paused"),
        Reply::Refused { message } => anyhow::bail!(message),
        other => anyhow::bail!("unexpected answer of the daemon: {other:?}"),
    }
    if options.follow {
        return watched(home, &run, Since::Now, false, json);
    }
    Ok(ExitCode::SUCCESS)
}
