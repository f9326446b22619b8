//! A policy step: several optimizer steps on the same scored groups.
//!
//! Each inner step maximises the clipped token ratio times the group advantage, minus a k3 penalty on the divergence
//! from the reference. The mean is over a sample's masked tokens and then over samples, or over all tokens alike. The
//! views of all inner steps are planned and scored before the first inner step, at which every ratio is therefore 1
//! (law L7).

use std::time::Instant;

use demask_api::{EstimatorConfig, ObjectiveConfig, PolicyGroup, PolicyReport, PolicySample, StepSettings};

use super::objective::{SUMS, Tally, behaviour_report, descend_on};
use super::validation;
use super::views::{DrawnSamples, InnerViews, Policies, ScoredRows, prepare};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::interlude::{Interlude, Pause, Uninterrupted};
use crate::training::optimizer::{AdamW, Snapshot};
use crate::training::ranks::Share;
use crate::training::step::retried;
use crate::training::{gradients, threads};

/// Takes `inner_steps` optimizer steps on the groups. If one of them fails or is not finite, the weights and the
/// optimizer are restored to their state before the first, and no gradient is left.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) if a sample or a setting is invalid, or any error libtorch
/// reports.
pub fn train(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    reference: Option<&Backbone>,
    groups: &[PolicyGroup],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    settings: &StepSettings,
) -> Result<PolicyReport> {
    let asked = PolicyRequest {
        groups,
        estimator,
        objective,
        settings,
        behaviour: &[],
    };
    train_with(backbone, optimizer, reference, asked, &mut Uninterrupted)
}

/// The inputs of a policy step.
#[derive(Clone, Copy, Debug)]
pub struct PolicyRequest<'a> {
    /// The scored groups.
    pub groups: &'a [PolicyGroup],
    /// The estimator, which plans the masked views of each completion.
    pub estimator: &'a EstimatorConfig,
    /// The objective that is maximised.
    pub objective: &'a ObjectiveConfig,
    /// The settings of the optimizer, and the seed.
    pub settings: &'a StepSettings,
    /// The log-probabilities under the policy that drew the samples ([`score_views`](super::score_views)). Empty if the
    /// current weights drew them.
    pub behaviour: &'a [Vec<f32>],
}

/// Trains as [`train`] does, and lets an interlude run between two micro-batches of a step.
///
/// # Errors
/// The errors of [`train`] and of the interlude.
pub fn train_with(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    reference: Option<&Backbone>,
    asked: PolicyRequest<'_>,
    interlude: &mut dyn Interlude,
) -> Result<PolicyReport> {
    let PolicyRequest {
        groups,
        estimator,
        objective,
        settings,
        behaviour,
    } = asked;
    let started = Instant::now();
    backbone.trained().trainable()?;
    validation::check(backbone.config(), groups, estimator, objective, settings)?;
    let samples: Vec<&PolicySample> = groups.iter().flat_map(|group| &group.samples).collect();
    validation::behaviour(behaviour, samples.len(), objective.inner_steps)?;
    let step = PolicyStep {
        drawn: DrawnSamples {
            samples: &samples,
            behaviour,
        },
        estimator,
        objective,
        settings,
    };
    let lengths = samples
        .iter()
        .map(|sample| sample.sequence.ids.len() - sample.sequence.left_pad);
    let longest = lengths.max().unwrap_or(0);
    // With a KL weight of 0 the reference is not needed.
    let reference = reference.filter(|_| objective.kl != 0.0);
    let tokens = backbone.policy_tokens() * threads::at_once(backbone);
    backbone.work_room_out(optimizer.aside(&settings.adam), tokens, settings.recompute);
    let share = optimizer.share().cloned();
    share.iter().for_each(Share::begin_report);
    let mut report = retried(backbone, longest, |backbone| {
        step.run(backbone, optimizer, reference, interlude)
    })?;
    report.seconds = started.elapsed().as_secs_f64();
    if let Some(share) = share {
        report.ranks = share.reports(report.seconds)?;
    }
    Ok(report)
}

/// Makes all ranks agree whether a piece of work, which each of them has done, succeeded. A process that trains alone
/// keeps its own result.
fn agreed<T>(share: Option<&Share>, done: Result<T>) -> Result<T> {
    match share {
        Some(share) => share.agree(done),
        None => done,
    }
}

/// A policy step whose inputs have been checked.
struct PolicyStep<'a> {
    drawn: DrawnSamples<'a>,
    estimator: &'a EstimatorConfig,
    objective: &'a ObjectiveConfig,
    settings: &'a StepSettings,
}

impl PolicyStep<'_> {
    /// Runs all inner steps. Restores the weights and the optimizer if one of them fails or is not finite.
    fn run(
        &self,
        backbone: &mut Backbone,
        optimizer: &mut AdamW,
        reference: Option<&Backbone>,
        interlude: &mut dyn Interlude,
    ) -> Result<PolicyReport> {
        let policies = Policies { backbone, reference };
        let (objective, seed) = (self.objective, self.settings.seed);
        // Each rank scores all views. The ranks agree on the success before their next collective call, because a rank
        // that failed would not take part in it.
        let share = optimizer.share().cloned();
        let mut views: Vec<InnerViews> = Vec::with_capacity(objective.inner_steps);
        for inner in 0..objective.inner_steps {
            let step = (seed, inner);
            let scored = prepare(policies, self.drawn, self.estimator, objective, step, interlude);
            views.push(agreed(share.as_ref(), scored)?);
        }
        // A single inner step changes nothing until it is known to be finite. With several, an earlier one has already
        // changed the weights when a later one fails, so a snapshot is needed.
        let before = (objective.inner_steps > 1)
            .then(|| optimizer.snapshot(backbone.trained()))
            .transpose();
        let before = agreed(share.as_ref(), before)?;
        let mut report = self.inner_steps(backbone, optimizer, &mut views, (before.as_ref(), interlude));
        if matches!(report, Err(ModelError::World(_))) {
            return report;
        }
        if !report.as_ref().is_ok_and(|report| report.finite) {
            let restored = match before {
                Some(before) => optimizer.put_back(backbone.trained_mut(), before),
                None => optimizer.discard(backbone.trained_mut()),
            };
            restored.map_err(|error| match &share {
                // Some ranks have restored their weights and others have not, so the ranks cannot continue together.
                Some(_) => error.fatal(),
                None => error,
            })?;
        }
        if let Ok(report) = &mut report {
            report.step = optimizer.step_count();
            report.behaviour = agreed(share.as_ref(), behaviour_report(&views, objective))?;
        }
        report
    }

    /// Takes one optimizer step on the views of each inner step, up to the first step that is not finite.
    fn inner_steps(
        &self,
        backbone: &mut Backbone,
        optimizer: &mut AdamW,
        views: &mut [InnerViews],
        (before, interlude): (Option<&Snapshot>, &mut dyn Interlude),
    ) -> Result<PolicyReport> {
        let mut report = PolicyReport {
            step: 0,
            losses: Vec::new(),
            kl: Vec::new(),
            ratio: Vec::new(),
            clipped: Vec::new(),
            grad_norm: Vec::new(),
            behaviour: None,
            seconds: 0.0,
            finite: true,
            ranks: Vec::new(),
        };
        // After the first inner step the current weights differ from those that the step began with. An interlude
        // samples from the latter, so they are kept as a frozen copy, made when the first interlude needs it.
        let mut begun_with: Option<Backbone> = None;
        for (number, parts) in views.iter_mut().enumerate() {
            let mut pause = |present: &Backbone| {
                if !interlude.is_wanted() {
                    return Ok(());
                }
                let Some(before) = before.filter(|_| number > 0) else {
                    return interlude.take(present);
                };
                let begun_with = match &mut begun_with {
                    Some(known) => known,
                    none => match present.frozen_at(before.master()) {
                        Ok(frozen) => none.insert(frozen),
                        Err(error) => return interlude.give_up(error),
                    },
                };
                interlude.take(begun_with)
            };
            let tokens: usize = parts.iter().flatten().map(|batch| batch.advantages.len()).sum();
            let work = |backbone: &Backbone, batches: &mut Vec<ScoredRows>, pause: &mut Pause<'_>| {
                descend_on(backbone, batches, self.objective, pause)
            };
            let sums = gradients::accumulate(backbone, optimizer, parts, &mut pause, (SUMS, work))?;
            let read = Tally::read(sums, tokens as f64, optimizer);
            let (tally, grad_norm) = agreed(optimizer.share(), read)?;
            let figures = (tally.loss, grad_norm);
            let (settings, trained) = (self.settings, backbone.trained_mut());
            let stepped = optimizer.step_on(figures, trained, settings, settings.ema)?;
            report.losses.push(tally.loss);
            report.kl.push(tally.mean(tally.kl, 0.0));
            report.ratio.push(tally.mean(tally.ratio, 1.0));
            report.clipped.push(tally.mean(tally.clipped, 0.0));
            report.grad_norm.push(stepped.grad_norm);
            report.finite = stepped.finite;
            if !stepped.finite {
                break;
            }
        }
        Ok(report)
    }
}
