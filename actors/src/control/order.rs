//! Orders: the commands that steer a run, and whether one is allowed.

use std::collections::BTreeMap;

use demask_storage::{Command, Knob, Steer, SteerAction};

use crate::runtime::recorder::RecorderGone;

/// The key of the row that says that a person had a run go on after its end.
pub const RESUMED_RUN: &str = "run";

/// The orders of a journal that still stand: a stop ended what a person has since had go on.
pub(super) fn standing(mut journal: Vec<Steer>) -> Vec<Steer> {
    let resumed =
        |steer: &Steer| steer.action == SteerAction::Resume && steer.key.as_deref() == Some(RESUMED_RUN);
    if let Some(last) = journal.iter().rposition(resumed) {
        let mut at = 0..;
        journal.retain(|steer| at.next() > Some(last) || steer.action != SteerAction::Stop);
    }
    journal
}

/// The order that a row of the journal says; none for what is not understood.
pub(super) fn of_row(steer: &Steer) -> Option<Command> {
    match steer.action {
        SteerAction::Pause => Some(Command::Pause),
        SteerAction::Resume => Some(Command::Resume),
        SteerAction::Stop => Some(Command::Stop),
        SteerAction::Checkpoint => Some(Command::Checkpoint),
        SteerAction::Set => Command::set(steer.key.as_deref()?, steer.new.as_deref()?).ok(),
        SteerAction::Sample => Some(Command::Sample {
            prompt: steer.new.clone()?,
            picture: steer.key.as_deref() == Some("picture"),
        }),
    }
}

/// Why an order is not taken.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The command does not steer a run.
    #[error("this is not an order to a run")]
    NotOfARun,
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

/// What an order does, where it may be taken.
///
/// # Errors
/// [`OrderError`]: a knob that is unknown or turned too far.
pub(super) fn check(knobs: &BTreeMap<String, Knob>, order: &Command) -> Result<SteerAction, OrderError> {
    let Some(action) = order.action() else {
        return Err(OrderError::NotOfARun);
    };
    let Command::Set { key, value } = order else {
        return Ok(action);
    };
    let Some(knob) = knobs.get(key) else {
        let known = knobs.keys().cloned().collect::<Vec<_>>().join(", ");
        return Err(OrderError::Unknown {
            key: key.clone(),
            known,
        });
    };
    if (knob.low..=knob.high).contains(value) {
        return Ok(action);
    }
    Err(OrderError::Range {
        key: key.clone(),
        found: value.to_string(),
        low: knob.low,
        high: knob.high,
    })
}
