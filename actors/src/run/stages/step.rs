//! A step of any kind of stage: it is done and measured, and the gate and the checkpoint follow at its end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use demask_storage::{Level, RunState};

use super::saving::full_disk;
use super::state::{After, StageRun};
use crate::control::PresentModel;
use crate::pipeline::run_error::{RewardFailure, RunError};
use crate::profile::{Stage, StageKind};
use crate::run::checkpoints;

impl StageRun {
    /// Does the present step and returns the step that comes next. If the step cannot be done now, that is the present
    /// step again.
    ///
    /// # Errors
    /// An error if the engine dies, or for a failure that cannot be repaired.
    pub async fn step(&mut self) -> Result<u64, RunError> {
        match self.advance().await {
            Err(RunError::Reward(failure)) => self.hold_for(&failure).await?,
            Err(RunError::Ending) => {}
            done => return done,
        }
        Ok(self.cursor.step)
    }

    /// Sets the model that the user may ask from now on.
    pub(super) fn present(&self) {
        let mut samplers = self.samplers(None);
        // The samplers are set for quality: one step per token, greedily.
        (samplers.text.steps, samplers.text.temperature) = (0, 0.0);
        self.context.control.present(PresentModel {
            inference: Arc::clone(&self.inference),
            engine: self.context.engine.clone(),
            samplers,
            pixels: self.context.profile.pixels,
            seed: self.context.profile.seed,
        });
    }

    async fn advance(&mut self) -> Result<u64, RunError> {
        if self.cursor.unjudged {
            self.judge_if_due().await?;
            // L10: a run that must end before the judgement has nothing new to save here.
            if !self.cursor.unjudged {
                self.checkpoint("interval").await?;
            }
            return Ok(self.cursor.step);
        }
        self.present();
        let (stage, done) = self.place();
        self.progress
            .enter(checkpoints::place(&self.context.profile, self.cursor.step).0);
        self.overview("", RunState::Running);
        let (began, computed) = (Instant::now(), self.context.engine.computed());
        let after = match self.work(&stage, done).await {
            Ok(after) => after,
            Err(error) => {
                self.wait_for_disk(&full_disk(error)?).await?;
                After::Again
            }
        };
        if after == After::Again {
            // The next try is timed by itself.
            self.waited = Duration::ZERO;
            return Ok(self.cursor.step);
        }
        let step = self.cursor.step;
        self.cursor.step += 1;
        self.end_of_step(&stage, done, after).await?;
        let waited = std::mem::take(&mut self.waited);
        let seconds = began.elapsed().saturating_sub(waited).as_secs_f64();
        // The share must stay finite: a division by zero would give a value that watchers cannot show.
        let share = match self.context.engine.computed() - computed {
            computed if seconds > 0.0 => computed / seconds,
            _ => 0.0,
        };
        self.metric(
            step,
            vec![
                ("rate/step_seconds".into(), seconds),
                ("rate/overhead".into(), 1.0 - share),
            ],
        );
        self.progress.stepped(seconds);
        self.context
            .control
            .report(|overview| overview.devices.iter_mut().for_each(|device| device.busy = share));
        self.overview("", RunState::Running);
        Ok(self.cursor.step)
    }

    /// Pauses the run until the user resumes it. The step is then done as if it had never been tried (laws L1, L8).
    async fn hold_for(&self, failure: &RewardFailure) -> Result<(), RunError> {
        // A benchmark that the reward scores asks it whatever its weight is.
        let is_of_groups = self.place().0.kind == StageKind::Align && !self.cursor.unjudged;
        let without = match is_of_groups {
            true => format!("; `demask set reward.{}=0` continues without it", failure.name),
            false => String::new(),
        };
        let message = format!(
            "{failure}. The run is paused before step {} and nothing is lost: fix the reward, then \
             `demask resume`{without}",
            self.cursor.step
        );
        self.context.control.hold(&message);
        self.alert(Level::Error, "reward_failed", message).await
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

    /// Saves the checkpoint that is due after a step. The gate judges before it, where the profile has suites for it.
    async fn end_of_step(&mut self, stage: &Stage, done: u64, after: After) -> Result<(), RunError> {
        let evaluates = stage.kind == StageKind::Evaluate;
        let ends = done + 1 == stage.steps && !evaluates;
        let every = self.context.profile.checkpoint.every_steps;
        let due = self.cursor.step.is_multiple_of(every);
        let gate = &self.context.profile.gate;
        self.cursor.unjudged = due && !evaluates && gate.enabled && !gate.suites.is_empty();
        self.judge_if_due().await?;
        if due || ends || after == After::Checkpoint {
            self.checkpoint(if ends { "stage" } else { "interval" }).await?;
        }
        // No life begins before this checkpoint, so no groups of this stage will be drawn again.
        if ends && self.last_checkpoint() == Some(self.cursor.step) {
            self.forget_policies().await?;
        }
        Ok(())
    }

    /// Judges the weights at a regular checkpoint. If the daemon is ending, the judgement stays due and the next life
    /// makes it, so that a stopped run makes the same decisions as an uninterrupted one (law L8). A full disk, on which
    /// the judged pictures have no room, is waited for, as in a step.
    async fn judge_if_due(&mut self) -> Result<(), RunError> {
        let gate = self.context.profile.gate.clone();
        while self.cursor.unjudged {
            match self.judge_weights(&gate.suites, gate.limit).await {
                Ok(Some(_)) => self.cursor.unjudged = false,
                Ok(None) => break,
                Err(error) => {
                    if !self.wait_for_disk(&full_disk(error)?).await? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the judgement of the last weights, if it is still due, and saves the last checkpoint and the marker of the
    /// promoted one, when all steps are done. Returns whether the run is done with that. It is not if the run must end
    /// before, or is paused.
    ///
    /// # Errors
    /// As [`Self::step`].
    pub async fn finish(&mut self) -> Result<bool, RunError> {
        match self.conclude().await {
            Err(RunError::Reward(failure)) => self.hold_for(&failure).await?,
            Err(RunError::Ending) => {}
            done => return done,
        }
        Ok(false)
    }

    async fn conclude(&mut self) -> Result<bool, RunError> {
        // The judgement may set the best checkpoint, or return to its weights, so a checkpoint follows it.
        let was_unjudged = self.cursor.unjudged;
        if was_unjudged && self.context.control.is_paused() {
            return Ok(false);
        }
        self.judge_if_due().await?;
        if self.cursor.unjudged {
            return Ok(false);
        }
        let is_saved = self.last_checkpoint() == Some(self.cursor.step);
        if (was_unjudged || !is_saved) && !self.checkpoint("stage").await? {
            return Ok(false);
        }
        // L1: a run that is done has no next life that would write it.
        if !self.mark_promoted().await? {
            return Ok(false);
        }
        self.forget_policies().await?;
        self.overview("", RunState::Done);
        Ok(true)
    }
}
