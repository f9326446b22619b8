//! What the Scorer is asked to judge, and how it judged it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use demask_datasets::example::{Example, Mode};
use demask_rewards::judge::Completion;
use demask_rewards::scored::Scored;

use crate::control::Control;
use crate::pipeline::run_error::RunError;

/// A completion to judge.
#[derive(Clone, Debug)]
pub struct JudgementItem {
    /// Its name, the same when it is asked about again.
    pub id: String,
    /// What was asked.
    pub example: Example,
    /// With reasoning or without.
    pub mode: Mode,
    /// What came.
    pub completion: Completion,
    /// The longest text.
    pub budget: usize,
}

/// Judge completions under these reward weights.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<JudgedCompletion>, RunError>")]
pub struct JudgeCompletions {
    /// The step.
    pub step: u64,
    /// What to judge.
    pub items: Arc<Vec<JudgementItem>>,
    /// Weight of each reward.
    pub weights: BTreeMap<String, f64>,
    /// Given up early when the run is ending.
    pub control: Arc<Control>,
}

/// A judged completion.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedCompletion {
    /// Every reward that applies, weighted.
    pub scored: Scored,
    /// The completion in words.
    pub words: String,
}
