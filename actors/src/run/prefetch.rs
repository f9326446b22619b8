//! Prefetching. While the engine trains step k, the examples of step k + 1 are drawn and tokenized, and their pictures
//! encoded. With sampling engines, the groups of the next steps are drawn too
//! (`stages/rollouts/ahead.rs`).
//!
//! A prefetched batch equals the batch that the step would have made itself (law L8). If a knob was turned at the
//! boundary in between, the demand differs; the batch is then discarded and made again (law L3).

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_api::Sequence;
use demask_datasets::example::{Example, Kind, Mode};
use tokio::task::JoinHandle;

use crate::engine::address::EngineAddress;
use crate::inference::complete::Inference;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::curation::curator::{Curator, Demand};
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::rollout::Group;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::DrawingPolicy;
use crate::runtime::supervisor::Address;

/// The inputs from which a batch is made.
#[derive(Clone)]
pub struct BatchMaker {
    /// Source of the examples.
    pub curator: Address<Curator>,
    /// Engine that encodes pictures.
    pub engine: EngineAddress,
    /// Builder of the sequences.
    pub inference: Arc<Inference>,
}

/// The batch of a step.
#[derive(Debug, Default)]
pub struct TrainingBatch {
    /// Examples that were drawn and fit.
    pub used: Vec<TrainingExample>,
    /// One sequence per example; empty if only examples were requested.
    pub sequences: Vec<Sequence>,
    /// Examples that do not fit, with the reason.
    pub rejected: Vec<(Example, String)>,
}

/// Everything that determines a step's groups.
#[derive(Clone, PartialEq)]
pub struct Conditions {
    /// Demand for prompts.
    pub demand: Demand,
    /// Samplers of the completions.
    pub samplers: SamplerSettings,
    /// Weight of each reward.
    pub rewards: BTreeMap<String, f64>,
    /// Weights that sample the groups.
    pub policy: DrawingPolicy,
}

/// The groups of a step, drawn while an earlier one is trained.
#[derive(Default)]
pub struct DrawnAhead {
    /// The prompts.
    pub batch: TrainingBatch,
    /// Groups of the first prompts.
    pub groups: Vec<Group>,
    /// Log-probabilities of the views under the policies that drew the groups; empty where groups may still be dropped.
    pub behaviour: Vec<Vec<f32>>,
}

/// Prefetched work for the next step. Dropping it aborts the work.
pub struct Prefetch<K, T> {
    wanted: K,
    task: JoinHandle<Result<T, RunError>>,
}

impl<K: PartialEq, T: 'static> Prefetch<K, T> {
    /// Starts `work`, whose result is right for `wanted`.
    pub fn begin(wanted: K, work: impl Future<Output = Result<T, RunError>> + 'static) -> Self {
        let task = actix::spawn(work);
        Self { wanted, task }
    }

    /// Returns whether the result is right for what is wanted now.
    pub fn is_for(&self, wanted: &K) -> bool {
        self.wanted == *wanted
    }

    /// Returns the result if it was made for what is wanted now, else `None`.
    ///
    /// # Errors
    /// Any error of the work.
    pub async fn take(mut self, wanted: &K) -> Result<Option<T>, RunError> {
        if !self.is_for(wanted) {
            return Ok(None);
        }
        match (&mut self.task).await {
            Ok(made) => made.map(Some),
            // The work panicked. The step repeats it itself; if it panics again, the panic is the actor's.
            Err(_) => Ok(None),
        }
    }
}

impl<K, T> Drop for Prefetch<K, T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl BatchMaker {
    /// Draws the examples of a demand and, if `written`, makes their sequences.
    ///
    /// # Errors
    /// Any failure of the engine; an error if the sources cannot be read.
    pub async fn make(&self, demand: Demand, written: bool) -> Result<TrainingBatch, RunError> {
        let picked = self.curator.ask(demand).await??;
        if !written {
            return Ok(self.askable(picked));
        }
        let asked: Vec<(Example, Mode, bool)> = picked
            .iter()
            .map(|picked| (picked.example.clone(), picked.mode, picked.drop_condition))
            .collect();
        let made = self.inference.sequences(&self.engine, &asked).await?;
        let mut batch = TrainingBatch::default();
        for (picked, made) in picked.into_iter().zip(made) {
            match made {
                Ok(sequence) => {
                    batch.sequences.push(sequence);
                    batch.used.push(picked);
                }
                Err(error) => batch.rejected.push((picked.example, error.reason())),
            }
        }
        Ok(batch)
    }

    /// Sorts examples into those whose prompts fit and those whose prompts are too long.
    fn askable(&self, picked: Vec<TrainingExample>) -> TrainingBatch {
        let mut batch = TrainingBatch::default();
        for picked in picked {
            let reasons = picked.example.reasoning.is_some() || picked.example.kind == Kind::WordProblem;
            let mode = if reasons { Mode::Think } else { Mode::Direct };
            match self.inference.fits(&picked.example, mode) {
                Ok(()) => batch.used.push(picked),
                Err(error) => batch.rejected.push((picked.example, error.reason())),
            }
        }
        batch
    }
}
