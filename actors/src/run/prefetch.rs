//! What is made ready: step k + 1's examples are drawn, written as sequences and their pictures encoded while the engine trains step
//! k; where engines only sample, its groups are drawn too (`stages/ahead.rs`).
//!
//! It is what the step would have drawn itself (law L8): when a knob turned at the boundary between, the demand differs,
//! and what was made ready is thrown away and drawn again (law L3).

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_api::Sequence;
use demask_datasets::example::{Example, Kind, Mode};
use tokio::task::JoinHandle;

use crate::engine::actor::EngineAddress;
use crate::inference::complete::Inference;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::curation::curator::{Curator, Demand};
use crate::pipeline::curation::training_example::TrainingExample;
use crate::pipeline::rollout::Group;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::PublishedPolicy;
use crate::runtime::supervisor::Address;

/// What making a batch needs.
#[derive(Clone)]
pub struct BatchMaker {
    /// Who draws.
    pub curator: Address<Curator>,
    /// Who encodes pictures.
    pub engine: EngineAddress,
    /// Who writes sequences.
    pub inference: Arc<Inference>,
}

/// A step's batch.
#[derive(Debug, Default)]
pub struct TrainingBatch {
    /// What was drawn and fits.
    pub used: Vec<TrainingExample>,
    /// Its sequences, one each; none where only examples were asked for.
    pub sequences: Vec<Sequence>,
    /// What does not fit, and why.
    pub rejected: Vec<(Example, String)>,
}

/// All that groups are drawn by.
#[derive(Clone, PartialEq)]
pub struct Conditions {
    /// The prompts.
    pub demand: Demand,
    /// How they are completed.
    pub samplers: SamplerSettings,
    /// Weight of each reward.
    pub rewards: BTreeMap<String, f64>,
    /// The weights that draw.
    pub policy: PublishedPolicy,
}

/// A step's groups, drawn while the step before is trained.
#[derive(Default)]
pub struct DrawnAhead {
    /// The prompts.
    pub batch: TrainingBatch,
    /// Groups of the first of them.
    pub groups: Vec<Group>,
    /// The views' log-probabilities under the policy that drew them; empty where groups may still be let go of.
    pub behaviour: Vec<Vec<f32>>,
}

/// What the next step will want, on its way; nobody works on it once this is dropped.
pub struct Prefetch<K, T> {
    wanted: K,
    task: JoinHandle<Result<T, RunError>>,
}

impl<K: PartialEq, T: 'static> Prefetch<K, T> {
    /// Begins with the work, which makes what is `wanted`.
    pub fn begin(wanted: K, work: impl Future<Output = Result<T, RunError>> + 'static) -> Self {
        let task = actix::spawn(work);
        Self { wanted, task }
    }

    /// What was made, if it is what is wanted now.
    ///
    /// # Errors
    /// The work's.
    pub async fn take(mut self, wanted: &K) -> Result<Option<T>, RunError> {
        if self.wanted != *wanted {
            return Ok(None);
        }
        match (&mut self.task).await {
            Ok(made) => made.map(Some),
            // It died of a panic: the step does it itself, and the panic, if it comes again, is the actor's.
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
    /// Asks for a batch and, if it is to be `written`, makes its sequences.
    ///
    /// # Errors
    /// The engine's; sources that cannot be read.
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

    /// What can be asked of the model; a prompt that is too long is turned away.
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
