//! The fused CPU kernels of `csrc/fused.cpp`, with their gradients, as functions of tensors; elsewhere (CUDA, other
//! dtypes, a build without them) the same thing composed of libtorch's operators.
//!
//! Legend: B rows, L positions, D width, H query heads, K key and value heads, E head width, F feed-forward width,
//! N chosen positions, V vocabulary.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Whether the kernels take tensors of that place and dtype.
#[must_use]
pub fn applies(x: &Tensor) -> bool {
    cfg!(fused) && x.device() == Device::Cpu && matches!(x.kind(), Kind::Float | Kind::BFloat16)
}

/// `s = x + delta` (just `x` without one) and `weight * round(s / rms(s))`, over the last axis.
///
/// # Errors
/// libtorch's.
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

/// RMS norm of composed operators: computed in f32, rounded, then multiplied by the gain.
///
/// # Errors
/// libtorch's.
pub fn norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let wide = x.f_to_kind(Kind::Float)?;
    let scale = wide.f_square()?.f_mean_dim(&[-1i64][..], true, Kind::Float)?;
    let scale = scale.f_add_scalar(eps)?.f_rsqrt()?;
    Ok(wide.f_mul(&scale)?.f_to_kind(x.kind())?.f_mul(weight)?)
}

/// Splits the stacked projection [B, L, (H + 2K) E] into q [B, H, L, E] and k, v [B, K, L, E], q and k turned by the
/// f32 tables [L, E].
///
/// # Errors
/// libtorch's.
pub fn split_turn(
    joined: &Tensor,
    tables: (&Tensor, &Tensor),
    heads: i64,
    kv_heads: i64,
    width: i64,
) -> Result<[Tensor; 3]> {
    #[cfg(fused)]
    if applies(joined) {
        return kernels::split_turn(joined, tables, heads, kv_heads, width);
    }
    let (batch, length, _) = joined.size3()?;
    let part = |first: i64, count: i64| -> Result<Tensor> {
        let part = joined.f_narrow(-1, first * width, count * width)?;
        Ok(part.f_reshape([batch, length, count, width])?.f_transpose(1, 2)?)
    };
    let turn = |x: Tensor| -> Result<Tensor> {
        let wide = x.f_to_kind(Kind::Float)?;
        let halves = wide.f_chunk(2, -1)?;
        let turned = Tensor::f_cat(&[halves[1].f_neg()?, halves[0].shallow_clone()], -1)?;
        Ok(wide
            .f_mul(tables.0)?
            .f_add(&turned.f_mul(tables.1)?)?
            .f_to_kind(x.kind())?)
    };
    Ok([
        turn(part(0, heads)?)?,
        turn(part(heads, kv_heads)?)?,
        part(heads + kv_heads, kv_heads)?,
    ])
}

/// `silu(gate) * up` of [.., 2F], the gate first.
///
/// # Errors
/// libtorch's.
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
/// libtorch's.
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

/// What one AdamW step multiplies with.
#[derive(Clone, Copy, Debug)]
pub struct AdamWStep {
    /// Scale of the gradient (clipping).
    pub clip: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the corrected root of the second moment.
    pub eps: f64,
    /// What remains of a weight after decay.
    pub keep: f64,
    /// Learning rate over the first moment's bias correction.
    pub rate: f64,
    /// One over the root of the second moment's bias correction.
    pub root: f64,
}

/// One AdamW step over flat f32 buffers (weights, first and second moment, gradient) in one pass; clears the gradient.
/// False, and nothing done, where the kernels do not apply.
///
/// # Errors
/// libtorch's.
pub fn adamw(buffers: [&Tensor; 4], step: AdamWStep) -> Result<bool> {
    #[cfg(fused)]
    if buffers
        .iter()
        .all(|buffer| applies(buffer) && buffer.kind() == Kind::Float && buffer.is_contiguous())
    {
        kernels::adamw(buffers, step)?;
        return Ok(true);
    }
    let _ = (buffers, step);
    Ok(false)
}

#[cfg(fused)]
mod kernels {
    use std::ffi::{CStr, c_char, c_int, c_void};
    use std::ptr::null_mut;

    use tch::{TchError, Tensor};

    use super::AdamWStep;
    use crate::error::Result;

    type Handle = *mut c_void;

    unsafe extern "C" {
        fn demask_last_error() -> *const c_char;
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
            heads: i64,
            kv_heads: i64,
            width: i64,
            q: *mut Handle,
            k: *mut Handle,
            v: *mut Handle,
        ) -> c_int;
        fn demask_gate(x: Handle, y: *mut Handle) -> c_int;
        fn demask_label_log_prob(logits: Handle, labels: Handle, y: *mut Handle) -> c_int;
        fn demask_adamw(
            x: Handle,
            m: Handle,
            v: Handle,
            g: Handle,
            clip: f64,
            beta1: f64,
            beta2: f64,
            eps: f64,
            keep: f64,
            rate: f64,
            root: f64,
        ) -> c_int;
    }

    fn handle(tensor: &Tensor) -> Handle {
        tensor.as_ptr().cast_mut().cast()
    }

    fn check(code: c_int) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        // SAFETY: the text lives until the next kernel of this thread.
        let words = unsafe { CStr::from_ptr(demask_last_error()) };
        Err(TchError::Torch(words.to_string_lossy().into_owned()).into())
    }

    /// Takes over a tensor that a kernel made.
    fn take(made: Handle) -> Tensor {
        // SAFETY: a kernel that answered 0 gives a `new at::Tensor`, owned by nobody else.
        unsafe { Tensor::from_ptr(made.cast()) }
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
        (cos, sin): (&Tensor, &Tensor),
        heads: i64,
        kv_heads: i64,
        width: i64,
    ) -> Result<[Tensor; 3]> {
        let mut parts = [null_mut(); 3];
        let [q, k, v] = &mut parts;
        // SAFETY: as above; the tables are contiguous f32 of at least L rows.
        check(unsafe {
            demask_split_turn(
                handle(joined),
                handle(cos),
                handle(sin),
                heads,
                kv_heads,
                width,
                q,
                k,
                v,
            )
        })?;
        let [q, k, v] = parts.map(take);
        Ok([q.f_transpose(1, 2)?, k.f_transpose(1, 2)?, v.f_transpose(1, 2)?])
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

    pub(super) fn adamw([x, m, v, g]: [&Tensor; 4], step: AdamWStep) -> Result<()> {
        let AdamWStep {
            clip,
            beta1,
            beta2,
            eps,
            keep,
            rate,
            root,
        } = step;
        // SAFETY: contiguous f32 buffers of one length, which the optimiser made.
        check(unsafe {
            demask_adamw(
                handle(x),
                handle(m),
                handle(v),
                handle(g),
                clip,
                beta1,
                beta2,
                eps,
                keep,
                rate,
                root,
            )
        })
    }
}
