//! The gradient's norm, and what the gradient is multiplied by so that its norm is no longer than it may be.

use tch::{Kind, Tensor};

use crate::error::Result;

/// The norm of a flat gradient, [1] f64, still on its device: so that it is read together with the losses.
///
/// # Errors
/// libtorch's.
pub fn norm(grad: &Tensor) -> Result<Tensor> {
    Ok(grad.f_norm()?.f_to_kind(Kind::Double)?.f_reshape([1])?)
}

/// What a gradient of that norm is multiplied by where it may be as long as `longest`; 0 turns clipping off.
#[must_use]
pub fn factor(longest: f64, norm: f64) -> f64 {
    if longest > 0.0 && norm > longest {
        longest / (norm + 1e-6)
    } else {
        1.0
    }
}
