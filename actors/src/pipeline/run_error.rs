//! The errors that stop a run, and whether another life of the run may succeed.

use crate::engine::process::EngineFailure;
use crate::inference::error::WorkError;
use crate::runtime::actor::Cancelled;
use crate::runtime::recorder::NotRecorded;
use crate::runtime::supervisor::Silence;

/// The error that an external reward returned no values.
#[derive(Clone, Debug, thiserror::Error)]
#[error("reward {name} failed {tries} times in a row; the last failure: {why}")]
pub struct RewardFailure {
    /// Name of the reward.
    pub name: String,
    /// Number of tries.
    pub tries: u32,
    /// The last failure.
    pub why: String,
}

/// The error that stops a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine died. Another life of the run starts a new one.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A request could not be made.
    #[error(transparent)]
    Work(WorkError),
    /// An actor did not answer.
    #[error(transparent)]
    Actor(#[from] Silence),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] demask_storage::StoreError),
    /// Commands could not be accepted or recorded.
    #[error(transparent)]
    Control(#[from] anyhow::Error),
    /// An external reward returned no values. The run is paused until the user has repaired the reward.
    #[error(transparent)]
    Reward(#[from] RewardFailure),
    /// The run must end, so it gave up what it waited for. Nothing is lost.
    #[error("cancelled, because the run is ending")]
    Ending,
    /// Any other error, as a message.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// Makes an error that says what failed and why.
    pub fn about(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }

    /// L1: returns whether another life of the run may succeed, because the engine or an actor died.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Engine(EngineFailure::Died { .. } | EngineFailure::Start { .. })
                | Self::Actor(Silence::Died(_))
        )
    }
}

impl From<WorkError> for RunError {
    fn from(error: WorkError) -> Self {
        match error {
            WorkError::Engine(failure) => Self::Engine(failure),
            other => Self::Work(other),
        }
    }
}

impl From<NotRecorded> for RunError {
    fn from(error: NotRecorded) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Cancelled> for RunError {
    fn from(error: Cancelled) -> Self {
        Self::Failed(error.to_string())
    }
}
