//! A checkpoint as people name it: `RUN`, `RUN@STEP`, `RUN@best`, `RUN@latest`; a run by its id, its name, the beginning or
//! the end of its id, or as the latest.

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
    /// Whose it is, and of which step.
    pub of: Parent,
    /// Its folder.
    pub folder: PathBuf,
}

/// Why it is not known which checkpoint is meant.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// No run is meant, or several.
    #[error(transparent)]
    Run(#[from] FindError),
    /// What stands after the @ is nothing.
    #[error("{named}: expected a step's number, best or latest after the @")]
    Place {
        /// As typed.
        named: String,
    },
    /// The run has none.
    #[error("run {run} has no checkpoint: it ended before its first")]
    Empty {
        /// The run.
        run: String,
    },
    /// No evaluation of the run has promoted one.
    #[error("run {run} has no best checkpoint: no evaluation with a gate was done; its steps are {steps}")]
    NoBest {
        /// The run.
        run: String,
        /// Those there are.
        steps: String,
    },
    /// None of that step is kept.
    #[error("run {run} keeps no checkpoint of step {step}; its steps are {steps}")]
    NoStep {
        /// The run.
        run: String,
        /// As typed.
        step: u64,
        /// Those there are.
        steps: String,
    },
    /// The folder is not there any more.
    #[error("the checkpoint {} is gone, or not whole", folder.display())]
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
    /// Whether the name is no run's: it may be something else's.
    #[must_use]
    pub fn is_no_run(&self) -> bool {
        matches!(
            self,
            Self::Run(FindError::None(_) | FindError::Store(StoreError::Missing { .. }))
        )
    }
}

impl NamedCheckpoint {
    /// The checkpoint that is meant, in this home; without `@` the latest.
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

/// The checkpoint that the gate promoted last, as the marker beside the checkpoints says.
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
