//! The `align` stage: UniGRPO on text, questions and pictures together. A step draws groups, scores them, trains on
//! them and releases them.
//!
//! The reference policy is always the weights at the stage's start. A checkpoint of them stays on disk during the
//! stage, and a life that begins in the middle of it loads them (laws L1, L8).

use std::time::Instant;

use demask_api::{Answer, PolicyReport, Request};
use demask_storage::Level;

use super::reports::{exchanged, mean};
use super::rollouts::ahead::asynchrony;
use super::state::{After, StageRun};
use crate::control::KnobKey;
use crate::engine::process::unexpected;
use crate::pipeline::run_error::RunError;
use crate::profile::Stage;
use crate::run::checkpoints::folder;
use crate::run::prefetch::DrawnAhead;

/// Steps between two watched samples.
const WATCH_EVERY: u64 = 4;

impl StageRun {
    pub(super) async fn align_step(&mut self, stage: &Stage, done: u64) -> Result<After, RunError> {
        self.set_reference(done).await?;
        let size = stage.batch * (1 + stage.resample);
        let demand = self.demand(stage, size, stage.think_share);
        let policies = self.publish(done).await?;
        let began = Instant::now();
        self.doing(&format!("drawing {} groups of {}", stage.batch, stage.group));
        let ahead = match &policies {
            Some(policies) => {
                let wanted = self.conditions(&demand, &policies.drawing);
                self.take_ahead(&wanted).await?
            }
            None => None,
        };
        let DrawnAhead {
            batch,
            groups: ready,
            behaviour,
        } = match ahead {
            Some(ahead) => ahead,
            None => DrawnAhead {
                batch: self.batch(demand.clone(), false).await?,
                ..DrawnAhead::default()
            },
        };
        self.turned_away(stage, &batch).await?;
        let picked = batch.used;
        if picked.is_empty() {
            return Ok(After::Next);
        }
        let drawing = policies.as_ref().map(|policies| &policies.drawing);
        let drawn = self.draw_groups(stage, &picked, drawing, ready).await?;
        let rollout_seconds = began.elapsed().as_secs_f64();
        if drawn.policy.is_empty() {
            self.metric(self.cursor.step, drawn.measures());
            return Ok(After::Next);
        }
        let behaviour = self
            .behaviour(stage, policies.as_ref(), &drawn, behaviour)
            .await?;
        self.doing(&format!("training on {} groups", drawn.policy.len()));
        let mut objective = stage.objective.clone();
        objective.kl = self.context.control.value(&KnobKey::Kl).unwrap_or(objective.kl);
        let training = self.training(Request::Policy {
            groups: drawn.policy.clone(),
            estimator: stage.estimator.clone(),
            objective,
            settings: self.settings(stage, done),
            behaviour,
        });
        match self.context.profile.rollouts.is_ahead() {
            true => self.begin_ahead(stage, done, &demand).await?,
            false => self.begin_prefetch(stage, done, demand, false),
        }
        let report = match training.await? {
            Answer::PolicyTrained(report) => report,
            other => return Err(unexpected("policy trained", &other).into()),
        };
        // L2: the groups were used, so the next ones may be drawn.
        let (mut measures, drawn_by) = (drawn.measures(), drawn.drawn_by());
        drop(drawn);
        let policies = policies.iter();
        measures.extend(policies.flat_map(|policies| asynchrony(policies, &drawn_by, &report)));
        if !report.finite {
            return self.not_finite("policy").await;
        }
        self.weights = report.step;
        self.measure_policy(&report, measures, rollout_seconds);
        if done.is_multiple_of(WATCH_EVERY) {
            self.watch_one(&picked, done / WATCH_EVERY).await?;
        }
        Ok(After::Next)
    }

    /// Sets the reference policy to the weights at the stage's start: at its first step the present weights, later a
    /// checkpoint's.
    async fn set_reference(&mut self, done: u64) -> Result<(), RunError> {
        let start = self.cursor.step - done;
        if self.reference == Some(start) {
            return Ok(());
        }
        // Later lives need the checkpoint of the stage's start, so without it the stage does not begin.
        if done == 0 && self.last_checkpoint() != Some(start) && !self.checkpoint("stage").await? {
            return Err(RunError::Ending);
        }
        let dir = folder(&self.context, start);
        let checkpoint = match done {
            0 => None,
            _ if dir.is_dir() => Some(dir),
            _ => {
                let message = format!(
                    "{} is missing; the present weights are used as the reference policy",
                    dir.display()
                );
                self.alert(Level::Warn, "reference", message).await?;
                None
            }
        };
        match self
            .context
            .engine
            .ask(Request::SetReference { checkpoint }, None)
            .await?
        {
            Answer::Done => self.reference = Some(start),
            other => return Err(unexpected("done", &other).into()),
        }
        Ok(())
    }

    fn measure_policy(
        &mut self,
        report: &PolicyReport,
        mut values: Vec<(String, f64)>,
        rollout_seconds: f64,
    ) {
        values.extend([
            ("policy/loss".to_owned(), mean(&report.losses)),
            ("policy/kl".to_owned(), mean(&report.kl)),
            ("policy/ratio".to_owned(), mean(&report.ratio)),
            ("policy/clipped".to_owned(), mean(&report.clipped)),
            ("policy/grad_norm".to_owned(), mean(&report.grad_norm)),
            ("rate/rollout_seconds".to_owned(), rollout_seconds),
            ("rate/policy_seconds".to_owned(), report.seconds),
        ]);
        values.extend(exchanged(&report.ranks));
        self.ranks(&report.ranks);
        self.metric(self.cursor.step, values);
    }
}
