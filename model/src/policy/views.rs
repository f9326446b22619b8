//! The masked views of all samples: rows with a weight for each counted token, and their log-probabilities under the
//! old policy, the reference and the policy that drew the samples.

use demask_api::estimators::{InnerStep, MaskedView};
use demask_api::{EstimatorConfig, LossNormalization, ObjectiveConfig, PolicySample, ViewScores};
use tch::Tensor;

use super::validation;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Interlude;
use crate::training::loss::{Gathered, LossRow, alike, gather, log_probs};
use crate::training::{sweep, threads};

/// The views of an inner step: for each part of the batch, groups of rows that share a pass through the backbone.
pub(super) type InnerViews = Vec<Vec<ScoredRows>>;

/// Rows that share a pass through the backbone, with everything about them that stays the same during the inner steps.
pub(super) struct ScoredRows {
    pub rows: Vec<LossRow>,
    /// For each counted token, the advantage of its sample.
    pub advantages: Vec<f32>,
    /// The log-probabilities of the counted tokens under the old policy.
    pub old: Tensor,
    /// Their log-probabilities under the reference, if the KL has a weight.
    pub reference: Option<Tensor>,
    /// Their log-probabilities under the policy that drew the samples, if it is not the old one.
    pub behaviour: Option<Tensor>,
}

/// The samples of a policy step, with their log-probabilities under the policy that drew them.
#[derive(Clone, Copy)]
pub(super) struct DrawnSamples<'a> {
    /// The samples.
    pub samples: &'a [&'a PolicySample],
    /// The log-probabilities of their views under the policy that drew them, one list per inner step and sample. Empty
    /// if the old policy drew them.
    pub behaviour: &'a [Vec<f32>],
}

/// The policies that score the views before a policy step: the current one, and the reference if the KL has a weight.
#[derive(Clone, Copy)]
pub(super) struct Policies<'a> {
    pub backbone: &'a Backbone,
    pub reference: Option<&'a Backbone>,
}

/// Plans the views of inner step `inner` from the step's seed, and scores them under the current policy (which is the
/// old policy of the step) and the reference.
///
/// # Errors
/// Any error libtorch reports.
pub(super) fn prepare(
    policies: Policies<'_>,
    drawn: DrawnSamples<'_>,
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    (seed, inner): (u64, usize),
    interlude: &mut dyn Interlude,
) -> Result<InnerViews> {
    let Policies { backbone, reference } = policies;
    let DrawnSamples { samples, behaviour } = drawn;
    let mask_token = backbone.config().mask_token_id;
    let planned: Vec<(usize, Vec<MaskedView>)> = samples
        .iter()
        .enumerate()
        // A sample with advantage 0 contributes only its KL penalty, so it is skipped if there is no reference.
        .filter(|(_, sample)| sample.advantage != 0.0 || reference.is_some())
        .map(|(number, sample)| {
            let step = inner_step(seed, (inner, objective.inner_steps), number);
            (number, estimator.views(sample, mask_token, step))
        })
        .collect();
    let own = behaviour.get(inner * samples.len()..).unwrap_or_default();
    let rows = weighted_rows(planned, samples, objective.normalization, own);
    let plain: Vec<LossRow> = rows.iter().map(|row| row.row.clone()).collect();
    let parts: Vec<Vec<WeightedRows>> = threads::parts(backbone, &plain)
        .into_iter()
        .map(|part| grouped(&part, &rows, backbone.policy_tokens()))
        .collect();
    // Both policies score the same groups of rows, because the bits of a row may depend on the other rows of its group.
    let mut scores = |policy: &Backbone| -> Result<Vec<Vec<Tensor>>> {
        let mut pause = |_: &Backbone| match interlude.is_wanted() {
            true => interlude.take(backbone),
            false => Ok(()),
        };
        let mut work: Vec<Vec<&[LossRow]>> = parts
            .iter()
            .map(|part| part.iter().map(|group| group.rows.as_slice()).collect())
            .collect();
        if policy.gather().is_some() {
            // Sharded weights are gathered group by group, and each group only once for all parts.
            work = vec![work.concat()];
        }
        let done = threads::each(policy, &mut work, &mut pause, |policy, groups, pause| {
            sweep::gather_each(policy, groups, |gathered| scored(policy, gathered), pause)
        })?;
        let mut done = done.into_iter().flatten();
        Ok(parts
            .iter()
            .map(|part| done.by_ref().take(part.len()).collect())
            .collect())
    };
    let old: Vec<Vec<Tensor>> = scores(backbone)?;
    let mut reference: Option<Vec<Vec<Tensor>>> = reference.map(scores).transpose()?;
    let mut reference = reference.iter_mut().flatten().map(|part| part.drain(..));
    let with_scores = |(part, old): (Vec<WeightedRows>, Vec<Tensor>)| {
        let mut reference = reference.next();
        let scored = |(group, old): (WeightedRows, Tensor)| ScoredRows {
            behaviour: (!group.behaviour.is_empty())
                .then(|| Tensor::from_slice(&group.behaviour).to_device(old.device())),
            old,
            reference: reference.as_mut().and_then(Iterator::next),
            advantages: group.advantages,
            rows: group.rows,
        };
        part.into_iter().zip(old).map(scored).collect()
    };
    Ok(parts.into_iter().zip(old).map(with_scores).collect())
}

/// Returns the inner step's number and the seed by which the views of a sample are planned.
fn inner_step(seed: u64, (number, count): (usize, usize), sample: usize) -> InnerStep {
    InnerStep {
        number,
        count,
        seed: seed ^ (sample as u64) << 20,
    }
}

/// Computes the log-probabilities of the counted tokens of all views: one list per inner step and sample, in the order
/// of the views. The policy that drew the samples is scored in this way before another policy is trained on them.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) if a sample or the estimator is invalid, or any error libtorch
/// reports.
pub fn score_views(backbone: &Backbone, asked: &ViewScores) -> Result<Vec<Vec<f32>>> {
    validation::views(backbone.config(), asked)?;
    let mask_token = backbone.config().mask_token_id;
    let samples: Vec<&PolicySample> = asked.groups.iter().flat_map(|group| &group.samples).collect();
    let mut values = Vec::new();
    for inner in 0..asked.inner_steps {
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        for (number, sample) in samples.iter().enumerate() {
            let planned = asked.numbers.get(number).copied().unwrap_or(number);
            let step = inner_step(asked.seed, (inner, asked.inner_steps), planned);
            for view in asked.estimator.views(sample, mask_token, step) {
                let targets = view
                    .counted
                    .iter()
                    .map(|&(at, _)| (at, sample.sequence.ids[at], 1.0));
                rows.push(LossRow {
                    targets: targets.collect(),
                    ids: view.ids,
                    left_pad: sample.sequence.left_pad,
                });
                owners.push(number);
            }
        }
        let mut of_sample = vec![Vec::new(); samples.len()];
        for (owner, scored) in owners.into_iter().zip(row_scores(backbone, &rows)?) {
            of_sample[owner].extend(scored);
        }
        values.append(&mut of_sample);
    }
    Ok(values)
}

/// Computes the log-probabilities of each row's targets; rows of the same length share a pass.
fn row_scores(backbone: &Backbone, rows: &[LossRow]) -> Result<Vec<Vec<f32>>> {
    let mut values = vec![Vec::new(); rows.len()];
    for group in alike(rows, backbone.policy_tokens()) {
        let own: Vec<LossRow> = group.iter().map(|&at| rows[at].clone()).collect();
        let scored = Vec::<f32>::try_from(score(backbone, &own)?)?;
        let mut rest = scored.as_slice();
        for &at in &group {
            let (first, behind) = rest.split_at(rows[at].targets.len());
            values[at] = first.to_vec();
            rest = behind;
        }
    }
    Ok(values)
}

/// A view as a row, with the advantage of its sample.
struct WeightedRow {
    row: LossRow,
    advantage: f32,
    /// The log-probability of each target under the policy that drew it. Empty if that is the old policy.
    behaviour: Vec<f32>,
}

/// Builds a row for each view. The weights of the targets turn the sum over all rows into the mean that `normalization`
/// names.
fn weighted_rows(
    planned: Vec<(usize, Vec<MaskedView>)>,
    samples: &[&PolicySample],
    normalization: LossNormalization,
    behaviour: &[Vec<f32>],
) -> Vec<WeightedRow> {
    let counted = |views: &[MaskedView]| -> f64 {
        let tokens = views.iter().flat_map(|view| &view.counted);
        tokens.map(|(_, weight)| weight).sum()
    };
    let all: f64 = planned.iter().map(|(_, views)| counted(views)).sum();
    let mut rows = Vec::new();
    for (number, views) in planned {
        let sample = samples[number];
        let divisor = match normalization {
            LossNormalization::Sequence => counted(&views).max(1.0) * samples.len() as f64,
            LossNormalization::Token => all.max(1.0),
        };
        let mut drawn = behaviour.get(number).map_or(&[][..], Vec::as_slice);
        for view in views {
            #[allow(clippy::cast_possible_truncation)]
            let target = |&(at, own): &(usize, f64)| (at, sample.sequence.ids[at], (own / divisor) as f32);
            let (own, behind) = drawn.split_at(view.counted.len().min(drawn.len()));
            drawn = behind;
            rows.push(WeightedRow {
                behaviour: own.to_vec(),
                advantage: sample.advantage,
                row: LossRow {
                    targets: view.counted.iter().map(target).collect(),
                    ids: view.ids,
                    left_pad: sample.sequence.left_pad,
                },
            });
        }
    }
    rows
}

/// Rows that share a pass through the backbone. For each of their targets: the advantage, and the log-probability under
/// the policy that drew it.
struct WeightedRows {
    rows: Vec<LossRow>,
    advantages: Vec<f32>,
    behaviour: Vec<f32>,
}

/// Splits the rows of a part into groups of at most `most` tokens.
fn grouped(part: &[usize], rows: &[WeightedRow], most: usize) -> Vec<WeightedRows> {
    let own: Vec<LossRow> = part.iter().map(|&at| rows[at].row.clone()).collect();
    let row = |at: usize| &rows[part[at]];
    let of_target = |&at: &usize| std::iter::repeat_n(row(at).advantage, own[at].targets.len());
    alike(&own, most)
        .into_iter()
        .map(|group| WeightedRows {
            advantages: group.iter().flat_map(of_target).collect(),
            behaviour: group
                .iter()
                .flat_map(|&at| row(at).behaviour.iter().copied())
                .collect(),
            rows: group.iter().map(|&at| own[at].clone()).collect(),
        })
        .collect()
}

/// Computes the log-probabilities of all targets of rows that share a pass through the backbone, [N] f32, without
/// gradient.
///
/// # Errors
/// Any error libtorch reports.
pub fn score(backbone: &Backbone, rows: &[LossRow]) -> Result<Tensor> {
    tch::no_grad(|| scored(backbone, &gather(backbone, rows)?))
}

fn scored(backbone: &Backbone, gathered: &Gathered) -> Result<Tensor> {
    tch::no_grad(|| {
        let count = gathered.x_ND.size()[0];
        let mut parts = Vec::new();
        let mut at = 0;
        while at < count {
            let length = backbone.room().chunk().min(count - at);
            let labels = gathered.labels_N.f_narrow(0, at, length)?;
            parts.push(log_probs(
                backbone,
                &gathered.x_ND.f_narrow(0, at, length)?,
                &labels,
            )?);
            at += length;
        }
        Ok(Tensor::f_cat(&parts, 0)?)
    })
}
