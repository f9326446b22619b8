//! The masked views of all samples at one inner step, as rows with the weight of each token, and their log-probabilities
//! under the old policy and the reference.

use demask_api::estimators::{InnerStep, MaskedView};
use demask_api::{EstimatorConfig, LossNormalization, ObjectiveConfig, PolicySample};
use tch::Tensor;

use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Interlude;
use crate::training::loss::{LossRow, alike, gather, log_probs};
use crate::training::threads;

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
    samples: &[&PolicySample],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    (seed, inner): (u64, usize),
    interlude: &mut dyn Interlude,
) -> Result<InnerViews> {
    let Policies { backbone, reference } = policies;
    let mask_token = backbone.config().mask_token_id;
    let planned: Vec<(&PolicySample, Vec<MaskedView>)> = samples
        .iter()
        .enumerate()
        // A sample without advantage teaches only to stay near the reference.
        .filter(|(_, sample)| sample.advantage != 0.0 || reference.is_some())
        .map(|(number, sample)| {
            let step = InnerStep {
                number: inner,
                count: objective.inner_steps,
                seed: seed ^ (number as u64) << 20,
            };
            (*sample, estimator.views(sample, mask_token, step))
        })
        .collect();
    let (rows, advantages) = weighted_rows(planned, objective.normalization, samples.len());
    let mut parts: Vec<Vec<WeightedRows>> = threads::parts(backbone, &rows)
        .into_iter()
        .map(|part| grouped(&part, &rows, &advantages, backbone.policy_tokens()))
        .collect();
    // Both policies go over the same groups of rows: a row's bits may depend on its company.
    let mut scores = |policy: &Backbone| {
        let mut pause = |_: &Backbone| match interlude.is_wanted() {
            true => interlude.take(backbone),
            false => Ok(()),
        };
        threads::each(policy, &mut parts, &mut pause, |policy, part, pause| {
            let scored = part.iter().map(|group| {
                let scored = score(policy, &group.rows)?;
                pause(policy)?;
                Ok(scored)
            });
            scored.collect()
        })
    };
    let old: Vec<Vec<Tensor>> = scores(backbone)?;
    let mut reference: Option<Vec<Vec<Tensor>>> = reference.map(scores).transpose()?;
    let mut reference = reference.iter_mut().flatten().map(|part| part.drain(..));
    let with_scores = |(part, old): (Vec<WeightedRows>, Vec<Tensor>)| {
        let mut reference = reference.next();
        let scored = |(group, old): (WeightedRows, Tensor)| ScoredRows {
            old,
            reference: reference.as_mut().and_then(Iterator::next),
            advantages: group.advantages,
            rows: group.rows,
        };
        part.into_iter().zip(old).map(scored).collect()
    };
    Ok(parts.into_iter().zip(old).map(with_scores).collect())
}

/// A row for each view, whose weights make the sum of all the mean that `normalization` names over so many samples, and the
/// advantage of each row.
fn weighted_rows(
    planned: Vec<(&PolicySample, Vec<MaskedView>)>,
    normalization: LossNormalization,
    samples: usize,
) -> (Vec<LossRow>, Vec<f32>) {
    let counted = |views: &[MaskedView]| -> f64 {
        let tokens = views.iter().flat_map(|view| &view.counted);
        tokens.map(|(_, weight)| weight).sum()
    };
    let all: f64 = planned.iter().map(|(_, views)| counted(views)).sum();
    let (mut rows, mut advantages) = (Vec::new(), Vec::new());
    for (sample, views) in planned {
        let divisor = match normalization {
            LossNormalization::Sequence => counted(&views).max(1.0) * samples as f64,
            LossNormalization::Token => all.max(1.0),
        };
        for view in views {
            #[allow(clippy::cast_possible_truncation)]
            let target = |&(at, own): &(usize, f64)| (at, sample.sequence.ids[at], (own / divisor) as f32);
            rows.push(LossRow {
                targets: view.counted.iter().map(target).collect(),
                ids: view.ids,
                left_pad: sample.sequence.left_pad,
            });
            advantages.push(sample.advantage);
        }
    }
    (rows, advantages)
}

/// Rows that go through the backbone together, and the advantage of each of their targets.
struct WeightedRows {
    rows: Vec<LossRow>,
    advantages: Vec<f32>,
}

/// A part's rows in groups of at most so many tokens.
fn grouped(part: &[usize], rows: &[LossRow], advantages: &[f32], most: usize) -> Vec<WeightedRows> {
    let own: Vec<LossRow> = part.iter().map(|&at| rows[at].clone()).collect();
    let of_target = |&at: &usize| std::iter::repeat_n(advantages[part[at]], own[at].targets.len());
    alike(&own, most)
        .into_iter()
        .map(|group| WeightedRows {
            advantages: group.iter().flat_map(of_target).collect(),
            rows: group.iter().map(|&at| own[at].clone()).collect(),
        })
        .collect()
}

/// Log-probabilities of all targets of rows that go through the backbone together, [N] f32, without gradient.
///
/// # Errors
/// libtorch's.
pub fn score(backbone: &Backbone, rows: &[LossRow]) -> Result<Tensor> {
    tch::no_grad(|| {
        let gathered = gather(backbone, rows)?;
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
