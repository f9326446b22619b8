//! Orders and knobs: what can be asked, and whether it is allowed.

use std::collections::BTreeMap;

use demask_storage::{Knob, Steer};

use crate::runtime::recorder::RecorderGone;

/// Something that can be turned: a number within a range.
#[derive(Clone, Debug, PartialEq)]
pub struct KnobRange {
    /// Its key for `set`.
    pub key: String,
    /// Its value in the profile.
    pub value: f64,
    /// Smallest allowed.
    pub low: f64,
    /// Largest allowed.
    pub high: f64,
    /// One line of help.
    pub help: String,
}

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
        /// Which.
        key: String,
        /// To what.
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
    pub(super) fn action(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Stop => "stop",
            Self::Checkpoint => "checkpoint",
            Self::Set { .. } => "set",
            Self::Sample { .. } => "sample",
        }
    }

    /// Back from a row; none for what is not understood.
    pub(super) fn of(steer: &Steer) -> Option<Self> {
        match steer.action.as_str() {
            "pause" => Some(Self::Pause),
            "resume" => Some(Self::Resume),
            "stop" => Some(Self::Stop),
            "checkpoint" => Some(Self::Checkpoint),
            "set" => Some(Self::Set {
                key: steer.key.clone()?,
                value: steer.new.as_deref()?.parse().ok()?,
            }),
            "sample" => Some(Self::Sample {
                prompt: steer.new.clone()?,
                picture: steer.key.as_deref() == Some("picture"),
            }),
            _ => None,
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

/// A knob as watchers see it.
pub(super) fn shown(knob: &KnobRange) -> Knob {
    let allowed = format!("{} to {}", knob.low, knob.high);
    Knob {
        key: knob.key.clone(),
        value: knob.value.to_string(),
        allowed,
        help: knob.help.clone(),
    }
}
