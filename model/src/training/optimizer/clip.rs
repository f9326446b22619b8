//! The gradient norm and the factor that clips it.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Computes the norm of a flat gradient, [1] f64. It stays on the device, so that one transfer reads it
/// together with the losses.
///
/// # Errors
/// Returns libtorch's errors.
pub fn norm(grad: &Tensor) -> Result<Tensor> {
    Ok(grad.f_norm()?.f_to_kind(Kind::Double)?.f_reshape([1])?)
}

/// Returns the factor that a gradient of norm `norm` is multiplied by for a maximum of `longest`; 0 turns
/// clipping off.
#[must_use]
pub fn factor(longest: f64, norm: f64) -> f64 {
    if longest > 0.0 && norm > longest {
        longest / (norm + 1e-6)
    } else {
        1.0
    }
}
