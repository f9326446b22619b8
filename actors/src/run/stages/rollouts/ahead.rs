//! Asynchronous rollouts: sampling engines draw the next steps' groups while the present step is trained.
//!
//! In mode `exact`, the groups of step i are drawn with the weights that step i - staleness began with, even if newer
//! weights exist. Tokens, rewards and weights therefore follow from the seed alone, whatever the number of engines, and
//! also across kills (law L8). These weights stay in a folder beside the checkpoints as long as a restarted life may
//! need them (law L1). In mode `freshest`, a group is drawn with the newest weights when it is admitted; no step's
//! groups are begun more than `staleness` steps ahead, so that no group is staler. If a knob is turned at a boundary in
//! between, the groups are discarded and drawn again (law L3).

use demask_api::{PolicyGroup, PolicyReport, PolicySample, ViewScores};

use super::rollout_groups::{RolloutGroups, wanted};
use crate::pipeline::curation::curator::Demand;
use crate::pipeline::rollout::Group;
use crate::pipeline::run_error::RunError;
use crate::pipeline::sampling_engines::{DrawingPolicy, PublishedPolicy};
use crate::profile::Stage;
use crate::run::prefetch::{Conditions, DrawnAhead, Prefetch};
use crate::run::stages::publication::StepPolicies;
use crate::run::stages::reports::mean;
use crate::run::stages::state::StageRun;
use crate::runtime::seeds::seed_of;

impl StageRun {
    /// Returns everything that determines a step's groups.
    pub(crate) fn conditions(&self, demand: &Demand, policy: &DrawingPolicy) -> Conditions {
        Conditions {
            demand: demand.clone(),
            samplers: self.samplers(Some(self.temperature())),
            rewards: self.reward_weights(),
            policy: policy.clone(),
        }
    }

    /// Returns the groups that were drawn ahead for this step, if they are what is wanted now.
    pub(crate) async fn take_ahead(&mut self, wanted: &Conditions) -> Result<Option<DrawnAhead>, RunError> {
        match self.ahead.remove(&wanted.demand.step) {
            Some(ahead) => ahead.take(wanted).await,
            None => Ok(None),
        }
    }

    /// Starts to draw the groups of the next steps of the stage, as many as the staleness, unless they are being drawn.
    pub(crate) async fn begin_ahead(
        &mut self,
        stage: &Stage,
        done: u64,
        demand: &Demand,
    ) -> Result<(), RunError> {
        let present = demand.step;
        let start = present - done;
        let last = (present + self.context.profile.rollouts.staleness).min(start + stage.steps - 1);
        self.ahead.retain(|&step, _| step > present && step <= last);
        for step in present + 1..=last {
            // A step whose weights are gone draws its groups itself, and says so.
            let Some(policy) = self.drawing_policy(start, step).await? else {
                continue;
            };
            let demand = Demand {
                step,
                ..demand.clone()
            };
            let conditions = self.conditions(&demand, &policy);
            if !self
                .ahead
                .get(&step)
                .is_some_and(|ahead| ahead.is_for(&conditions))
            {
                let ahead = self.draw_ahead(stage, conditions);
                self.ahead.insert(step, ahead);
            }
        }
        Ok(())
    }

    /// Draws the groups of a later step, after those of the steps before it.
    fn draw_ahead(&self, stage: &Stage, conditions: Conditions) -> Prefetch<Conditions, DrawnAhead> {
        let step = conditions.demand.step;
        let (maker, addresses) = (self.maker(), self.addresses.clone());
        let roll = self.roll(
            &conditions.samplers,
            &conditions.rewards,
            Some(&conditions.policy),
            step,
        );
        let (seed, stage, demand) = (
            self.context.profile.seed,
            stage.clone(),
            conditions.demand.clone(),
        );
        // Of two steps the earlier one is needed first, and an engine does not change its weights in between.
        let turn = self.ahead_turn.clone();
        let work = async move {
            let _turn = turn.lock_owned().await;
            let batch = maker.make(demand, false).await?;
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
                .ask(roll(wanted(seed, step, &stage, first, 0)));
            let groups = groups.await??;
            // With resampling it is not known yet which of the groups are trained on.
            let behaviour = match stage.resample {
                0 => {
                    let views = view_scores(&stage, seed, step, groups.iter().map(unweighted).collect());
                    let drawn_by: Vec<PublishedPolicy> =
                        groups.iter().filter_map(|group| group.policy.clone()).collect();
                    addresses.samplers.score_views(&drawn_by, views).await?
                }
                _ => Vec::new(),
            };
            Ok(DrawnAhead {
                batch,
                groups,
                behaviour,
            })
        };
        Prefetch::begin(conditions, work)
    }

    /// Returns the log-probabilities of the views under the policies that drew a step's groups; empty where that is the
    /// present policy. `ahead` are those that were computed when the groups were drawn.
    pub(crate) async fn behaviour(
        &self,
        stage: &Stage,
        policies: Option<&StepPolicies>,
        drawn: &RolloutGroups,
        ahead: Vec<Vec<f32>>,
    ) -> Result<Vec<Vec<f32>>, RunError> {
        let drawn_by = drawn.drawn_by();
        let Some(policies) = policies else {
            return Ok(Vec::new());
        };
        if drawn_by.iter().all(|policy| *policy == policies.newest) {
            return Ok(Vec::new());
        }
        if !ahead.is_empty() {
            return Ok(ahead);
        }
        let (seed, step) = (self.context.profile.seed, self.cursor.step);
        let views = view_scores(stage, seed, step, drawn.policy.clone());
        self.addresses.samplers.score_views(&drawn_by, views).await
    }
}

/// Measures how far sampling and training weights differ.
pub(crate) fn asynchrony(
    policies: &StepPolicies,
    drawn_by: &[PublishedPolicy],
    report: &PolicyReport,
) -> Vec<(String, f64)> {
    let present = policies.newest.step;
    let staleness: Vec<f64> = drawn_by
        .iter()
        .map(|policy| present.saturating_sub(policy.step) as f64)
        .collect();
    let mut values = vec![
        ("async/staleness".to_owned(), mean(&staleness)),
        (
            "async/staleness_max".to_owned(),
            staleness.iter().copied().fold(0.0, f64::max),
        ),
        ("async/publish_seconds".to_owned(), policies.seconds),
    ];
    if let Some(behaviour) = report.behaviour {
        values.push(("async/behaviour_weight".to_owned(), behaviour.weight));
        values.push(("async/logprob_gap".to_owned(), behaviour.gap));
    }
    values
}

fn view_scores(stage: &Stage, seed: u64, step: u64, groups: Vec<PolicyGroup>) -> ViewScores {
    ViewScores {
        groups,
        numbers: Vec::new(),
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
