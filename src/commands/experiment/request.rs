//! A run as a person asks for it: the profile that is named, what flags change in it, the checkpoint it begins with, what it
//! is called.

use std::path::Path;

use demask_actors::home::Home;
use demask_actors::profile::{self, Profile};
use demask_actors::run::named_checkpoint::NamedCheckpoint;
use demask_storage::{Labels, Parent, RunRequest};

use crate::args::{LabelFlags, RunArgs};
use crate::exit::UsageError;
use crate::model::pulled::pulled;

/// Where the weights of a run come from, as flags say it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// From random weights.
    pub from_scratch: bool,
    /// A checkpoint folder, a pulled repository or a run's checkpoint.
    pub checkpoint: Option<&'a Path>,
    /// A run's checkpoint, which becomes its parent.
    pub from: Option<&'a str>,
}

/// What is asked for, checked, and the profile that it is.
///
/// # Errors
/// A wrong profile or flag; data or a checkpoint that is not there.
pub fn of_flags(home: &Home, options: &RunArgs) -> anyhow::Result<(RunRequest, Profile)> {
    let (text, origin) = Profile::find(options.name.as_deref().unwrap_or(&options.profile)).map_err(usage)?;
    let start = Start {
        from_scratch: options.from_scratch,
        checkpoint: options.checkpoint.as_deref(),
        from: options.from.as_deref(),
    };
    let mut set = options.set.clone();
    set.extend(options.ranks.map(|ranks| format!("engine.ranks={ranks}")));
    request(home, (&text, &origin), &set, start, labels(&options.labels)?)
}

/// A profile's text and its origin with these values set, the weights and the labels, as the daemon takes them.
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

/// The labels that flags give.
///
/// # Errors
/// One that may not be kept.
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

/// The daemon works elsewhere, so the folder is named whole; one that no run can start from is told before anything starts.
fn start_from(flag: &str, folder: &Path) -> anyhow::Result<String> {
    profile::can_start(folder).map_err(|wrong| usage(format!("{flag} {wrong}")))?;
    Ok(format!("start_from={}", serde_json::to_string(folder)?))
}

/// The folder to set, and the parent, where the profile's own `start_from` names a run's checkpoint.
fn started_from_run(home: &Home, text: &str, origin: &str) -> anyhow::Result<Option<(String, Parent)>> {
    let profile = Profile::parse(text, origin).map_err(usage)?;
    let Some(named) = profile.start_from.filter(|folder| !folder.exists()) else {
        return Ok(None);
    };
    match NamedCheckpoint::find(home, &named.to_string_lossy()) {
        Ok(found) => Ok(Some((start_from("start_from", &found.folder)?, found.of))),
        // The profile's own check says what is missing.
        Err(wrong) if wrong.is_no_run() => Ok(None),
        Err(wrong) => Err(usage(format!("{origin}: start_from = \"{}\": {wrong}", named.display())).into()),
    }
}

/// The profile's text with every `--set` applied, checked. A flag that makes a right profile wrong is named itself: the
/// profile's lines are not to blame.
///
/// # Errors
/// A wrong flag or profile.
pub fn assigned(text: &str, origin: &str, flags: &[String]) -> anyhow::Result<String> {
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

/// What a person typed wrongly.
pub fn usage(error: impl std::fmt::Display) -> UsageError {
    UsageError(error.to_string())
}
