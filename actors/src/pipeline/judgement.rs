//! Requests to the Scorer and their results.

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
    /// Id of the completion, which is the same when it is asked about again. No other completion of the request has it.
    pub id: String,
    /// The example that was prompted.
    pub example: Example,
    /// Whether the completion has reasoning before the answer.
    pub mode: Mode,
    /// The completion.
    pub completion: Completion,
    /// Longest allowed text in tokens.
    pub budget: usize,
}

/// The request to judge completions with these reward weights.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<JudgedCompletion>, RunError>")]
pub struct JudgeCompletions {
    /// The step.
    pub step: u64,
    /// Completions to judge.
    pub items: Arc<Vec<JudgementItem>>,
    /// Weight of each reward.
    pub weights: BTreeMap<String, f64>,
    /// Control of the run. External rewards are given up early when it says that the run is ending.
    pub control: Arc<Control>,
}

/// A judged completion.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedCompletion {
    /// Every reward that applies, with its weight.
    pub scored: Scored,
    /// The completion in words.
    pub words: String,
}
