//! Orders: what can be asked, and whether it is allowed.

use std::collections::BTreeMap;

use demask_storage::{Steer, SteerAction};

use super::knobs::KnobRange;
use crate::runtime::recorder::RecorderGone;

/// What a person asks.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Hold.
    Pause,
    /// Go on.
    Resume,
    /// Checkpoint and end the run.
    Stop,
    /// Checkpoint.
    Checkpoint,
    /// Turn a knob.
    Set {
        /// Its key.
        key: String,
        /// Its new value.
        value: f64,
    },
    /// Sample a prompt, watched.
    Sample {
        /// The prompt.
        prompt: String,
        /// Draw rather than write.
        picture: bool,
    },
}

impl Order {
    pub(super) fn action(&self) -> SteerAction {
        match self {
            Self::Pause => SteerAction::Pause,
            Self::Resume => SteerAction::Resume,
            Self::Stop => SteerAction::Stop,
            Self::Checkpoint => SteerAction::Checkpoint,
            Self::Set { .. } => SteerAction::Set,
            Self::Sample { .. } => SteerAction::Sample,
        }
    }

    /// Back from a row; none for what is not understood.
    pub(super) fn of(steer: &Steer) -> Option<Self> {
        match steer.action {
            SteerAction::Pause => Some(Self::Pause),
            SteerAction::Resume => Some(Self::Resume),
            SteerAction::Stop => Some(Self::Stop),
            SteerAction::Checkpoint => Some(Self::Checkpoint),
            SteerAction::Set => Some(Self::Set {
                key: steer.key.clone()?,
                value: steer.new.as_deref()?.parse().ok()?,
            }),
            SteerAction::Sample => Some(Self::Sample {
                prompt: steer.new.clone()?,
                picture: steer.key.as_deref() == Some("picture"),
            }),
        }
    }
}

/// Why an order is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// No such knob.
    #[error("there is no knob '{key}'; the knobs are {known}")]
    Unknown {
        /// What was asked for.
        key: String,
        /// What there is.
        known: String,
    },
    /// Outside its range.
    #[error("{key} is asked to be {found}; allowed is {low} to {high}")]
    Range {
        /// The knob.
        key: String,
        /// What was asked for.
        found: String,
        /// Smallest allowed.
        low: f64,
        /// Largest allowed.
        high: f64,
    },
    /// It cannot be recorded, so it is not taken (L4).
    #[error(transparent)]
    Recorder(#[from] RecorderGone),
}

/// Whether an order may be taken.
///
/// # Errors
/// [`OrderError`]: a knob that is unknown or turned too far.
pub(super) fn check(knobs: &BTreeMap<String, KnobRange>, order: &Order) -> Result<(), OrderError> {
    let Order::Set { key, value } = order else {
        return Ok(());
    };
    let Some(knob) = knobs.get(key) else {
        let known = knobs.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(OrderError::Unknown {
            key: key.clone(),
            known,
        });
    };
    if (knob.low..=knob.high).contains(value) {
        return Ok(());
    }
    Err(OrderError::Range {
        key: key.clone(),
        found: value.to_string(),
        low: knob.low,
        high: knob.high,
    })
}
