//! The checks of a policy step's inputs, before libtorch sees them.

use demask_api::{BackboneConfig, EstimatorConfig, ObjectiveConfig, PolicyGroup, StepSettings, ViewScores};

use crate::error::{ModelError, Result};
use crate::training::validation::{in_range, refuse, sequence, settings};

/// Checks a request for the log-probabilities of views.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) with the sequence or the field that is invalid.
pub fn views(backbone: &BackboneConfig, asked: &ViewScores) -> Result<()> {
    asked.estimator.check_settings().map_err(ModelError::Refused)?;
    let samples: usize = asked.groups.iter().map(|group| group.samples.len()).sum();
    if !asked.numbers.is_empty() && asked.numbers.len() != samples {
        let found = asked.numbers.len();
        return refuse(format!(
            "found the numbers of {found} samples for {samples} samples, expected one per sample, or none"
        ));
    }
    for sample in asked.groups.iter().flat_map(|group| &group.samples) {
        sequence(backbone, &sample.sequence)?;
        asked
            .estimator
            .check_sample(sample)
            .map_err(ModelError::Refused)?;
    }
    Ok(())
}

/// Checks the log-probabilities under the policy that drew the samples: one list per inner step and sample, or none at
/// all.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) if the number of lists is wrong or a value is not finite.
pub fn behaviour(lists: &[Vec<f32>], samples: usize, inner_steps: usize) -> Result<()> {
    let wanted = samples * inner_steps;
    if !lists.is_empty() && lists.len() != wanted {
        let found = lists.len();
        return refuse(format!(
            "found {found} lists of log-probabilities under the policy that drew {samples} samples, expected {wanted}: one per sample and inner step"
        ));
    }
    if lists.iter().flatten().any(|value| !value.is_finite()) {
        return refuse("a log-probability under the policy that drew the samples is not finite".into());
    }
    Ok(())
}

/// Checks the groups, the estimator, the objective and the settings.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) with the sequence or the field that is invalid.
pub fn check(
    backbone: &BackboneConfig,
    groups: &[PolicyGroup],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    step: &StepSettings,
) -> Result<()> {
    let samples = groups.iter().map(|group| group.samples.len()).sum::<usize>();
    if samples == 0 || objective.inner_steps == 0 {
        let inner = objective.inner_steps;
        return refuse(format!(
            "found a policy step on {samples} samples with {inner} inner steps; both must be at least 1"
        ));
    }
    estimator.check_settings().map_err(ModelError::Refused)?;
    in_range("clip", objective.clip, 0.0, f64::MAX)?;
    in_range("kl", objective.kl, 0.0, f64::MAX)?;
    settings(step)?;
    for sample in groups.iter().flat_map(|group| &group.samples) {
        sequence(backbone, &sample.sequence)?;
        let id = &sample.sequence.id;
        if sample.sequence.answer_len() == 0 {
            return refuse(format!(
                "sequence {id}: it has no answer position, so there is nothing to learn from"
            ));
        }
        estimator.check_sample(sample).map_err(ModelError::Refused)?;
        if !sample.advantage.is_finite() {
            let found = sample.advantage;
            return refuse(format!(
                "sequence {id}: the advantage is {found}, expected a finite number"
            ));
        }
    }
    Ok(())
}
