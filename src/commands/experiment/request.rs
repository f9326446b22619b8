//! The request for a run: the profile with the values that flags set, the start checkpoint, and the labels.

use std::path::Path;

use demask_actors::home::Home;
use demask_actors::profile::{self, Profile};
use demask_actors::run::named_checkpoint::NamedCheckpoint;
use demask_storage::{Labels, Parent, RunRequest};

use crate::args::{LabelFlags, RunArgs};
use crate::exit::UsageError;
use crate::model::pulled::pulled;

/// The origin of a run's weights, according to the flags.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// Whether to start from random weights.
    pub from_scratch: bool,
    /// A checkpoint folder, a pulled repository, or a checkpoint of a run.
    pub checkpoint: Option<&'a Path>,
    /// A checkpoint of a run, which becomes the parent.
    pub from: Option<&'a str>,
}

/// Makes the request of the flags and checks it. Also returns the profile.
///
/// # Errors
/// An error if the profile or a flag is wrong, or if data or a checkpoint is missing.
pub fn of_flags(home: &Home, options: &RunArgs) -> anyhow::Result<(RunRequest, Profile)> {
    let (text, origin) = Profile::find(options.name.as_deref().unwrap_or(&options.profile)).map_err(usage)?;
    let start = Start {
        from_scratch: options.from_scratch,
        checkpoint: options.checkpoint.as_deref(),
        from: options.from.as_deref(),
    };
    let mut set = options.set.clone();
    set.extend(options.ranks.map(|ranks| format!("engine.ranks={ranks}")));
    set.extend(options.join.then(|| "engine.join=true".to_owned()));
    request(home, (&text, &origin), &set, start, labels(&options.labels)?)
}

/// Makes a request from a profile's text and origin, values to set, the start and the labels.
///
/// # Errors
/// As [`of_flags`].
pub fn request(
    home: &Home,
    (text, origin): (&str, &str),
    set: &[String],
    start: Start<'_>,
    labels: Labels,
) -> anyhow::Result<(RunRequest, Profile)> {
    let (mut set, mut parent) = (set.to_vec(), None);
    if let Some(named) = start.from {
        let found =
            NamedCheckpoint::find(home, named).map_err(|wrong| usage(format!("--from {named}: {wrong}")))?;
        set.push(start_from("--from", &found.folder)?);
        parent = Some(found.of);
    }
    if let Some(named) = start.checkpoint {
        let folder = pulled(home, "--checkpoint", named).map_err(usage)?;
        set.push(start_from(
            &format!("--checkpoint {}:", named.display()),
            &folder,
        )?);
    }
    let mut text = assigned(text, origin, &set)?;
    if let Some((folder, of)) = started_from_run(home, &text, origin)? {
        text = assigned(&text, origin, &[folder])?;
        parent = Some(of);
    }
    let text = Profile::anchored(&text, origin, start.from_scratch).map_err(usage)?;
    let profile = Profile::parse(&text, origin).map_err(usage)?.unrolled();
    let request = RunRequest {
        profile: text,
        origin: origin.to_owned(),
        from_scratch: start.from_scratch,
        parent,
        labels,
    };
    Ok((request, profile))
}

/// Returns the labels of the flags.
///
/// # Errors
/// An error if a label is not permitted.
pub fn labels(flags: &LabelFlags) -> Result<Labels, UsageError> {
    let mut labels = Labels {
        name: flags.run_name.clone(),
        note: flags.note.clone().unwrap_or_default(),
        ..Labels::default()
    };
    flags.tags.iter().for_each(|tag| labels.tag(tag));
    labels.check().map_err(UsageError)?;
    Ok(labels)
}

/// Returns the assignment of `start_from`. The path is absolute because the daemon works in another folder. A folder
/// from which no run can start is reported before anything is started.
fn start_from(flag: &str, folder: &Path) -> anyhow::Result<String> {
    profile::can_start(folder).map_err(|wrong| usage(format!("{flag} {wrong}")))?;
    Ok(format!("start_from={}", serde_json::to_string(folder)?))
}

/// Returns the assignment and the parent if the profile's own `start_from` names a run's checkpoint.
fn started_from_run(home: &Home, text: &str, origin: &str) -> anyhow::Result<Option<(String, Parent)>> {
    let profile = Profile::parse(text, origin).map_err(usage)?;
    let Some(named) = profile.start_from.filter(|folder| !folder.exists()) else {
        return Ok(None);
    };
    match NamedCheckpoint::find(home, &named.to_string_lossy()) {
        Ok(found) => Ok(Some((start_from("start_from", &found.folder)?, found.of))),
        // The profile's own check then reports what is missing.
        Err(wrong) if wrong.is_no_run() => Ok(None),
        Err(wrong) => Err(usage(format!("{origin}: start_from = \"{}\": {wrong}", named.display())).into()),
    }
}

/// Reads a shipped profile or a file, with every `--set` applied: its text, and where it comes from.
///
/// # Errors
/// An error if there is no such profile, or a flag or the profile is wrong.
pub fn named(name: &str, set: &[String]) -> anyhow::Result<(String, String)> {
    let (text, origin) = Profile::find(name).map_err(usage)?;
    let text = assigned(&text, &origin, set)?;
    Ok((text, origin))
}

/// Reads a profile as [`named`] does and checks it as a run of it is checked: every file and folder that it names is
/// there. Returns it with absolute paths, and where it comes from.
///
/// # Errors
/// As [`named`]; an error if data or a checkpoint is missing.
pub fn anchored(name: &str, set: &[String], from_scratch: bool) -> anyhow::Result<(Profile, String)> {
    let (text, origin) = named(name, set)?;
    let text = Profile::anchored(&text, &origin, from_scratch).map_err(usage)?;
    let profile = Profile::parse(&text, &origin).map_err(usage)?;
    Ok((profile, origin))
}

/// Applies every `--set` to the profile's text and checks the result. If a flag makes a valid profile invalid, the
/// error names the flag instead of a line of the profile.
///
/// # Errors
/// An error if a flag or the profile is wrong.
fn assigned(text: &str, origin: &str, flags: &[String]) -> anyhow::Result<String> {
    let set = |flags: &[String]| Profile::set(text, origin, flags);
    let whole = set(flags).map_err(usage)?;
    let Err(wrong) = Profile::parse(&whole, origin) else {
        return Ok(whole);
    };
    let right_so_far =
        |count: &usize| set(&flags[..*count]).is_ok_and(|text| Profile::parse(&text, origin).is_ok());
    match (0..flags.len()).rfind(right_so_far) {
        Some(last) => Err(usage(format!("--set {}: {}", flags[last], wrong.message)).into()),
        None => Err(usage(wrong).into()),
    }
}

/// Makes a usage error.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}
