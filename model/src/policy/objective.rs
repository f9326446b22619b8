//! The objective of an inner step: the clipped token ratio times the advantage, minus a k3 penalty (`mmada.md` 5.2).
//!
//! A token with ratio r = exp(log p - log p_old) and advantage A contributes `min(r A, clip(r, 1 - e, 1 + e) A) - kl
//! k3`, where `k3 = exp(d) - d - 1` and d = log p_reference - log p. If a policy other than the old one drew the
//! samples, the first term is multiplied by min(p_old / p_drawn, cap). Legend: N counted tokens.

#![allow(non_snake_case)]

use demask_api::{BehaviourReport, ObjectiveConfig};
use tch::{Kind, Tensor};

use super::views::{InnerViews, ScoredRows};
use crate::device::transfer::{self, Arrived, Packet};
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::loss::{Gathered, descend};
use crate::training::optimizer::AdamW;
use crate::training::sweep;

/// The bound of a difference of log-probabilities before exp, which must stay finite. The ratio is clipped far below
/// it.
const LOG_RATIO_BOUND: f64 = 10.0;

/// The number of sums of an inner step: losses, penalties, ratios and clipped tokens.
pub(super) const SUMS: usize = 4;

/// The sums of an inner step over all parts of the batch.
#[derive(Default)]
pub(super) struct Tally {
    pub loss: f64,
    pub kl: f64,
    pub ratio: f64,
    pub clipped: f64,
    tokens: f64,
}

impl Tally {
    /// Adds up the sums of all parts. Returns them with the norm of the gradient, read from the device in one transfer.
    pub fn read(sums: Vec<Tensor>, tokens: f64, optimizer: &AdamW) -> Result<(Self, f64)> {
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

    /// Divides a sum by the number of counted tokens. Returns `of_none` if no token counts.
    pub fn mean(&self, sum: f64, of_none: f64) -> f64 {
        if self.tokens > 0.0 {
            sum / self.tokens
        } else {
            of_none
        }
    }
}

/// Accumulates the gradient of the objective on these rows. Returns the sums, [4] f64, on the device.
pub(super) fn descend_on(
    backbone: &Backbone,
    batches: &[ScoredRows],
    objective: &ObjectiveConfig,
    pause: &mut Pause<'_>,
) -> Result<Tensor> {
    let mut sums = Tensor::f_zeros([SUMS as i64], (Kind::Double, backbone.device()))?;
    // The advantages share the upload of the rows.
    let packed = |batch: &ScoredRows| {
        let mut packet = Packet::new();
        let advantages = packet.floats(batch.advantages.iter().copied());
        (batch.rows.clone(), packet, advantages)
    };
    let head = |batch: &ScoredRows, (gathered, arrived): (Gathered, Arrived), advantages| {
        let advantages_N = arrived.get(advantages);
        descend(backbone, &gathered, |log_probs, at, length| {
            let cut = |tensor: &Tensor| tensor.f_narrow(0, at, length);
            let advantage = cut(&advantages_N)?;
            let ratio = bounded_exponent(&log_probs.f_sub(&cut(&batch.old)?)?)?.f_exp()?;
            let clipped_ratio = ratio.f_clamp(1.0 - objective.clip, 1.0 + objective.clip)?;
            let surrogate = ratio
                .f_mul(&advantage)?
                .f_minimum(&clipped_ratio.f_mul(&advantage)?)?;
            // The ratio is against the old policy; this weight corrects for the policy that drew the samples.
            let mut gain = match &batch.behaviour {
                Some(drawn) => {
                    surrogate.f_mul(&behaviour_weights(&cut(&batch.old)?, &cut(drawn)?, objective)?)?
                }
                None => surrogate,
            };
            let total = |x: &Tensor| -> Result<Tensor> { Ok(x.f_detach()?.f_sum(Kind::Float)?) };
            let mut kl = Tensor::f_zeros([], (Kind::Float, backbone.device()))?;
            if let Some(reference) = &batch.reference {
                // k3: exp(r - p) - (r - p) - 1, never negative.
                let away = bounded_exponent(&cut(reference)?.f_sub(log_probs)?)?;
                let k3 = away.f_exp()?.f_sub(&away)?.f_sub_scalar(1.0)?;
                kl = total(&k3)?;
                gain = gain.f_sub(&k3.f_mul_scalar(objective.kl)?)?;
            }
            // The rows' weights hold the mean over tokens and samples.
            let loss = gain
                .f_mul(&cut(&gathered.weights_N)?)?
                .f_sum(Kind::Float)?
                .f_neg()?;
            let clipped = total(&ratio.f_ne_tensor(&clipped_ratio)?.f_to_kind(Kind::Float)?)?;
            let own = Tensor::f_stack(&[&loss.f_detach()?, &kl, &total(&ratio)?, &clipped], 0)?;
            sums = sums.f_add(&own.f_to_kind(Kind::Double)?)?;
            Ok(loss)
        })
    };
    sweep::descend_each(backbone, batches, packed, head, pause)?;
    Ok(sums)
}

/// Computes min(p_old / p_drawn, cap) for each token, [N] f32 without gradient: the importance weight of AReaL's
/// decoupled objective (arXiv 2505.24298).
fn behaviour_weights(old_N: &Tensor, drawn_N: &Tensor, objective: &ObjectiveConfig) -> Result<Tensor> {
    let ratio = bounded_exponent(&old_N.f_sub(drawn_N)?)?.f_exp()?;
    Ok(ratio.f_clamp_max(objective.behaviour_cap)?)
}

/// Measures how far the policy that drew the samples is from the old one. Returns `None` if they are the same policy.
pub(super) fn behaviour_report(
    views: &[InnerViews],
    objective: &ObjectiveConfig,
) -> Result<Option<BehaviourReport>> {
    let (mut weight, mut gap, mut tokens) = (0.0, 0.0_f64, 0.0);
    for batch in views.iter().flatten().flatten() {
        let Some(drawn) = &batch.behaviour else { continue };
        let weights = behaviour_weights(&batch.old, drawn, objective)?.f_sum(Kind::Double)?;
        weight += f64::try_from(weights)?;
        gap = gap.max(f64::try_from(batch.old.f_sub(drawn)?.f_abs()?.f_max()?)?);
        tokens += drawn.numel() as f64;
    }
    let weight = weight / tokens;
    Ok((tokens > 0.0).then_some(BehaviourReport { weight, gap }))
}

/// Clamps a difference of log-probabilities to the range in which exp is finite.
fn bounded_exponent(difference_N: &Tensor) -> Result<Tensor> {
    Ok(difference_N.f_clamp(-LOG_RATIO_BOUND, LOG_RATIO_BOUND)?)
}
