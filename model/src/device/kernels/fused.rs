//! The fused CPU kernels of `csrc/fused.cpp` as functions of tensors, with gradients. Where they do not apply (CUDA,
//! other dtypes, a build without C++ code), the functions are composed of libtorch's operators.
//!
//! Legend: B rows, L positions, D width, H query heads, K key and value heads, E head width, F feed-forward width,
//! N chosen positions, V vocabulary.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::device::kernels::rotary::Turns;
use crate::error::Result;

/// Packed rows, whose real tokens lie back to back, for the kernels. Legend: B rows of L positions, T real tokens.
#[derive(Debug)]
pub struct PackedRows {
    /// The index of each real token in B x L, [T], i64.
    pub index_T: Tensor,
    /// The number of leading padding positions of each row, [B], i64.
    pub pads_B: Tensor,
    /// The number of rows, B.
    pub batch: i64,
    /// The number of positions of a row, L.
    pub length: i64,
}

/// Returns whether the attention kernel takes rows of this length.
#[must_use]
pub fn is_short(length: usize) -> bool {
    length as i64 <= SHORT
}

/// Returns whether the kernels take tensors of this device and dtype.
#[must_use]
pub fn applies_to(device: Device, kind: Kind) -> bool {
    cfg!(fused) && device == Device::Cpu && matches!(kind, Kind::Float | Kind::BFloat16)
}

/// Returns whether the kernels take this tensor.
#[must_use]
pub fn applies(x: &Tensor) -> bool {
    applies_to(x.device(), x.kind())
}

/// Computes the residual sum `s = x + delta` (or `s = x` without `delta`) and its RMS norm,
/// `weight * round(s / rms(s))`, over the last dimension. Returns both.
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

/// Computes the RMS norm with libtorch's operators: in f32 or wider, rounded, then multiplied by the gain.
///
/// It takes two launches on a GPU. With the gain inside the first operator, a quarter of the values would round
/// differently from the published code.
///
/// # Errors
/// Any error libtorch reports.
pub fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    Ok(x.f_rms_norm(weight.size(), None::<&Tensor>, eps)?.f_mul(weight)?)
}

/// Splits the stacked projection, [B, L, (H + 2K) E], into q, [B, H, L, E], and k and v, [B, K, L, E], and rotates q
/// and k. With `packed`, which only the kernels support, the projection is [1, T, ..] and is unpacked, with zeros at
/// the padding.
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

/// Splits and rotates with libtorch's operators: [.., P, (H + 2K) E] into q, [.., P, H, E], and k and v, [.., P, K, E],
/// by rotary tables [P, 1, E].
///
/// Queries and keys are adjacent and rotated together. That takes four launches on a GPU, three without a gradient.
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

/// Rotates queries or keys, with a single rounding at the end.
fn turned(x: &Tensor, turns: &Turns) -> Result<Tensor> {
    let halves = x.f_chunk(2, -1)?;
    let swapped = Tensor::f_cat(&[&halves[1], &halves[0]], -1)?;
    // The product is in f32 or wider, because the tables are f32.
    let straight = x.f_mul(&turns.cos)?;
    if x.kind() == straight.kind() || x.requires_grad() {
        let turned = straight.f_addcmul(&swapped, &turns.swap)?;
        return Ok(turned.f_to_kind(x.kind())?);
    }
    Ok(straight.f_addcmul_out(&swapped.f_empty_like()?, &swapped, &turns.swap)?)
}

/// The longest sequence whose L x L probabilities are kept for the backward pass. Longer ones recompute them.
const SHORT: i64 = demask_api::activations::KERNEL_LENGTH as i64;

/// Computes `softmax(q k^T / sqrt(E) + bias) v` of q, [B, H, L, E], and k and v, [B, K, L, E], and merges the heads:
/// [B, L, H E].
///
/// The implementation is chosen by L and the bias, never by B, so that sampling and training give the same numbers
/// (L7). With `packed`, which only the kernels support, the result is packed again, [1, T, H E], and padding is not
/// attended to.
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
    // Flash attention supports fewer key heads than query heads, so there the keys are not repeated.
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

/// Computes `silu(gate) * up` of [.., 2F], where the gate is the first half.
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

/// Computes the log-probability of each label, [N] f32, under `logits_NV`.
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
        // SAFETY: the handles are live tensors; the kernel checks their shapes and writes both results.
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
        // SAFETY: as above; the rotary tables are contiguous f32 with at least L rows.
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
        // SAFETY: as above; the index stays within B x L, because it is computed from the pads.
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
        // SAFETY: as above; the kernel checks the labels.
        check(unsafe { demask_label_log_prob(handle(logits), handle(labels), &mut y) })?;
        Ok(take(y))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// Returns reproducible numbers in about -2..2.
    fn numbers(shape: &[i64], kind: Kind, salt: f64) -> Tensor {
        let count = shape.iter().product::<i64>();
        let wave = (Tensor::arange(count, (Kind::Double, Device::Cpu)) * (0.7 + salt)).sin() * 2.0;
        wave.reshape(shape).to_kind(kind).set_requires_grad(true)
    }

    /// Returns the gradients of a weighted sum of `f`, and the result of `f`.
    fn with_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Tensor) -> Vec<Tensor> {
        let y = f(inputs);
        let weights = numbers(&y.size(), Kind::Float, 0.3).detach();
        let loss = (y.to_kind(Kind::Float) * weights).sum(Kind::Float);
        let mut all = Tensor::run_backward(&[&loss], inputs, false, false);
        all.push(y.detach());
        all
    }

    /// Checks that both ways agree within the rounding of sums in f32, or of single operators in bf16.
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

    /// Splits and rotates in both ways, with gradients, and compares the norm bit for bit with one composed of eight
    /// operators.
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

    /// The rotation rounds once, with and without a gradient.
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
