//! The names by which users refer to a checkpoint: `RUN`, `RUN@STEP`, `RUN@best`, `RUN@latest`. A run is named by its
//! id, its name, the beginning or the end of its id, or as the latest.

use std::path::PathBuf;

use demask_api::checkpoint::MANIFEST;
use demask_storage::runs::find::{FindError, find};
use demask_storage::{Checkpoint, Parent, StoreError, journal, store};

use crate::home::Home;
use crate::run::checkpoints::PROMOTED;
use crate::run::promotion::Promoted;

/// A checkpoint of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedCheckpoint {
    /// Run and step of the checkpoint.
    pub of: Parent,
    /// Folder of the checkpoint.
    pub folder: PathBuf,
}

/// The error of a name that leads to no checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// The name matches no run, or several.
    #[error(transparent)]
    Run(#[from] FindError),
    /// The text after the @ is not valid.
    #[error("{named}: expected the number of a step, best or latest after the @")]
    Place {
        /// The name as typed.
        named: String,
    },
    /// The run has no checkpoint.
    #[error("run {run} has no checkpoint: it ended before the first one")]
    Empty {
        /// The run.
        run: String,
    },
    /// No evaluation of the run has promoted a checkpoint.
    #[error(
        "run {run} has no best checkpoint, because no evaluation with a gate was done; it has checkpoints of steps {steps}"
    )]
    NoBest {
        /// The run.
        run: String,
        /// Steps of the checkpoints that it has.
        steps: String,
    },
    /// The run keeps no checkpoint of this step.
    #[error("run {run} has no checkpoint of step {step}; it has checkpoints of steps {steps}")]
    NoStep {
        /// The run.
        run: String,
        /// The step as typed.
        step: u64,
        /// Steps of the checkpoints that it has.
        steps: String,
    },
    /// The folder does not exist any more.
    #[error("the checkpoint {} is missing or incomplete", folder.display())]
    Gone {
        /// The folder.
        folder: PathBuf,
    },
}

impl From<StoreError> for NameError {
    fn from(error: StoreError) -> Self {
        Self::Run(error.into())
    }
}

impl NameError {
    /// Returns whether the name matches no run, so that it may name something else.
    #[must_use]
    pub fn is_no_run(&self) -> bool {
        matches!(
            self,
            Self::Run(FindError::None(_) | FindError::Store(StoreError::Missing { .. }))
        )
    }
}

impl NamedCheckpoint {
    /// Finds the named checkpoint in a home; without `@`, the latest of the run.
    ///
    /// # Errors
    /// [`NameError`].
    pub fn find(home: &Home, named: &str) -> Result<Self, NameError> {
        let (run, place) = named.rsplit_once('@').unwrap_or((named, "latest"));
        let connection = store::open_read_only(&home.database())?;
        let run = find(&connection, run)?;
        let kept = journal::checkpoints(&connection, &run)?;
        let Some(newest) = kept.first() else {
            return Err(NameError::Empty { run });
        };
        let saved = match place {
            "latest" => newest,
            "best" => best(home, &run, &kept)?,
            place => at(run, place, named, &kept)?,
        };
        let folder = home.root().join(&saved.path);
        if !folder.join(MANIFEST).is_file() {
            return Err(NameError::Gone { folder });
        }
        let of = Parent {
            run: saved.run.clone(),
            step: saved.step,
        };
        Ok(Self { of, folder })
    }
}

/// Returns the checkpoint that the gate promoted last, according to the marker beside the checkpoints.
fn best<'a>(home: &Home, run: &str, kept: &'a [Checkpoint]) -> Result<&'a Checkpoint, NameError> {
    let marker = std::fs::read_to_string(home.checkpoints(run).join(PROMOTED)).ok();
    let promoted = marker.and_then(|text| serde_json::from_str::<Promoted>(&text).ok());
    let found = promoted.and_then(|best| kept.iter().find(|one| one.step == best.step));
    found.ok_or_else(|| NameError::NoBest {
        run: run.to_owned(),
        steps: steps(kept),
    })
}

fn at<'a>(
    run: String,
    place: &str,
    named: &str,
    kept: &'a [Checkpoint],
) -> Result<&'a Checkpoint, NameError> {
    let Ok(step) = place.parse() else {
        return Err(NameError::Place {
            named: named.to_owned(),
        });
    };
    let found = kept.iter().find(|one| one.step == step);
    found.ok_or_else(|| NameError::NoStep {
        run,
        step,
        steps: steps(kept),
    })
}

fn steps(kept: &[Checkpoint]) -> String {
    let steps: Vec<String> = kept.iter().rev().map(|one| one.step.to_string()).collect();
    steps.join(", ")
}
