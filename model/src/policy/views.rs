//! The masked views of all samples at one inner step, as rows with the weight of each token, and their log-probabilities
//! under the old policy and the reference.

use demask_api::estimators::{InnerStep, MaskedView};
use demask_api::{EstimatorConfig, LossNormalization, ObjectiveConfig, PolicySample, ViewScores};
use tch::Tensor;

use super::validation;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Interlude;
use crate::training::loss::{Gathered, LossRow, alike, gather, log_probs};
use crate::training::{sweep, threads};

/// An inner step's views: for each part of the batch its rows, in groups that go through the backbone together.
pub(super) type InnerViews = Vec<Vec<ScoredRows>>;

/// What of an inner step does not change with the weights, for rows that go through the backbone together.
pub(super) struct ScoredRows {
    pub rows: Vec<LossRow>,
    /// Advantage of each counted token's sample.
    pub advantages: Vec<f32>,
    /// Log-probability under the old policy.
    pub old: Tensor,
    /// Log-probability under the reference, if the KL counts.
    pub reference: Option<Tensor>,
    /// Log-probability under the policy that drew the samples, where it is another than the old one.
    pub behaviour: Option<Tensor>,
}

/// What of the samples is known beside themselves: which steps are taken on them, and who drew them.
#[derive(Clone, Copy)]
pub(super) struct DrawnSamples<'a> {
    /// The samples.
    pub samples: &'a [&'a PolicySample],
    /// Their views' log-probabilities under the policy that drew them, a list for each inner step and sample; empty where that is
    /// the old one.
    pub behaviour: &'a [Vec<f32>],
}

/// Who scores views before a policy step: the policy as it is then, and the reference if it counts.
#[derive(Clone, Copy)]
pub(super) struct Policies<'a> {
    pub backbone: &'a Backbone,
    pub reference: Option<&'a Backbone>,
}

/// The views of inner step `inner` from a step's seed, scored.
///
/// # Errors
/// libtorch's.
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
        // A sample without advantage teaches only to stay near the reference.
        .filter(|(_, sample)| sample.advantage != 0.0 || reference.is_some())
        .map(|(number, sample)| {
            let step = inner_step(seed, (inner, objective.inner_steps), number);
            (number, estimator.views(sample, mask_token, step))
        })
        .collect();
    let own = behaviour.get(inner * samples.len()..).unwrap_or_default();
    let rows = weighted_rows(planned, samples, objective.normalization, own);
    let plain: Vec<LossRow> = rows.iter().map(|row| row.row.clone()).collect();
    let mut parts: Vec<Vec<WeightedRows>> = threads::parts(backbone, &plain)
        .into_iter()
        .map(|part| grouped(&part, &rows, backbone.policy_tokens()))
        .collect();
    // Both policies go over the same groups of rows: a row's bits may depend on its company.
    let mut scores = |policy: &Backbone| {
        let mut pause = |_: &Backbone| match interlude.is_wanted() {
            true => interlude.take(backbone),
            false => Ok(()),
        };
        threads::each(policy, &mut parts, &mut pause, |policy, part, pause| {
            let groups: Vec<&[LossRow]> = part.iter().map(|group| group.rows.as_slice()).collect();
            sweep::gather_each(policy, &groups, |gathered| scored(policy, gathered), pause)
        })
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

/// The seed and number by which the views of a step's sample are planned.
fn inner_step(seed: u64, (number, count): (usize, usize), sample: usize) -> InnerStep {
    InnerStep {
        number,
        count,
        seed: seed ^ (sample as u64) << 20,
    }
}

/// Log-probabilities of the counted tokens of all views, a list for each inner step and sample, in the order of the views: what
/// the policy that drew the samples says of them before another one is trained on them.
///
/// # Errors
/// A sample or an estimator without sense; libtorch's.
pub fn score_views(backbone: &Backbone, asked: &ViewScores) -> Result<Vec<Vec<f32>>> {
    validation::views(backbone.config(), asked)?;
    let mask_token = backbone.config().mask_token_id;
    let samples: Vec<&PolicySample> = asked.groups.iter().flat_map(|group| &group.samples).collect();
    let mut values = Vec::new();
    for inner in 0..asked.inner_steps {
        let (mut rows, mut owners) = (Vec::new(), Vec::new());
        for (number, sample) in samples.iter().enumerate() {
            let step = inner_step(asked.seed, (inner, asked.inner_steps), number);
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

/// Log-probabilities of each row's targets, rows of one length together.
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

/// A view as a row, with what its sample's tokens have in common.
struct WeightedRow {
    row: LossRow,
    advantage: f32,
    /// Of each target, under the policy that drew it; empty where that is the old one.
    behaviour: Vec<f32>,
}

/// A row for each view, whose weights make the sum of all the mean that `normalization` names over all samples.
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

/// Rows that go through the backbone together, and of each of their targets the advantage and what its drawer said.
struct WeightedRows {
    rows: Vec<LossRow>,
    advantages: Vec<f32>,
    behaviour: Vec<f32>,
}

/// A part's rows in groups of at most so many tokens.
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

/// Log-probabilities of all targets of rows that go through the backbone together, [N] f32, without gradient.
///
/// # Errors
/// libtorch's.
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
