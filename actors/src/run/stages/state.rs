//! One life of a run: where it is, what it works with, and the settings of its present step, as a function of (profile,
//! seed, commands).
//!
//! Step k's batch, noise and rollouts follow from the seed and k alone, and the weights are reloaded from a checkpoint
//! after a crash: what is done again is done the same, and the rows that it writes are the same rows (laws L1, L8).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demask_api::StepSettings;
use demask_rewards::benchmarks::Suites;
use demask_storage::Blobs;

use crate::control::KnobKey;
use crate::inference::complete::Inference;
use crate::inference::settings::SamplerSettings;
use crate::pipeline::addresses::Addresses;
use crate::pipeline::curation::curator::{Demand, Measure, Restore};
use crate::pipeline::curation::kept_pictures::KeptPictures;
use crate::pipeline::run_error::RunError;
use crate::profile::Stage;
use crate::run::checkpoints::{self, Cursor, Loaded};
use crate::run::context::RunContext;
use crate::run::learning_rate::learning_rate;
use crate::run::prefetch::{Conditions, DrawnAhead, Prefetch, TrainingBatch};
use crate::run::progress::Progress;
use crate::runtime::seeds::seed_of;

/// One life of a run: where it is, and what it works with.
pub struct StageRun {
    pub(crate) context: RunContext,
    pub(crate) addresses: Addresses,
    pub(crate) inference: Arc<Inference>,
    pub(crate) cursor: Cursor,
    pub(crate) blobs: Blobs,
    pub(super) pictures: KeptPictures,
    /// What the profile may name, its own among them, read once.
    pub(super) suites: Suites,
    /// Optimiser steps so far: the weights version.
    pub(crate) weights: u64,
    pub(super) progress: Progress,
    pub(super) started: Instant,
    /// For room on the disk, in the present step.
    pub(super) waited: Duration,
    /// The step whose weights are the engine's reference policy.
    pub(super) reference: Option<u64>,
    /// The next step's batch, on its way.
    pub(super) ready: Option<Prefetch<Demand, TrainingBatch>>,
    /// The next step's groups, being drawn while this one is trained.
    pub(super) ahead: Option<Prefetch<Conditions, DrawnAhead>>,
    /// Batches in a row of which nothing fitted.
    pub(super) empty_batches: u64,
}

/// What a step leaves to be done at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Go on.
    Next,
    /// A checkpoint now, whatever the interval: something was decided that must not be forgotten.
    Checkpoint,
    /// It was not done: the cursor says which step comes next.
    Again,
}

impl StageRun {
    /// Loads the run's last checkpoint, or its beginning.
    ///
    /// # Errors
    /// The engine's death; checkpoints or sources that cannot be read.
    pub async fn open(context: RunContext, addresses: Addresses) -> Result<Self, RunError> {
        let Loaded {
            inference,
            cursor,
            weights,
        } = checkpoints::load(&context, &addresses.curator).await?;
        addresses.curator.ask(Restore(cursor.traces.clone())).await??;
        // A run that is on its way was measured when it began.
        if cursor.step == 0 {
            addresses
                .curator
                .ask(Measure(inference.builder().clone()))
                .await??;
        }
        let blobs = Blobs::new(context.home.blobs());
        let suites = context.profile.suites();
        let mut run = Self {
            suites,
            context,
            addresses,
            inference,
            cursor,
            pictures: KeptPictures::new(blobs.clone()),
            blobs,
            weights,
            progress: Progress::default(),
            started: Instant::now(),
            waited: Duration::ZERO,
            reference: None,
            ready: None,
            ahead: None,
            empty_batches: 0,
        };
        run.forget();
        run.present();
        run.introduce().await?;
        run.mark_promoted().await?;
        Ok(run)
    }

    /// Steps done.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.cursor.step
    }

    /// The stage of the present step, and the steps done in it.
    pub(crate) fn place(&self) -> (Stage, u64) {
        let (number, done) = checkpoints::place(&self.context.profile, self.cursor.step);
        (self.context.profile.stages[number].clone(), done)
    }

    /// The present weights of these knobs, by name; the given ones where there is no such knob.
    pub(super) fn weights_of(
        &self,
        knob: fn(String) -> KnobKey,
        given: &BTreeMap<String, f64>,
    ) -> BTreeMap<String, f64> {
        let now = |name: &String, weight: f64| {
            let now = self.context.control.value(&knob(name.clone()));
            now.unwrap_or(weight)
        };
        given
            .iter()
            .map(|(name, &weight)| (name.clone(), now(name, weight)))
            .collect()
    }

    /// What to ask the curator for at a step, as the knobs are now.
    pub(super) fn demand(&self, stage: &Stage, size: usize, think_share: f64) -> Demand {
        let sources = self.context.profile.sources.iter();
        let given = sources.map(|source| (source.name.clone(), source.weight));
        Demand {
            step: self.cursor.step,
            size,
            mix: self.weights_of(KnobKey::Mix, &given.collect()),
            only: stage.sources.clone(),
            think_share,
        }
    }

    pub(super) fn settings(&self, stage: &Stage, done: u64) -> StepSettings {
        let profile = &self.context.profile;
        let highest = profile.highest_learning_rate();
        let knob = self.context.control.value(&KnobKey::LearningRate);
        let scale = knob.map_or(1.0, |now| now / highest.max(f64::MIN_POSITIVE));
        let rate = learning_rate(stage, done) * scale;
        StepSettings {
            learning_rate: rate * 0.5f64.powi(i32::try_from(self.cursor.halvings).unwrap_or(0)),
            clip_norm: profile.clip_norm,
            adam: profile.optimizer.clone(),
            task_weights: profile.task_weights,
            loss_normalization: profile.loss_normalization,
            block_noise: profile.block_noise,
            seed: seed_of(profile.seed, self.cursor.step, 1),
            ema: profile.ema,
            recompute: profile.recompute,
        }
    }

    pub(crate) fn samplers(&self, temperature: Option<f64>) -> SamplerSettings {
        let sampling = &self.context.profile.sampling;
        let mut text = sampling.text.clone();
        if let Some(temperature) = temperature {
            text.temperature = temperature;
        }
        SamplerSettings {
            text,
            image: sampling.image.clone(),
        }
    }

    /// The temperature of rollouts, as the knob is now.
    pub(super) fn temperature(&self) -> f64 {
        self.context
            .control
            .value(&KnobKey::Temperature)
            .or(self.context.profile.sampling.rollout_temperature)
            .unwrap_or(1.0)
    }

    /// What was loaded is what the run goes on with.
    pub(super) fn take_over(&mut self, loaded: Loaded) {
        (self.inference, self.cursor, self.weights) = (loaded.inference, loaded.cursor, loaded.weights);
        self.forget();
    }

    /// The engine has other weights: it dropped the reference policy, and what was made ready may not fit.
    pub(super) fn forget(&mut self) {
        self.reference = None;
        self.ready = None;
        self.ahead = None;
        // A step that is done again may publish other weights by the same name.
        self.addresses.samplers.forget();
    }
}
