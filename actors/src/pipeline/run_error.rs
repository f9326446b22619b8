//! Why a run could not go on, and whether another life of it may do better.

use crate::engine::process::EngineFailure;
use crate::inference::error::WorkError;
use crate::runtime::actor::Cancelled;
use crate::runtime::recorder::RecorderGone;
use crate::runtime::supervisor::Silence;

/// Why an external reward gave no values.
#[derive(Clone, Debug, thiserror::Error)]
#[error("reward {name} failed {tries} times in a row; the last time: {why}")]
pub struct RewardFailure {
    /// The reward.
    pub name: String,
    /// Tries.
    pub tries: u32,
    /// The last failure.
    pub why: String,
}

/// Why a run could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The engine died: start another and walk again.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// A request could not be made.
    #[error(transparent)]
    Work(WorkError),
    /// An actor did not answer.
    #[error(transparent)]
    Actor(#[from] Silence),
    /// The store.
    #[error(transparent)]
    Store(#[from] demask_storage::StoreError),
    /// Commands that could not be taken or recorded.
    #[error(transparent)]
    Control(#[from] anyhow::Error),
    /// An external reward gave no values: the run is held until a person has mended it.
    #[error(transparent)]
    Reward(#[from] RewardFailure),
    /// The run is to end, so that what was waited for is given up; nothing is lost.
    #[error("given up, because the run is ending")]
    Ending,
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl RunError {
    /// In words what went wrong with something.
    pub fn about(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }

    /// L1: whether another life of the run may do better: the engine died, or the actor that was asked.
    #[must_use]
    pub fn mendable(&self) -> bool {
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

impl From<RecorderGone> for RunError {
    fn from(error: RecorderGone) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Cancelled> for RunError {
    fn from(error: Cancelled) -> Self {
        Self::Failed(error.to_string())
    }
}
