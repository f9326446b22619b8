//! `demask ask`: asks the present model of the running run.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use demask_actors::home::Home;
use demask_storage::{Command, Reply};

use crate::args::AskModel;
use crate::connection::reach;
use crate::exit::{FAILED, UsageError};
use crate::figure::file;
use crate::terminal::print;

/// Asks the model and prints the answer.
///
/// # Errors
/// An error if there is no daemon, if the picture does not exist, or if the output exists.
pub fn ask(home: &Home, options: &AskModel) -> anyhow::Result<ExitCode> {
    if let Some(output) = &options.output {
        may_be_written(output)?;
    }
    let image = options.image.as_ref().map(|file| {
        let whole = std::fs::canonicalize(file)
            .map_err(|error| UsageError(format!("--image {}: {error}", file.display())))?;
        anyhow::Ok(whole.to_string_lossy().into_owned())
    });
    let question = Command::Ask {
        prompt: options.prompt.clone(),
        draw: options.draw,
        image: image.transpose()?,
        direct: options.no_think,
        reference: options.reference.clone(),
    };
    let reply = reach::connect(home)?.ask(question)?;
    if let (
        Reply::Said {
            picture: Some(picture),
            ..
        },
        Some(output),
    ) = (&reply, &options.output)
    {
        let bytes = std::fs::read(picture).with_context(|| picture.clone())?;
        file::write(output, &bytes).context("--output")?;
    }
    if options.json.json {
        print::json(&reply)?;
    }
    match reply {
        Reply::Said { .. } if options.json.json => Ok(ExitCode::SUCCESS),
        Reply::Said {
            text,
            answer,
            picture,
            right,
            step,
            seconds,
        } => {
            print::written(if picture.is_some() { &answer } else { &text });
            let verdict = match right {
                Some(true) => ", right",
                Some(false) => ", wrong",
                None => "",
            };
            let drawn = picture.map(|path| format!("; drawn: {}", shown(options, &path)));
            print::note(&format!(
                "after step {step}, in {seconds:.1} s{verdict}{}",
                drawn.unwrap_or_default()
            ));
            Ok(ExitCode::SUCCESS)
        }
        Reply::Refused { message } => {
            print::note(&format!("demask: {message}"));
            Ok(ExitCode::from(FAILED))
        }
        other => anyhow::bail!("unexpected answer of the daemon: {other:?}"),
    }
}

/// Checks the name of the file for the drawing before the model draws it.
fn may_be_written(output: &Path) -> Result<(), UsageError> {
    let refuse = |why: String| Err(UsageError(format!("--output {}: {why}", output.display())));
    // A link without a target is there too.
    if output.symlink_metadata().is_ok() {
        return refuse("the file exists already; name another one".to_owned());
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(missing) => refuse(format!("there is no folder {} to write to", missing.display())),
        None => Ok(()),
    }
}

/// Returns the path of the drawing to print: the requested output, or the store's file.
fn shown(options: &AskModel, kept: &str) -> String {
    options
        .output
        .as_ref()
        .map_or_else(|| kept.to_owned(), |output| output.display().to_string())
}
