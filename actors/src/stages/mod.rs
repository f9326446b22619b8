//! A run's stages, step by step, as a function of (profile, seed, commands).
//!
//! Step k's batch, noise and rollouts follow from the seed and k alone, and the weights are reloaded from a checkpoint
//! after a crash: what is done again is done the same, and the rows that it writes are the same rows (laws L1, L8).

mod align;
mod evaluate;
mod groups;
mod pace;
mod reason;
mod tokenizer;
mod train;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use demask_api::StepSettings;
use demask_storage::{Alert, Blobs, DeviceView, Level, Metric, Record, StageView};

use self::pace::Pace;
use crate::checkpoints::{self, Cursor, Loaded};
use crate::crew::Crew;
use crate::curating::{Draw, Restore};
use crate::job::Job;
use crate::profile::{Profile, Stage, StageKind};
use crate::ready::Ready;
use crate::run_error::RunError;
use crate::seeds::seed_of;
use crate::workbench::{Draws, Workbench};

/// How long to wait before a full disk is tried again.
const DISK_RETRY: Duration = Duration::from_secs(2);

/// One life of a run: where it is, and what it works with.
pub struct StageRun {
    pub(crate) job: Job,
    pub(crate) crew: Crew,
    pub(crate) bench: Arc<Workbench>,
    pub(crate) cursor: Cursor,
    pub(crate) blobs: Blobs,
    /// Optimiser steps so far: the weights version.
    pub(crate) weights: u64,
    pace: Pace,
    started: Instant,
    /// For room on the disk, in the present step.
    waited: Duration,
    /// The step whose weights are the engine's reference policy.
    reference: Option<u64>,
    /// The next step's batch, on its way.
    ready: Option<Ready>,
    /// Batches in a row of which nothing fitted.
    barren: u64,
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
    pub async fn open(job: Job, crew: Crew) -> Result<Self, RunError> {
        let Loaded {
            bench,
            cursor,
            weights,
        } = checkpoints::load(&job, &crew.curator).await?;
        crew.curator.ask(Restore(cursor.traces.clone())).await??;
        let blobs = Blobs::new(job.home.blobs());
        let mut run = Self {
            job,
            crew,
            bench,
            cursor,
            blobs,
            weights,
            pace: Pace::default(),
            started: Instant::now(),
            waited: Duration::ZERO,
            reference: None,
            ready: None,
            barren: 0,
        };
        run.introduce().await?;
        run.mark_promoted().await?;
        Ok(run)
    }

    async fn introduce(&self) -> Result<(), RunError> {
        let (pid, device) = self.job.engine.who().await?;
        let pid = u64::from(pid);
        self.job.control.report(|overview| {
            overview.last_checkpoint = (self.cursor.step > 0).then_some(self.cursor.step);
            overview.devices = vec![DeviceView {
                name: device.name.clone(),
                compute: device.compute.clone(),
                threads: device.threads as u64,
                pid,
                memory: resident(pid),
                busy: 0.0,
            }];
        });
        Ok(())
    }

    /// Steps done.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.cursor.step
    }

    /// Does the present step, or finds that it must be done later; the step that comes next.
    ///
    /// # Errors
    /// The engine's death; what nobody can mend.
    pub async fn step(&mut self) -> Result<u64, RunError> {
        if self.cursor.unjudged {
            self.judge_if_due().await?;
            self.checkpoint("interval").await?;
            return Ok(self.cursor.step);
        }
        let (stage, done) = self.place();
        self.pace
            .enter(checkpoints::place(&self.job.profile, self.cursor.step).0);
        self.overview("", "running");
        let (began, computed) = (Instant::now(), self.job.engine.computed());
        let after = match self.work(&stage, done).await {
            Ok(after) => after,
            Err(error) => match checkpoints::disk_full(&error) {
                Some(why) => {
                    self.wait_for_disk(&why).await?;
                    After::Again
                }
                None => return Err(error),
            },
        };
        if after == After::Again {
            return Ok(self.cursor.step);
        }
        let step = self.cursor.step;
        self.cursor.step += 1;
        self.end_of_step(&stage, done, after).await?;
        let waited = std::mem::take(&mut self.waited);
        let seconds = began.elapsed().saturating_sub(waited).as_secs_f64();
        let share = (self.job.engine.computed() - computed) / seconds;
        self.metric(
            step,
            vec![
                ("rate/step_seconds".into(), seconds),
                ("rate/overhead".into(), 1.0 - share),
            ],
        );
        self.pace.stepped(seconds);
        self.job
            .control
            .report(|overview| overview.devices.iter_mut().for_each(|device| device.busy = share));
        self.overview("", "running");
        Ok(self.cursor.step)
    }

    async fn work(&mut self, stage: &Stage, done: u64) -> Result<After, RunError> {
        match stage.kind {
            StageKind::Tokenizer => self.tokenizer_step(stage, done).await,
            StageKind::Pretrain => self.train_step(stage, done, 0.0).await,
            StageKind::Finetune => self.train_step(stage, done, stage.think_share).await,
            StageKind::Reason => self.reason_step(stage, done).await,
            StageKind::Align => self.align_step(stage, done).await,
            StageKind::Evaluate => self.evaluate_step(stage).await,
        }
    }

    /// The checkpoint after a step, and the gate before it where the profile has suites for it.
    async fn end_of_step(&mut self, stage: &Stage, done: u64, after: After) -> Result<(), RunError> {
        let evaluates = stage.kind == StageKind::Evaluate;
        let ends = done + 1 == stage.steps && !evaluates;
        let every = self.job.profile.checkpoint.every_steps;
        let due = self.cursor.step.is_multiple_of(every);
        let gate = &self.job.profile.gate;
        self.cursor.unjudged = due && !evaluates && gate.enabled && !gate.suites.is_empty();
        self.judge_if_due().await?;
        if due || ends || after == After::Checkpoint {
            self.checkpoint(if ends { "stage" } else { "interval" }).await?;
        }
        Ok(())
    }

    /// The gate at an interval checkpoint. It stays due when the daemon is ending, and is made up for by the next life, so
    /// that a stopped run decides what an uninterrupted one does (law L8).
    async fn judge_if_due(&mut self) -> Result<(), RunError> {
        if self.cursor.unjudged {
            let gate = self.job.profile.gate.clone();
            self.cursor.unjudged = self.judge_weights(&gate.suites, gate.limit).await?.is_none();
        }
        Ok(())
    }

    /// The last checkpoint, when all steps are done.
    ///
    /// # Errors
    /// As [`Self::checkpoint`].
    pub async fn finish(&mut self) -> Result<(), RunError> {
        if self.last_checkpoint() != Some(self.cursor.step) {
            self.checkpoint("stage").await?;
        }
        self.overview("", "done");
        Ok(())
    }

    pub(crate) fn last_checkpoint(&self) -> Option<u64> {
        self.job.control.overview().last_checkpoint
    }

    /// Writes a checkpoint of the present step; waits while the disk is full, but not when the daemon is ending: the run
    /// goes on from the checkpoint before, and does the same steps again (laws L1, L8).
    ///
    /// # Errors
    /// The engine's death; a folder that cannot be written.
    pub async fn checkpoint(&mut self, reason: &str) -> Result<(), RunError> {
        loop {
            let saved = checkpoints::save(&self.job, &self.bench, &self.cursor, self.weights, reason);
            match saved.await {
                Ok(()) => break,
                Err(error) => match checkpoints::disk_full(&error) {
                    Some(_) if self.job.control.halting() => return Ok(()),
                    Some(why) => self.wait_for_disk(&why).await?,
                    None => return Err(error),
                },
            }
        }
        self.mark_promoted().await?;
        checkpoints::prune(&self.job, &self.cursor).await
    }

    /// Says beside the checkpoints which one is promoted; waits while the disk is full.
    async fn mark_promoted(&mut self) -> Result<(), RunError> {
        while let Some(best) = self.cursor.best.clone().filter(|_| !self.job.control.halting()) {
            match checkpoints::mark_promoted(&self.job, &best) {
                Ok(()) => break,
                Err(error) => match checkpoints::disk_full(&error) {
                    Some(why) => self.wait_for_disk(&why).await?,
                    None => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// The stage of the present step, and the steps done in it.
    pub(crate) fn place(&self) -> (Stage, u64) {
        let (number, done) = checkpoints::place(&self.job.profile, self.cursor.step);
        (self.job.profile.stages[number].clone(), done)
    }

    /// The present weights of knobs named `PREFIX.NAME`.
    fn weights_of(&self, prefix: &str, given: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
        let now = |name: &String, weight: f64| {
            let knob = self.job.control.value(&format!("{prefix}.{name}"));
            knob.unwrap_or(weight)
        };
        given
            .iter()
            .map(|(name, &weight)| (name.clone(), now(name, weight)))
            .collect()
    }

    /// What to ask the curator for at a step, as the knobs are now.
    fn demand(&self, stage: &Stage, size: usize, think_share: f64) -> Draw {
        let sources = self.job.profile.sources.iter();
        let given = sources.map(|source| (source.name.clone(), source.weight));
        Draw {
            step: self.cursor.step,
            size,
            mix: self.weights_of("mix", &given.collect()),
            only: stage.sources.clone(),
            think_share,
        }
    }

    fn settings(&self, stage: &Stage, done: u64) -> StepSettings {
        let profile = &self.job.profile;
        let highest = highest_rate(profile);
        let knob = self.job.control.value("learning_rate");
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
        }
    }

    pub(crate) fn draws(&self, temperature: Option<f64>) -> Draws {
        let sampling = &self.job.profile.sampling;
        let mut text = sampling.text.clone();
        if let Some(temperature) = temperature {
            text.temperature = temperature;
        }
        Draws {
            text,
            image: sampling.image.clone(),
        }
    }

    /// The temperature of rollouts, as the knob is now.
    fn temperature(&self) -> f64 {
        self.job
            .control
            .value("temperature")
            .or(self.job.profile.sampling.rollout_temperature)
            .unwrap_or(1.0)
    }

    /// Back to the last checkpoint with the learning rate halved, a few times at most.
    async fn not_finite(&mut self, what: &str) -> Result<After, RunError> {
        let limit = self.job.profile.limits.not_finite;
        if self.cursor.halvings >= limit {
            let message = format!("the {what} was not finite again after {limit} returns to a checkpoint");
            self.alert(Level::Error, "not_finite", message.clone()).await?;
            return Err(RunError::Failed(message));
        }
        let halvings = self.cursor.halvings + 1;
        let message = format!(
            "the {what} was not finite at step {}; back to the last checkpoint, learning rate halved",
            self.cursor.step
        );
        self.alert(Level::Warn, "not_finite", message).await?;
        let loaded = checkpoints::load(&self.job, &self.crew.curator).await?;
        self.take_over(loaded);
        self.cursor.halvings = halvings;
        self.crew
            .curator
            .ask(Restore(self.cursor.traces.clone()))
            .await??;
        Ok(After::Again)
    }

    /// What was loaded is what the run goes on with.
    fn take_over(&mut self, loaded: Loaded) {
        (self.bench, self.cursor, self.weights) = (loaded.bench, loaded.cursor, loaded.weights);
        self.forget();
    }

    /// The engine has other weights: it dropped the reference policy, and what was made ready may not fit.
    fn forget(&mut self) {
        self.reference = None;
        self.ready = None;
    }

    /// Says it, once a wait, and waits a while.
    async fn wait_for_disk(&mut self, why: &str) -> Result<(), RunError> {
        let message = format!("the disk is full ({why}); waiting for room, nothing is lost");
        let waits = self.job.control.overview().state == "waiting_disk";
        self.overview(&message, "waiting_disk");
        if !waits {
            self.alert(Level::Error, "disk_full", message).await?;
        }
        tokio::time::sleep(DISK_RETRY).await;
        self.waited += DISK_RETRY;
        Ok(())
    }

    pub(crate) async fn alert(&self, level: Level, kind: &str, message: String) -> Result<(), RunError> {
        let alert = Alert {
            run: self.job.run.clone(),
            step: self.cursor.step,
            level,
            kind: kind.to_owned(),
            message,
        };
        Ok(self.job.recorder.record(Record::Alert(alert)).await?)
    }

    fn metric(&self, step: u64, values: Vec<(String, f64)>) {
        let run = self.job.run.clone();
        self.job
            .recorder
            .offer(Record::Metric(Metric { run, step, values }));
    }

    /// What the present step is at, in words.
    fn doing(&self, what: &str) {
        self.job
            .control
            .report(|overview| what.clone_into(&mut overview.detail));
    }

    fn overview(&self, detail: &str, state: &str) {
        let stages = stage_views(&self.job.profile, self.cursor.step);
        let present = stages.iter().position(|stage| stage.done < stage.total);
        let stage = present.unwrap_or(stages.len().saturating_sub(1));
        let eta = stages
            .get(stage)
            .and_then(|view| self.pace.eta_s(stage, view.total - view.done));
        self.job.control.report(|overview| {
            state.clone_into(&mut overview.state);
            detail.clone_into(&mut overview.detail);
            overview.step = self.cursor.step;
            overview.stages = stages;
            overview.stage = stage;
            overview.tokens_per_s = self.pace.tokens_per_s();
            overview.eta_s = eta;
            overview.elapsed_s = self.started.elapsed().as_secs_f64();
        });
    }
}

fn stage_views(profile: &Profile, step: u64) -> Vec<StageView> {
    let mut left = step;
    let view = |stage: &Stage| {
        let done = left.min(stage.steps);
        left -= done;
        StageView {
            name: stage.name.clone(),
            kind: stage.kind.word().to_owned(),
            done,
            total: stage.steps,
        }
    };
    profile.stages.iter().map(view).collect()
}

/// The highest learning rate of the stages: what the knob says.
#[must_use]
pub fn highest_rate(profile: &Profile) -> f64 {
    let trains = |stage: &&Stage| !matches!(stage.kind, StageKind::Evaluate | StageKind::Reason);
    let rates = profile
        .stages
        .iter()
        .filter(trains)
        .map(|stage| stage.learning_rate);
    rates.fold(0.0, f64::max)
}

/// Linear warm-up, then a cosine down to `final_rate` of the highest rate.
#[must_use]
pub fn learning_rate(stage: &Stage, done: u64) -> f64 {
    if done < stage.warmup {
        return stage.learning_rate * (done + 1) as f64 / stage.warmup as f64;
    }
    let span = (stage.steps - stage.warmup.min(stage.steps)).max(1) as f64;
    let progress = ((done - stage.warmup) as f64 / span).min(1.0);
    let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
    stage.learning_rate * (stage.final_rate + (1.0 - stage.final_rate) * cosine)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Resident memory of a process in bytes; 0 where it is not known.
fn resident(pid: u64) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text
        .split_whitespace()
        .nth(1)
        .and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0_u64) * 4096
}
