//! The state of one life of a run: its position, its resources, and the settings of its present step as a function of
//! (profile, seed, commands).
//!
//! The batch, the noise and the rollouts of step k follow from the seed and k alone, and the weights are reloaded from
//! a checkpoint after a crash. A step that is done again is therefore the same, and writes the same rows (laws L1, L8).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use demask_api::StepSettings;
use demask_rewards::benchmarks::Suites;
use demask_storage::{Blobs, journal, store};
use tokio::sync::Mutex;

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
use crate::runtime::disk::of_store;
use crate::runtime::seeds::seed_of;

/// One life of a run: its position and its resources.
pub struct StageRun {
    pub(crate) context: RunContext,
    pub(crate) addresses: Addresses,
    pub(crate) inference: Arc<Inference>,
    pub(crate) cursor: Cursor,
    pub(crate) blobs: Blobs,
    pub(super) pictures: KeptPictures,
    /// Suites that the profile may name, including its own. They are read once.
    pub(super) suites: Suites,
    /// Weights version: the number of optimizer steps so far.
    pub(crate) weights: u64,
    pub(super) progress: Progress,
    pub(super) started: Instant,
    /// Time that the present step has waited for room on the disk.
    pub(super) waited: Duration,
    /// Steps of checkpoints that could not be removed, and that were told of.
    pub(super) unremoved: BTreeSet<u64>,
    /// Step whose weights are the engine's reference policy.
    pub(super) reference: Option<u64>,
    /// Prefetched batch of the next step.
    pub(super) ready: Option<Prefetch<Demand, TrainingBatch>>,
    /// Groups of the next steps, which are drawn while this step is trained, by their step.
    pub(super) ahead: BTreeMap<u64, Prefetch<Conditions, DrawnAhead>>,
    /// Held while the groups of one of these steps are drawn.
    pub(super) ahead_turn: Arc<Mutex<()>>,
    /// Consecutive batches of which no example fitted.
    pub(super) empty_batches: u64,
    /// When the ranks of the last reported step joined their world, and how often they were started again.
    pub(super) world: Option<(i64, u64)>,
}

/// The continuation of a stage after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// The next step.
    Next,
    /// A checkpoint at once, outside the interval, because a decision was made that must not be lost.
    Checkpoint,
    /// Another try, because the step was not done. The cursor has the step that comes next.
    Again,
}

impl StageRun {
    /// Loads the run's last checkpoint, or its start.
    ///
    /// # Errors
    /// An error if the engine dies, or if checkpoints or sources cannot be read.
    pub async fn open(context: RunContext, addresses: Addresses) -> Result<Self, RunError> {
        let Loaded {
            inference,
            cursor,
            weights,
        } = checkpoints::load(&context, &addresses.curator).await?;
        addresses.curator.ask(Restore(cursor.traces.clone())).await??;
        // A run with steps done was measured when it began.
        if cursor.step == 0 {
            addresses
                .curator
                .ask(Measure(inference.builder().clone()))
                .await??;
        }
        let blobs = Blobs::new(context.home.blobs());
        let suites = context.profile.suites();
        let world = match context.profile.engine.ranks {
            Some(_) => {
                let (path, run) = (context.home.database(), context.run.clone());
                of_store(move || journal::world(&store::open_read_only(&path)?, &run)).await?
            }
            None => None,
        };
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
            unremoved: BTreeSet::new(),
            reference: None,
            ready: None,
            ahead: BTreeMap::new(),
            ahead_turn: Arc::default(),
            empty_batches: 0,
            world,
        };
        run.forget();
        run.present();
        run.introduce().await?;
        run.mark_promoted().await?;
        Ok(run)
    }

    /// Returns the number of steps done.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.cursor.step
    }

    /// Returns the stage of the present step, and the number of steps done in it.
    pub(crate) fn place(&self) -> (Stage, u64) {
        let (number, done) = checkpoints::place(&self.context.profile, self.cursor.step);
        (self.context.profile.stages[number].clone(), done)
    }

    /// Returns the present weights of these knobs by name; the given weight where there is no such knob.
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

    /// Returns the demand on the curator for the present step, with the knobs' present values.
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

    /// Returns the temperature of rollouts, from its knob.
    pub(super) fn temperature(&self) -> f64 {
        self.context
            .control
            .value(&KnobKey::Temperature)
            .or(self.context.profile.sampling.rollout_temperature)
            .unwrap_or(1.0)
    }

    /// Continues the run with what was loaded.
    pub(super) fn take_over(&mut self, loaded: Loaded) {
        (self.inference, self.cursor, self.weights) = (loaded.inference, loaded.cursor, loaded.weights);
        self.forget();
    }

    /// Drops what depended on the engine's earlier weights: the engine has lost its reference policy, and prefetched
    /// work may not fit.
    pub(super) fn forget(&mut self) {
        self.reference = None;
        self.ready = None;
        self.ahead.clear();
    }
}
