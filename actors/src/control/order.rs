//! Orders: the commands that steer a run, and the check whether one is allowed.

use std::collections::BTreeMap;

use demask_storage::{Command, Knob, Steer, SteerAction};

use crate::runtime::recorder::NotRecorded;

/// Key of the row that says that the user resumed a run after its end.
pub const RESUMED_RUN: &str = "run";

/// Returns whether a row says that the user resumed a run after its end.
#[must_use]
pub fn is_resumption(steer: &Steer) -> bool {
    steer.action == SteerAction::Resume && steer.key.as_deref() == Some(RESUMED_RUN)
}

/// Returns the orders of a journal that still hold. Stops from before the last resumption of the run hold no more, nor do
/// pauses that took effect before it, also after the checkpoint from which the run goes on. Nor does a pause that took
/// effect at a later step than an order to resume which came after it, while the steps up to it were done again.
pub(super) fn standing(mut journal: Vec<Steer>) -> Vec<Steer> {
    if let Some(last) = journal.iter().rposition(is_resumption) {
        let mut at = 0..;
        let is_over = |steer: &Steer| match steer.action {
            SteerAction::Stop => true,
            SteerAction::Pause => steer.applied_step.is_some(),
            _ => false,
        };
        journal.retain(|steer| at.next() > Some(last) || !is_over(steer));
    }
    // From the newest order to the oldest: the earliest step at which the run was resumed after it.
    let mut resumed = u64::MAX;
    journal.reverse();
    journal.retain(|steer| {
        let step = steer.applied_step;
        if steer.action == SteerAction::Resume {
            resumed = resumed.min(step.unwrap_or(u64::MAX));
        }
        steer.action != SteerAction::Pause || step.is_none_or(|step| step <= resumed)
    });
    journal.reverse();
    journal
}

/// Returns the order of a journal row; `None` for a row that this version does not understand.
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

/// The words of an order that all its repetitions share: its action, and what it sets or asks.
pub(super) type OrderWords = (SteerAction, Option<String>, Option<String>);

/// Returns the words of an order, by which a repetition is told from another order under the same id.
pub(super) fn words(steer: &Steer) -> OrderWords {
    match steer.action {
        SteerAction::Set | SteerAction::Sample => (steer.action, steer.key.clone(), steer.new.clone()),
        // The row of a resumption has more words than an order to resume, which repeats it while the run is active.
        action => (action, None, None),
    }
}

/// The reason why an order is refused.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// The command does not steer a run.
    #[error("this command does not change a run")]
    NotOfARun,
    /// There is no such knob.
    #[error("there is no knob '{key}'; the knobs are {known}")]
    Unknown {
        /// The requested key.
        key: String,
        /// The keys that exist.
        known: String,
    },
    /// The value is outside the knob's range.
    #[error("{key} cannot be set to {found}; allowed is {low} to {high}")]
    Range {
        /// The knob.
        key: String,
        /// The requested value.
        found: String,
        /// Smallest allowed value.
        low: f64,
        /// Largest allowed value.
        high: f64,
    },
    /// Another order to the run has the same id.
    #[error(
        "the id '{id}' is that of another order to this run ({known}): expected an id of its own for each order, such as a UUID"
    )]
    KnownId {
        /// The id.
        id: String,
        /// What the other order does.
        known: SteerAction,
    },
    /// The stop was sent before, and the user has resumed the run since.
    #[error("the run was resumed after this stop, which holds no more; another `demask stop` ends it")]
    StopIsOver,
    /// The order cannot be recorded, so it is refused (L4).
    #[error(transparent)]
    Recorder(#[from] NotRecorded),
}

impl OrderError {
    /// Makes the error that this order to the same run has the id of another one.
    pub(crate) fn known(order: &Steer) -> Self {
        Self::KnownId {
            id: order.id.clone(),
            known: order.action,
        }
    }
}

/// Checks an order and returns its action.
///
/// # Errors
/// [`OrderError`] if the command is no order, the knob is unknown, or the value is out of range.
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
