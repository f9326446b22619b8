//! Asynchronous rollouts: sampling engines draw the next step's groups while the present step is trained.
//!
//! The groups of step i are drawn with the weights that step i - staleness began with, even if newer weights exist.
//! Tokens, rewards and weights therefore follow from the seed alone, whatever the number of engines, and also across
//! kills (law L8). These weights stay in a folder beside the checkpoints as long as a restarted life may need them (law
//! L1). If a knob is turned at the boundary in between, the groups are discarded and drawn again with the same weights
//! (law L3).

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use demask_api::{Answer, PolicyGroup, PolicySample, Request, ViewScores};
use demask_storage::Level;

use super::state::StageRun;
use crate::engine::process::unexpected;
use crate::pipeline::curation::curator::Demand;
use crate::pipeline::rollout::Group;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::PublishedPolicy;
use crate::profile::Stage;
use crate::run::prefetch::{Conditions, DrawnAhead, Prefetch};
use crate::runtime::seeds::seed_of;

/// Name of the folder of published weights, beside the checkpoints.
const POLICIES: &str = "policies";

/// The weights that a step begins with, and the weights that draw its groups.
pub(super) struct StepPolicies {
    pub(super) newest: PublishedPolicy,
    pub(super) drawing: PublishedPolicy,
    /// Seconds that publishing took.
    pub(super) seconds: f64,
}

impl StageRun {
    /// Publishes the present weights to the sampling engines and finds the weights that draw this step's groups. `None`
    /// where the training engine draws the groups itself.
    pub(super) async fn publish(&mut self, done: u64) -> Result<Option<StepPolicies>, RunError> {
        if self.context.samplers.is_empty() {
            return Ok(None);
        }
        let (began, step) = (Instant::now(), self.cursor.step);
        self.sweep_policies(step);
        let newest = PublishedPolicy {
            dir: self.policies().join(format!("step-{step:08}-{}", self.weights)),
            weights: self.weights,
        };
        fs::create_dir_all(self.policies()).map_err(|error| RunError::about(newest.dir.display(), error))?;
        let request = Request::Save {
            dir: newest.dir.clone(),
            attach: BTreeMap::new(),
            optimizer: false,
        };
        match self.context.engine.ask(request, None).await? {
            Answer::Saved { .. } => {}
            other => return Err(unexpected("saved", &other).into()),
        }
        let is_fresh = done == 0 || self.context.profile.rollouts.staleness == 0;
        let drawing = match is_fresh {
            true => Some(newest.clone()),
            false => self.published(step - 1),
        };
        let drawing = match drawing {
            Some(drawing) => drawing,
            None => {
                let message = format!(
                    "the weights that step {} began with are gone; newer ones draw this step's groups",
                    step - 1
                );
                self.alert(Level::Warn, "policy_gone", message).await?;
                newest.clone()
            }
        };
        let seconds = began.elapsed().as_secs_f64();
        Ok(Some(StepPolicies {
            newest,
            drawing,
            seconds,
        }))
    }

    /// Returns everything that determines this step's groups.
    pub(super) fn conditions(&self, demand: &Demand, policy: &PublishedPolicy) -> Conditions {
        Conditions {
            demand: demand.clone(),
            samplers: self.samplers(Some(self.temperature())),
            rewards: self.reward_weights(),
            policy: policy.clone(),
        }
    }

    /// Returns the groups that were drawn ahead for this step, if they are what is wanted now.
    pub(super) async fn take_ahead(&mut self, wanted: &Conditions) -> Result<Option<DrawnAhead>, RunError> {
        match self.ahead.take() {
            Some(ahead) => ahead.take(wanted).await,
            None => Ok(None),
        }
    }

    /// Starts to draw the next step's groups with the newest weights, unless the stage ends with this step.
    pub(super) fn begin_ahead(&mut self, stage: &Stage, done: u64, demand: Demand, newest: &PublishedPolicy) {
        if done + 1 >= stage.steps {
            return;
        }
        let step = demand.step + 1;
        let conditions = self.conditions(&Demand { step, ..demand }, newest);
        let (maker, addresses) = (self.maker(), self.addresses.clone());
        let roll = self.roll(&conditions.samplers, &conditions.rewards, Some(newest), step);
        let (seed, stage, conditioned) = (self.context.profile.seed, stage.clone(), conditions.clone());
        let work = async move {
            let batch = maker.make(conditioned.demand, false).await?;
            let first = &batch.used[..batch.used.len().min(stage.batch)];
            if first.is_empty() {
                return Ok(DrawnAhead {
                    batch,
                    ..DrawnAhead::default()
                });
            }
            let groups = addresses
                .rollout
                .address
                .ask(roll(super::rollout_groups::wanted(seed, step, &stage, first, 0)));
            let groups = groups.await??;
            // With resampling it is not known yet which of the groups are trained on.
            let behaviour = match stage.resample {
                0 => {
                    let views = view_scores(&stage, seed, step, groups.iter().map(unweighted).collect());
                    addresses.samplers.score_views(&conditioned.policy, views).await?
                }
                _ => Vec::new(),
            };
            Ok(DrawnAhead {
                batch,
                groups,
                behaviour,
            })
        };
        self.ahead = Some(Prefetch::begin(conditions, work));
    }

    /// Returns the log-probabilities of the views under the policy that drew a step's groups; empty where that is the
    /// present policy.
    pub(super) async fn behaviour(
        &self,
        stage: &Stage,
        policies: Option<&StepPolicies>,
        groups: &[PolicyGroup],
        ahead: Vec<Vec<f32>>,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let Some(policies) = policies.filter(|policies| policies.drawing != policies.newest) else {
            return Ok(Vec::new());
        };
        if !ahead.is_empty() {
            return Ok(ahead);
        }
        let views = view_scores(
            stage,
            self.context.profile.seed,
            self.cursor.step,
            groups.to_vec(),
        );
        self.addresses
            .samplers
            .score_views(&policies.drawing, views)
            .await
    }

    /// Removes all published weights, at the run's end.
    pub(super) fn forget_policies(&self) {
        fs::remove_dir_all(self.policies()).ok();
    }

    fn policies(&self) -> PathBuf {
        self.context.home.checkpoints(&self.context.run).join(POLICIES)
    }

    /// Returns the published weights that a step began with.
    fn published(&self, step: u64) -> Option<PublishedPolicy> {
        let entries = fs::read_dir(self.policies()).ok()?;
        entries.flatten().find_map(|entry| {
            let name = entry.file_name();
            let (of, weights) = parsed(name.to_str()?)?;
            (of == step).then(|| PublishedPolicy {
                dir: entry.path(),
                weights,
            })
        })
    }

    /// Removes published weights that neither this step nor a life from the last checkpoint needs for drawing, folders
    /// that were written in part, and weights that an earlier life published for this step.
    fn sweep_policies(&self, step: u64) {
        let kept = [
            self.last_checkpoint().and_then(|step| step.checked_sub(1)),
            step.checked_sub(1),
        ];
        for entry in fs::read_dir(self.policies()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let of = name.to_str().and_then(parsed).map(|(step, _)| step);
            if of.is_none_or(|of| of == step || !kept.contains(&Some(of))) {
                fs::remove_dir_all(entry.path()).ok();
            }
        }
    }
}

/// Parses the step and the weights version from a published folder's name.
fn parsed(name: &str) -> Option<(u64, u64)> {
    let (step, weights) = name.strip_prefix("step-")?.split_once('-')?;
    Some((step.parse().ok()?, weights.parse().ok()?))
}

fn view_scores(stage: &Stage, seed: u64, step: u64, groups: Vec<PolicyGroup>) -> ViewScores {
    ViewScores {
        groups,
        estimator: stage.estimator.clone(),
        inner_steps: stage.objective.inner_steps,
        seed: seed_of(seed, step, 1),
    }
}

/// Returns a group without advantages, which its log-probabilities do not need.
fn unweighted(group: &Group) -> PolicyGroup {
    let samples = group.made.iter().map(|made| PolicySample {
        sequence: made.sequence.clone(),
        advantage: 0.0,
        commit_step: made.commit_step.clone(),
    });
    PolicyGroup {
        id: String::new(),
        samples: samples.collect(),
    }
}
