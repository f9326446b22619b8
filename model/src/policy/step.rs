//! A policy step: several optimiser steps on the same scored groups.
//!
//! For each inner step: the clipped token ratio times the group advantage, averaged over a sample's masked tokens and over
//! samples (or over all tokens alike), less a k3 penalty on leaving the reference. The views of all inner steps are planned
//! and scored before the first of them, so that at the first every ratio is 1 (law L7).

use std::time::Instant;

use demask_api::{EstimatorConfig, ObjectiveConfig, PolicyGroup, PolicyReport, PolicySample, StepSettings};

use super::objective::{SUMS, Tally, behaviour_report, descend_on};
use super::validation;
use super::views::{DrawnSamples, InnerViews, Policies, ScoredRows, prepare};
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::{Interlude, Pause, Uninterrupted};
use crate::training::optimizer::{AdamW, Snapshot};
use crate::training::step::retried;
use crate::training::{ranks, threads};

/// `inner_steps` optimiser steps on the groups. When one fails or is not finite, weights and optimiser are put back to
/// before the first, and no gradient stays behind.
///
/// # Errors
/// Samples or settings that make no sense ([`ModelError::Refused`](crate::ModelError::Refused)); libtorch's.
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

/// What a policy step is asked for.
#[derive(Clone, Copy, Debug)]
pub struct PolicyRequest<'a> {
    /// The scored groups.
    pub groups: &'a [PolicyGroup],
    /// Which masked views stand for a completion.
    pub estimator: &'a EstimatorConfig,
    /// What is climbed.
    pub objective: &'a ObjectiveConfig,
    /// Learning rate and seed.
    pub settings: &'a StepSettings,
    /// Log-probabilities under the policy that drew the samples ([`score_views`](super::score_views)); empty where that is the
    /// present one.
    pub behaviour: &'a [Vec<f32>],
}

/// Trains as [`train`] does; between two of a step's micro-batches there may be an interlude.
///
/// # Errors
/// Those of [`train`]; the interlude's.
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
    ranks::admit(optimizer, settings)?;
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
    // A reference that weighs nothing need not be asked.
    let reference = reference.filter(|_| objective.kl != 0.0);
    let tokens = backbone.policy_tokens() * threads::at_once(backbone);
    backbone.work_room_out(optimizer.aside(&settings.adam), tokens, settings.recompute);
    let mut report = retried(backbone, longest, |backbone| {
        step.run(backbone, optimizer, reference, interlude)
    })?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// What a policy step was asked for.
struct PolicyStep<'a> {
    drawn: DrawnSamples<'a>,
    estimator: &'a EstimatorConfig,
    objective: &'a ObjectiveConfig,
    settings: &'a StepSettings,
}

impl PolicyStep<'_> {
    /// All inner steps; weights and optimiser are as they were where one fails or is not finite.
    fn run(
        &self,
        backbone: &mut Backbone,
        optimizer: &mut AdamW,
        reference: Option<&Backbone>,
        interlude: &mut dyn Interlude,
    ) -> Result<PolicyReport> {
        let policies = Policies { backbone, reference };
        let (objective, seed) = (self.objective, self.settings.seed);
        let mut views: Vec<InnerViews> = (0..objective.inner_steps)
            .map(|inner| {
                let step = (seed, inner);
                prepare(policies, self.drawn, self.estimator, objective, step, interlude)
            })
            .collect::<Result<_>>()?;
        // One step alone changes nothing before it is known to be finite; of several the later ones start from changed weights.
        let before = (objective.inner_steps > 1)
            .then(|| optimizer.snapshot(backbone.trained()))
            .transpose()?;
        let mut report = self.inner_steps(backbone, optimizer, &mut views, (before.as_ref(), interlude));
        if !report.as_ref().is_ok_and(|report| report.finite) {
            match before {
                Some(before) => optimizer.put_back(backbone.trained_mut(), before)?,
                None => optimizer.discard(backbone.trained_mut())?,
            }
        }
        if let Ok(report) = &mut report {
            report.step = optimizer.step_count();
            report.behaviour = behaviour_report(&views, objective)?;
        }
        report
    }

    /// One optimiser step on each inner step's views, up to the first that is not finite.
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
        };
        // Behind the first inner step the present weights are no longer those that the step began with.
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
            let sums = threads::gradients(backbone, optimizer, parts, &mut pause, (SUMS, work))?;
            let (tally, grad_norm) = Tally::read(sums, tokens as f64, optimizer)?;
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
