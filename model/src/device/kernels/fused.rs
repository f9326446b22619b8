//! The fused CPU kernels of `csrc/fused.cpp`, with their gradients, as functions of tensors; elsewhere (CUDA, other
//! dtypes, a build without them) the same thing composed of libtorch's operators.
//!
//! Legend: B rows, L positions, D width, H query heads, K key and value heads, E head width, F feed-forward width,
//! N chosen positions, V vocabulary.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::device::kernels::rotary::Turns;
use crate::error::Result;

/// Rows whose real tokens lie back to back, as the kernels take them. Legend: B rows of L positions, T real tokens.
#[derive(Debug)]
pub struct PackedRows {
    /// Where in B x L each real token stands, [T], i64.
    pub index_T: Tensor,
    /// Padding in front of each row, [B], i64.
    pub pads_B: Tensor,
    /// B.
    pub batch: i64,
    /// L.
    pub length: i64,
}

/// Whether the attention kernel takes rows of that length.
#[must_use]
pub fn is_short(length: usize) -> bool {
    length as i64 <= SHORT
}

/// Whether the kernels take tensors of that place and dtype.
#[must_use]
pub fn applies_to(device: Device, kind: Kind) -> bool {
    cfg!(fused) && device == Device::Cpu && matches!(kind, Kind::Float | Kind::BFloat16)
}

/// Whether the kernels take this tensor.
#[must_use]
pub fn applies(x: &Tensor) -> bool {
    applies_to(x.device(), x.kind())
}

/// `s = x + delta` (just `x` without one) and `weight * round(s / rms(s))`, over the last axis.
///
/// # Errors
/// Any error libtorch reports.
pub fn sum_norm(x: Tensor, delta: Option<&Tensor>, weight: &Tensor, eps: f64) -> Result<(Tensor, Tensor)> {
    #[cfg(fused)]
    if applies(&x) && weight.kind() == x.kind() {
        return kernels::sum_norm(x, delta, weight, eps);
    }
    let s = match delta {
        Some(delta) => x.f_add(delta)?,
        None => x,
    };
    let y = norm(&s, weight, eps)?;
    Ok((s, y))
}

/// RMS norm of composed operators: computed in f32 (or what is wider), rounded, then multiplied by the gain. Two launches on a
/// GPU; with the gain inside the first a quarter of the values would be rounded otherwise than the published code's.
///
/// # Errors
/// Any error libtorch reports.
pub fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    Ok(x.f_rms_norm(weight.size(), None::<&Tensor>, eps)?.f_mul(weight)?)
}

/// Splits the stacked projection [B, L, (H + 2K) E] into q [B, H, L, E] and k, v [B, K, L, E], q and k turned. A packed
/// projection [1, T, ..] is unpacked, with zeros at the padding: for the kernels only.
///
/// # Errors
/// Any error libtorch reports.
pub fn split_turn(
    joined: &Tensor,
    turns: &Turns,
    heads: i64,
    kv_heads: i64,
    width: i64,
    packed: Option<&PackedRows>,
) -> Result<[Tensor; 3]> {
    #[cfg(fused)]
    if applies(joined) {
        return kernels::split_turn(joined, turns, heads, kv_heads, width, packed);
    }
    debug_assert!(
        packed.is_none(),
        "the operators attend to packed rows in `ragged.rs`"
    );
    let parts = split_turn_composed(joined, &turns.for_heads()?, heads, kv_heads, width)?;
    let [q, k, v] = parts.map(|part| part.f_transpose(1, 2));
    Ok([q?, k?, v?])
}

/// Splits and turns by libtorch's operators: [.., P, (H + 2K) E] into q [.., P, H, E] and k, v [.., P, K, E], by turns
/// [P, 1, E]. Queries and keys, which stand side by side, are turned together: four launches on a GPU, three where no gradient
/// is wanted.
///
/// # Errors
/// Any error libtorch reports.
pub fn split_turn_composed(
    joined: &Tensor,
    turns: &Turns,
    heads: i64,
    kv_heads: i64,
    width: i64,
) -> Result<[Tensor; 3]> {
    let mut shape = joined.size();
    shape.pop();
    shape.extend([heads + 2 * kv_heads, width]);
    let all = joined.f_view(&shape[..])?;
    let part = |x: &Tensor, first: i64, count: i64| x.f_narrow(-2, first, count);
    let turned = turned(&part(&all, 0, heads + kv_heads)?, turns)?;
    Ok([
        part(&turned, 0, heads)?,
        part(&turned, heads, kv_heads)?,
        part(&all, heads + kv_heads, kv_heads)?,
    ])
}

fn turned(x: &Tensor, turns: &Turns) -> Result<Tensor> {
    let halves = x.f_chunk(2, -1)?;
    let swapped = Tensor::f_cat(&[&halves[1], &halves[0]], -1)?;
    // At least f32, as the tables are.
    let straight = x.f_mul(&turns.cos)?;
    if x.kind() == straight.kind() || x.requires_grad() {
        let turned = straight.f_addcmul(&swapped, &turns.swap)?;
        return Ok(turned.f_to_kind(x.kind())?);
    }
    Ok(straight.f_addcmul_out(&swapped.f_empty_like()?, &swapped, &turns.swap)?)
}

/// Sequences up to here keep their L x L probabilities for the backward pass; longer ones recompute them.
const SHORT: i64 = demask_api::activations::KERNEL_LENGTH as i64;

/// `softmax(q k^T / sqrt(E) + bias) v` of q [B, H, L, E] and k, v [B, K, L, E], heads merged: [B, L, H E]. The way it is
/// computed depends on L and the bias alone, never on B, so that sampling and training give the same numbers (L7). With
/// packed rows the result is packed again, [1, T, H E], and the padding is no key: for the kernels only.
///
/// # Errors
/// Any error libtorch reports.
pub fn attend(
    q_BHLE: &Tensor,
    k_BHLE: &Tensor,
    v_BHLE: &Tensor,
    bias: Option<&Tensor>,
    packed: Option<&PackedRows>,
) -> Result<Tensor> {
    let (batch, heads, length, width) = q_BHLE.size4()?;
    let shared = heads / k_BHLE.size()[1];
    // Flash attention takes fewer key heads as they are.
    let as_they_are = shared == 1 || (q_BHLE.device().is_cuda() && bias.is_none());
    let of_all_heads = |x: &Tensor| -> Result<Tensor> {
        Ok(match as_they_are {
            true => x.shallow_clone(),
            false => x.f_repeat_interleave_self_int(shared, 1, None)?,
        })
    };
    let (k_BHLE, v_BHLE) = (&of_all_heads(k_BHLE)?, &of_all_heads(v_BHLE)?);
    #[cfg(fused)]
    if applies(q_BHLE) && bias.is_none() && length <= SHORT {
        return kernels::attend(q_BHLE, k_BHLE, v_BHLE, packed, 1.0 / (width as f64).sqrt());
    }
    debug_assert!(
        packed.is_none(),
        "the operators attend to packed rows in `ragged.rs`"
    );
    let fewer = shared > 1 && as_they_are;
    let mixed_BHLE =
        Tensor::f_scaled_dot_product_attention(q_BHLE, k_BHLE, v_BHLE, bias, 0.0, false, None, fewer)?;
    Ok(mixed_BHLE
        .f_transpose(1, 2)?
        .f_reshape([batch, length, heads * width])?)
}

/// `silu(gate) * up` of [.., 2F], the gate first.
///
/// # Errors
/// Any error libtorch reports.
pub fn gate(x: &Tensor) -> Result<Tensor> {
    #[cfg(fused)]
    if applies(x) {
        return kernels::gate(x);
    }
    let halves = x.f_chunk(2, -1)?;
    Ok(halves[0].f_silu()?.f_mul(&halves[1])?)
}

/// The log-probability of each label, [N] f32, under `logits_NV`.
///
/// # Errors
/// Any error libtorch reports.
pub fn label_log_prob(logits_NV: &Tensor, labels_N: &Tensor) -> Result<Tensor> {
    #[cfg(fused)]
    if applies(logits_NV) {
        return kernels::label_log_prob(logits_NV, labels_N);
    }
    let wide = logits_NV.f_to_kind(Kind::Float)?;
    Ok(wide
        .f_cross_entropy_loss(labels_N, None::<&Tensor>, tch::Reduction::None, -100, 0.0)?
        .f_neg()?)
}

#[cfg(fused)]
mod kernels {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use super::PackedRows;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::device::kernels::rotary::Turns;
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_sum_norm(
            x: Handle,
            delta: Handle,
            weight: Handle,
            eps: f64,
            sum: *mut Handle,
            y: *mut Handle,
        ) -> c_int;
        fn demask_split_turn(
            joined: Handle,
            cos: Handle,
            sin: Handle,
            index: Handle,
            batch: i64,
            length: i64,
            heads: i64,
            kv_heads: i64,
            width: i64,
            q: *mut Handle,
            k: *mut Handle,
            v: *mut Handle,
        ) -> c_int;
        fn demask_attend(
            q: Handle,
            k: Handle,
            v: Handle,
            pads: Handle,
            index: Handle,
            scale: f64,
            y: *mut Handle,
        ) -> c_int;
        fn demask_gate(x: Handle, y: *mut Handle) -> c_int;
        fn demask_label_log_prob(logits: Handle, labels: Handle, y: *mut Handle) -> c_int;
    }

    pub(super) fn sum_norm(
        x: Tensor,
        delta: Option<&Tensor>,
        weight: &Tensor,
        eps: f64,
    ) -> Result<(Tensor, Tensor)> {
        let (mut sum, mut y) = (null_mut(), null_mut());
        // SAFETY: the handles are live tensors; the kernel checks shapes through libtorch and writes both results.
        let code = unsafe {
            demask_sum_norm(
                handle(&x),
                delta.map_or(null_mut(), handle),
                handle(weight),
                eps,
                &mut sum,
                &mut y,
            )
        };
        check(code)?;
        Ok((if delta.is_some() { take(sum) } else { x }, take(y)))
    }

    pub(super) fn split_turn(
        joined: &Tensor,
        turns: &Turns,
        heads: i64,
        kv_heads: i64,
        width: i64,
        packed: Option<&PackedRows>,
    ) -> Result<[Tensor; 3]> {
        let (rows, positions, _) = joined.size3()?;
        let (batch, length) = packed.map_or((rows, positions), |packed| (packed.batch, packed.length));
        let mut parts = [null_mut(); 3];
        let [q, k, v] = &mut parts;
        // SAFETY: as above; the tables are contiguous f32 of at least L rows.
        check(unsafe {
            demask_split_turn(
                handle(joined),
                handle(&turns.cos),
                handle(&turns.sin),
                packed.map_or(null_mut(), |packed| handle(&packed.index_T)),
                batch,
                length,
                heads,
                kv_heads,
                width,
                q,
                k,
                v,
            )
        })?;
        Ok(parts.map(take))
    }

    pub(super) fn attend(
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        packed: Option<&PackedRows>,
        scale: f64,
    ) -> Result<Tensor> {
        let mut y = null_mut();
        let (pads, index) = packed.map_or((null_mut(), null_mut()), |packed| {
            (handle(&packed.pads_B), handle(&packed.index_T))
        });
        // SAFETY: as above; the index stays within B x L, being made from the pads.
        check(unsafe { demask_attend(handle(q), handle(k), handle(v), pads, index, scale, &mut y) })?;
        Ok(take(y))
    }

    pub(super) fn gate(x: &Tensor) -> Result<Tensor> {
        let mut y = null_mut();
        // SAFETY: as above.
        check(unsafe { demask_gate(handle(x), &mut y) })?;
        Ok(take(y))
    }

    pub(super) fn label_log_prob(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
        let mut y = null_mut();
        // SAFETY: as above; labels are int64 below the width of the logits, which the caller checked.
        check(unsafe { demask_label_log_prob(handle(logits), handle(labels), &mut y) })?;
        Ok(take(y))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// Repeatable numbers in about -2..2.
    fn numbers(shape: &[i64], kind: Kind, salt: f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * (0.7 + salt)).sin() * 2.0;
        wave.reshape(shape).to_kind(kind).set_requires_grad(true)
    }

    /// The result of `f` and the gradients of a weighted sum of it.
    fn with_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
        let y = f(inputs);
        let weights = numbers(&y.size(), Kind::Float, 0.3).detach();
        let loss = (y.to_kind(Kind::Float) * weights).sum(Kind::Float);
        let mut all = Tensor::run_backward(&[&loss], inputs, false, false);
        all.push(y.detach());
        all
    }

    /// Both ways agree within f32's rounding of sums, or bf16's of single operators.
    fn agree(inputs: &[Tensor], ours: impl Fn(&[Tensor]) -> Tensor, composed: impl Fn(&[Tensor]) -> Tensor) {
        let tolerance = if inputs[0].kind() == Kind::Float {
            1e-5
        } else {
            2e-2
        };
        for (a, b) in with_gradients(inputs, ours)
            .iter()
            .zip(&with_gradients(inputs, composed))
        {
            let (a, b) = (a.to_kind(Kind::Float), b.to_kind(Kind::Float));
            let difference = ((&a - &b).abs().max() / b.abs().max()).double_value(&[]);
            assert!(difference < tolerance, "{:?}: {difference}", inputs[0].kind());
        }
    }

    #[test]
    fn every_kernel_is_what_it_is_composed_of() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let x = |shape: &[i64], salt| numbers(shape, kind, salt);
            agree(
                &[x(&[3, 5, 24], 0.0), x(&[3, 5, 24], 0.1), x(&[24], 0.2)],
                |x| {
                    sum_norm(x[0].shallow_clone(), Some(&x[1]), &x[2], 1e-5)
                        .map(|(s, y)| s + y)
                        .unwrap()
                },
                |x| (&x[0] + &x[1]) + norm(&(&x[0] + &x[1]), &x[2], 1e-5).unwrap(),
            );
            agree(
                &[x(&[4, 5, 22], 0.0)],
                |x| gate(&x[0]).unwrap(),
                |x| {
                    let halves = x[0].chunk(2, -1);
                    halves[0].silu() * &halves[1]
                },
            );
            let labels = Tensor::from_slice(&[3i64, 0, 16, 7]);
            agree(
                &[x(&[4, 17], 0.0)],
                |x| label_log_prob(&x[0], &labels).unwrap(),
                |x| {
                    x[0].log_softmax(-1, Kind::Float)
                        .gather(1, &labels.unsqueeze(1), false)
                        .squeeze_dim(1)
                },
            );
            agree(
                &[
                    x(&[2, 3, 7, 8], 0.0),
                    x(&[2, 3, 7, 8], 0.1),
                    x(&[2, 3, 7, 8], 0.2),
                ],
                |x| attend(&x[0], &x[1], &x[2], None, None).unwrap(),
                |x| {
                    let [q, k, v] = [&x[0], &x[1], &x[2]].map(|x| x.to_kind(Kind::Float));
                    let p = (q.matmul(&k.transpose(2, 3)) / 8f64.sqrt()).softmax(-1, Kind::Float);
                    p.matmul(&v).transpose(1, 2).reshape([2, 7, 24]).to_kind(kind)
                },
            );
        }
    }

    /// Splitting and turning, in both ways, with gradients; and the norm as it was composed of eight operators, bit for bit.
    #[test]
    fn turning_together_and_the_short_norm_are_what_they_were() {
        for kind in [Kind::Float, Kind::BFloat16] {
            let joined = numbers(&[2, 5, (3 + 2 + 2) * 8], kind, 0.0);
            let turns = crate::device::kernels::rotary::Rotary::new(8, 5, 10_000.0, Device::Cpu)
                .unwrap()
                .at(5)
                .unwrap();
            let all = |parts: [Tensor; 3]| Tensor::cat(&parts.map(|part| part.contiguous()), 1);
            agree(
                &[joined],
                |x| all(split_turn(&x[0], &turns, 3, 2, 8, None).unwrap()),
                |x| {
                    let parts = split_turn_composed(&x[0], &turns.for_heads().unwrap(), 3, 2, 8).unwrap();
                    all(parts.map(|part| part.transpose(1, 2)))
                },
            );
            let (x, weight) = (numbers(&[6, 24], kind, 0.3), numbers(&[24], kind, 0.4));
            let wide = x.to_kind(Kind::Float);
            let scale = (wide.square().mean_dim(&[-1i64][..], true, Kind::Float) + 1e-5).rsqrt();
            let before = (wide * scale).to_kind(kind) * &weight;
            assert!(norm(&x, &weight, 1e-5).unwrap().equal(&before), "{kind:?}");
        }
    }

    /// Where no gradient is wanted turning rounds once, as it does with one.
    #[test]
    fn turning_without_a_gradient_gives_the_same_bits() {
        let turns = crate::device::kernels::rotary::Rotary::new(8, 5, 10_000.0, Device::Cpu).unwrap();
        let turns = turns.all().for_heads().unwrap();
        for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
            let joined = numbers(&[5, 56], kind, 0.0);
            let with = split_turn_composed(&joined, &turns, 3, 2, 8).unwrap();
            let without = split_turn_composed(&joined.detach(), &turns, 3, 2, 8).unwrap();
            for (one, other) in with.iter().zip(&without) {
                assert!(one.equal(other), "{kind:?}");
            }
        }
    }

    #[test]
    fn a_label_beyond_the_vocabulary_is_refused() {
        let logits = numbers(&[2, 4], Kind::Float, 0.0);
        assert!(label_log_prob(&logits, &Tensor::from_slice(&[1i64, 4])).is_err());
    }
}
