//! UniGRPO and what shares its interface: learning from scored groups (`mmada.md` 5.2, `peers.md` B.11, B.22).
//!
//! An [`Estimator`] plans masked views of a completion; the views are the same for the present, the old and the reference
//! policy (law L7: at the first inner step every ratio is 1). For each inner step: the clipped token ratio times the group
//! advantage, averaged over a sample's masked tokens and over samples (or over all tokens alike), less a k3 penalty on leaving the reference.

use std::collections::BTreeSet;
use std::time::Instant;

use demask_api::{
    EstimatorConfig, LossNormalization, ObjectiveConfig, PolicyGroup, PolicyReport, PolicySample, Sequence,
    Spacing, StepSettings,
};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use super::validation;
use crate::device::transfer::{self, Packet};
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::loss::{LossRow, alike, descend, gather, gather_with, log_probs};
use crate::training::mask_sampling::masked;
use crate::training::optimizer::AdamW;
use crate::training::step::retried;
use crate::training::threads;

/// Diffusion steps of the paper's schedule, T.
pub const DIFFUSION_STEPS: f64 = 1000.0;

/// One masked input that stands for a completion's likelihood.
#[derive(Clone, Debug, PartialEq)]
pub struct MaskedView {
    /// Token ids with masks.
    pub ids: Vec<u32>,
    /// The answer positions whose log-probability counts, with their weights.
    pub counted: Vec<(usize, f64)>,
}

/// Which masked views stand for a completion's likelihood at an inner step.
pub trait Estimator {
    /// The views of a sequence at inner step `inner` of `inner_steps`; the same seed gives the same views.
    fn plan(
        &self,
        sample: &PolicySample,
        mask_token: u32,
        inner: usize,
        inner_steps: usize,
        seed: u64,
    ) -> Vec<MaskedView>;
}

impl Estimator for EstimatorConfig {
    fn plan(
        &self,
        sample: &PolicySample,
        mask_token: u32,
        inner: usize,
        inner_steps: usize,
        seed: u64,
    ) -> Vec<MaskedView> {
        let sequence = &sample.sequence;
        let answer = answer_positions(sequence);
        let mut start = ChaCha8Rng::seed_from_u64(seed);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(inner as u64 + 1);
        match self {
            Self::UniGrpo { spacing } => {
                let first = (start.random::<f64>() * DIFFUSION_STEPS).floor();
                let ratio = step_time(*spacing, first, inner, inner_steps) / DIFFUSION_STEPS;
                vec![view(
                    sequence,
                    mask_token,
                    &at_least_one(&answer, ratio, &mut rng),
                    1.0,
                )]
            }
            Self::DiffuGrpo { prompt_mask } => {
                let mut view = view(sequence, mask_token, &answer, 1.0);
                for at in sequence.left_pad..sequence.ids.len() {
                    if !answer.contains(&at) && rng.random::<f64>() < *prompt_mask {
                        view.ids[at] = mask_token;
                    }
                }
                vec![view]
            }
            Self::Coupled => {
                let ratio = 0.2 + 0.6 * rng.random::<f64>();
                let one = at_least_one(&answer, ratio, &mut rng);
                let other: Vec<usize> = answer.iter().copied().filter(|at| !one.contains(at)).collect();
                [one, other]
                    .into_iter()
                    .filter(|positions| !positions.is_empty())
                    .map(|positions| view(sequence, mask_token, &positions, 1.0))
                    .collect()
            }
            Self::TraceRl { merge, views } => {
                let moments = moments(&sample.commit_step, *merge);
                let chosen = spread(moments.len(), *views, inner, inner_steps, start.random());
                chosen
                    .into_iter()
                    .map(|at| moment(sample, &answer, mask_token, *merge, moments[at]))
                    .collect()
            }
        }
    }
}

/// The trajectory's moments, ascending: the commit steps, so many together.
fn moments(commit_step: &[u16], merge: u16) -> Vec<u16> {
    let all: BTreeSet<u16> = commit_step.iter().map(|step| step / merge.max(1)).collect();
    all.into_iter().collect()
}

/// What the sampler saw at a moment: tokens committed before it, masks else; the tokens of the moment count.
fn moment(sample: &PolicySample, answer: &[usize], mask_token: u32, merge: u16, now: u16) -> MaskedView {
    let when = |step: &u16| step / merge.max(1);
    let of = |wanted: fn(&u16, &u16) -> bool| -> Vec<usize> {
        let positions = answer.iter().zip(&sample.commit_step);
        positions
            .filter(|(_, step)| wanted(&when(step), &now))
            .map(|(&at, _)| at)
            .collect()
    };
    MaskedView {
        ids: masked(&sample.sequence.ids, &of(u16::ge), mask_token),
        counted: of(u16::eq).into_iter().map(|at| (at, 1.0)).collect(),
    }
}

/// `wanted` of `count` places, evenly apart from a random start, other ones at each inner step; all when `wanted` is 0 or
/// more than there are.
fn spread(count: usize, wanted: usize, inner: usize, inner_steps: usize, start: f64) -> Vec<usize> {
    if wanted == 0 || wanted >= count {
        return (0..count).collect();
    }
    let strata = (wanted * inner_steps.max(1)) as f64;
    let at = |number: usize| {
        let place = (start + (number * inner_steps.max(1) + inner) as f64 / strata).fract();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (place * count as f64) as usize;
        place.min(count - 1)
    };
    let chosen: BTreeSet<usize> = (0..wanted).map(at).collect();
    chosen.into_iter().collect()
}

/// t_n of inner step n (from 0), from the start t_1 in 0..T (`peers.md` B.11).
#[must_use]
pub fn step_time(spacing: Spacing, first: f64, inner: usize, inner_steps: usize) -> f64 {
    let last = inner_steps.saturating_sub(1).max(1) as f64;
    match spacing {
        Spacing::ToEnd => (inner as f64 / last * (DIFFUSION_STEPS - first) + first).floor(),
        Spacing::Cyclic => {
            (first + inner as f64 * DIFFUSION_STEPS / inner_steps.max(1) as f64).floor() % DIFFUSION_STEPS
        }
    }
}

fn answer_positions(sequence: &Sequence) -> Vec<usize> {
    sequence
        .answer
        .iter()
        .flat_map(|span| span.start..span.end)
        .collect()
}

/// Each position with probability `ratio`; one at random when none was drawn, so that every view teaches something.
fn at_least_one(answer: &[usize], ratio: f64, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let chosen: Vec<usize> = answer
        .iter()
        .copied()
        .filter(|_| rng.random::<f64>() < ratio)
        .collect();
    if chosen.is_empty() && !answer.is_empty() {
        return vec![answer[rng.random_range(0..answer.len())]];
    }
    chosen
}

fn view(sequence: &Sequence, mask_token: u32, positions: &[usize], weight: f64) -> MaskedView {
    let ids = masked(&sequence.ids, positions, mask_token);
    MaskedView {
        ids,
        counted: positions.iter().map(|&at| (at, weight)).collect(),
    }
}

/// What of an inner step does not change with the weights, for rows that go through the backbone together.
struct Prepared {
    rows: Vec<LossRow>,
    /// Advantage of each counted token's sample.
    advantages: Vec<f32>,
    /// Log-probability under the old policy.
    old: Tensor,
    /// Log-probability under the reference, if the KL counts.
    reference: Option<Tensor>,
}

/// `inner_steps` optimiser steps on the groups. When one fails or is not finite, weights and optimiser are put back to
/// before the first, and no gradient stays behind.
///
/// # Errors
/// Samples or settings that [`validation`] refuses; libtorch's.
pub fn train(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    reference: Option<&Backbone>,
    groups: &[PolicyGroup],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    settings: &StepSettings,
) -> Result<PolicyReport> {
    let started = Instant::now();
    backbone.trained().trainable()?;
    validation::check(backbone.config(), groups, estimator, objective, settings)?;
    let samples: Vec<&PolicySample> = groups.iter().flat_map(|group| &group.samples).collect();
    let asked = Asked {
        samples: &samples,
        estimator,
        objective,
        settings,
    };
    let lengths = samples
        .iter()
        .map(|sample| sample.sequence.ids.len() - sample.sequence.left_pad);
    let longest = lengths.max().unwrap_or(0);
    let reference = reference.filter(|_| objective.kl != 0.0);
    backbone.work_room_out(optimizer.numbers());
    let mut report = retried(backbone, longest, |backbone| {
        asked.steps(backbone, optimizer, reference)
    })?;
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// What a policy step was asked for.
struct Asked<'a> {
    samples: &'a [&'a PolicySample],
    estimator: &'a EstimatorConfig,
    objective: &'a ObjectiveConfig,
    settings: &'a StepSettings,
}

impl Asked<'_> {
    /// All inner steps; weights and optimiser are as they were where one fails or is not finite.
    fn steps(
        &self,
        backbone: &mut Backbone,
        optimizer: &mut AdamW,
        reference: Option<&Backbone>,
    ) -> Result<PolicyReport> {
        let (objective, seed) = (self.objective, self.settings.seed);
        let mut prepared: Vec<Vec<Vec<Prepared>>> = (0..objective.inner_steps)
            .map(|inner| {
                prepare(
                    backbone,
                    reference,
                    self.samples,
                    self.estimator,
                    objective,
                    seed,
                    inner,
                )
            })
            .collect::<Result<_>>()?;
        // One step alone changes nothing before it is known to be finite.
        let before = (objective.inner_steps > 1)
            .then(|| optimizer.snapshot(backbone.trained()))
            .transpose()?;
        let mut report = inner_steps(backbone, optimizer, &mut prepared, objective, self.settings);
        if !report.as_ref().is_ok_and(|report| report.finite) {
            match before {
                Some(before) => optimizer.put_back(backbone.trained_mut(), before)?,
                None => optimizer.discard(backbone.trained_mut())?,
            }
        }
        if let Ok(report) = &mut report {
            report.step = optimizer.step_count();
        }
        report
    }
}

fn inner_steps(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    prepared: &mut [Vec<Vec<Prepared>>],
    objective: &ObjectiveConfig,
    settings: &StepSettings,
) -> Result<PolicyReport> {
    let mut report = PolicyReport {
        step: 0,
        losses: Vec::new(),
        kl: Vec::new(),
        ratio: Vec::new(),
        clipped: Vec::new(),
        grad_norm: Vec::new(),
        seconds: 0.0,
        finite: true,
    };
    for parts in prepared {
        let tokens: usize = parts.iter().flatten().map(|batch| batch.advantages.len()).sum();
        let sums = threads::gradients(backbone, optimizer, parts, |backbone, batches| {
            inner_step(backbone, batches, objective)
        })?;
        let (tally, grad_norm) = Tally::read(sums, tokens as f64, optimizer)?;
        let figures = (tally.loss, grad_norm);
        let stepped = optimizer.step_on(figures, backbone.trained_mut(), settings, settings.ema)?;
        // No token, no deviation.
        let mean = |sum: f64, of_none: f64| {
            if tally.tokens > 0.0 {
                sum / tally.tokens
            } else {
                of_none
            }
        };
        report.losses.push(tally.loss);
        report.kl.push(mean(tally.kl, 0.0));
        report.ratio.push(mean(tally.ratio, 1.0));
        report.clipped.push(mean(tally.clipped, 0.0));
        report.grad_norm.push(stepped.grad_norm);
        report.finite = stepped.finite;
        if !stepped.finite {
            break;
        }
    }
    Ok(report)
}

fn prepare(
    backbone: &Backbone,
    reference: Option<&Backbone>,
    samples: &[&PolicySample],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    seed: u64,
    inner: usize,
) -> Result<Vec<Vec<Prepared>>> {
    let mask_token = backbone.config().mask_token_id;
    let planned: Vec<(&PolicySample, Vec<MaskedView>)> = samples
        .iter()
        .enumerate()
        // A sample without advantage teaches only to stay near the reference.
        .filter(|(_, sample)| sample.advantage != 0.0 || reference.is_some())
        .map(|(number, sample)| {
            let seed = seed ^ (number as u64) << 20;
            let views = estimator.plan(sample, mask_token, inner, objective.inner_steps, seed);
            (*sample, views)
        })
        .collect();
    let counted = |views: &[MaskedView]| -> f64 {
        let tokens = views.iter().flat_map(|view| &view.counted);
        tokens.map(|(_, weight)| weight).sum()
    };
    let all: f64 = planned.iter().map(|(_, views)| counted(views)).sum();
    let (mut rows, mut advantages) = (Vec::new(), Vec::new());
    for (sample, views) in planned {
        let divisor = match objective.normalization {
            LossNormalization::Sequence => counted(&views).max(1.0) * samples.len() as f64,
            LossNormalization::Token => all.max(1.0),
        };
        for view in views {
            let weight = |weight: f64| weight / divisor;
            #[allow(clippy::cast_possible_truncation)]
            let targets: Vec<_> = view
                .counted
                .iter()
                .map(|&(at, own)| (at, sample.sequence.ids[at], weight(own) as f32))
                .collect();
            rows.push(LossRow {
                ids: view.ids,
                left_pad: sample.sequence.left_pad,
                targets,
            });
            advantages.push(sample.advantage);
        }
    }
    let mut parts: Vec<Vec<Scored>> = threads::parts(backbone, &rows)
        .into_iter()
        .map(|part| scored(&part, &rows, &advantages, backbone.room().forward_tokens()))
        .collect();
    let mut scores = |policy: &Backbone| {
        threads::each(policy, &mut parts, |policy, part| {
            part.iter().map(|group| score(policy, &group.rows)).collect()
        })
    };
    let old: Vec<Vec<Tensor>> = scores(backbone)?;
    let mut reference: Option<Vec<Vec<Tensor>>> = reference.map(scores).transpose()?;
    let mut reference = reference.iter_mut().flatten().map(|part| part.drain(..));
    parts
        .into_iter()
        .zip(old)
        .map(|(part, old)| {
            let mut reference = reference.next();
            let prepared = |(group, old): (Scored, Tensor)| Prepared {
                old,
                reference: reference.as_mut().and_then(Iterator::next),
                advantages: group.advantages,
                rows: group.rows,
            };
            Ok(part.into_iter().zip(old).map(prepared).collect())
        })
        .collect()
}

/// Rows that go through the backbone together, and the advantage of each of their targets.
struct Scored {
    rows: Vec<LossRow>,
    advantages: Vec<f32>,
}

/// A part's rows in groups of at most so many tokens.
fn scored(part: &[usize], rows: &[LossRow], advantages: &[f32], most: usize) -> Vec<Scored> {
    let own: Vec<LossRow> = part.iter().map(|&at| rows[at].clone()).collect();
    let of_target = |&at: &usize| std::iter::repeat_n(advantages[part[at]], own[at].targets.len());
    alike(&own, most)
        .into_iter()
        .map(|group| Scored {
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

#[derive(Default)]
struct Tally {
    loss: f64,
    kl: f64,
    ratio: f64,
    clipped: f64,
    tokens: f64,
}

impl Tally {
    /// Adds up what the parts' inner steps gave, read from the device together with the gradient's norm.
    fn read(sums: Vec<Tensor>, tokens: f64, optimizer: &AdamW) -> Result<(Self, f64)> {
        let mut figures = sums;
        figures.push(optimizer.norm()?);
        let figures = transfer::read(&Tensor::f_cat(&figures, 0)?)?;
        let mut tally = Self {
            tokens,
            ..Self::default()
        };
        for part in figures.chunks_exact(SUMS) {
            tally.loss += part[0];
            tally.kl += part[1];
            tally.ratio += part[2];
            tally.clipped += part[3];
        }
        Ok((tally, figures[figures.len() - 1]))
    }
}

/// Losses, penalties, ratios and clipped tokens: what an inner step sums up.
const SUMS: usize = 4;

/// Takes the gradient and gives those sums, [4] f64, still on the device.
fn inner_step(backbone: &Backbone, batches: &[Prepared], objective: &ObjectiveConfig) -> Result<Tensor> {
    let mut sums = Tensor::f_zeros([SUMS as i64], (Kind::Double, backbone.device()))?;
    for batch in batches {
        let mut packet = Packet::new();
        let advantages = packet.floats(batch.advantages.iter().copied());
        let (gathered, arrived) = gather_with(backbone, &batch.rows, packet)?;
        let advantages_n = arrived.get(advantages);
        descend(backbone, &gathered, |log_probs, at, length| {
            let cut = |tensor: &Tensor| tensor.f_narrow(0, at, length);
            let advantage = cut(&advantages_n)?;
            let ratio = log_probs
                .f_sub(&cut(&batch.old)?)?
                .f_clamp(-10.0, 10.0)?
                .f_exp()?;
            let bounded = ratio.f_clamp(1.0 - objective.clip, 1.0 + objective.clip)?;
            let surrogate = ratio.f_mul(&advantage)?.f_minimum(&bounded.f_mul(&advantage)?)?;
            let mut gain = surrogate;
            let total = |x: &Tensor| -> Result<Tensor> { Ok(x.f_detach()?.f_sum(Kind::Float)?) };
            let mut kl = Tensor::f_zeros([], (Kind::Float, backbone.device()))?;
            if let Some(reference) = &batch.reference {
                // k3: exp(r - p) - (r - p) - 1, never negative.
                let away = cut(reference)?.f_sub(log_probs)?.f_clamp(-10.0, 10.0)?;
                let k3 = away.f_exp()?.f_sub(&away)?.f_sub_scalar(1.0)?;
                kl = total(&k3)?;
                gain = gain.f_sub(&k3.f_mul_scalar(objective.kl)?)?;
            }
            let loss = gain
                .f_mul(&cut(&gathered.weights_N)?)?
                .f_sum(Kind::Float)?
                .f_neg()?;
            let clipped = total(&ratio.f_ne_tensor(&bounded)?.f_to_kind(Kind::Float)?)?;
            let own = Tensor::f_stack(&[&loss.f_detach()?, &kl, &total(&ratio)?, &clipped], 0)?;
            sums = sums.f_add(&own.f_to_kind(Kind::Double)?)?;
            Ok(loss)
        })?;
    }
    Ok(sums)
}
