//! The comparison of a computed tensor with a recorded one.

use demask_api::TensorCheck;
use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The largest difference allowed, relative to the largest magnitude in the recorded tensor.
pub const TOLERANCE: f64 = 1e-4;

/// Compares numbers. A tensor that is not finite, or has another shape, fails.
///
/// # Errors
/// Any error libtorch reports.
pub fn compare(name: &str, found: &Tensor, expected: &Tensor) -> Result<TensorCheck> {
    let name = name.to_owned();
    if found.size() != expected.size() {
        return Ok(TensorCheck {
            name,
            max_abs: f64::INFINITY,
            max_rel: f64::INFINITY,
            passed: false,
        });
    }
    let flat = |tensor: &Tensor| {
        tensor
            .f_to_device(Device::Cpu)?
            .f_to_kind(Kind::Double)?
            .f_reshape([-1])
    };
    let (found, expected) = (flat(found)?, flat(expected)?);
    let max_abs = found.f_sub(&expected)?.f_abs()?.f_max()?.f_double_value(&[])?;
    let scale = expected.f_abs()?.f_max()?.f_double_value(&[])?;
    let max_rel = if max_abs == 0.0 {
        0.0
    } else {
        max_abs / scale.max(f64::MIN_POSITIVE)
    };
    Ok(TensorCheck {
        name,
        max_abs,
        max_rel,
        passed: max_rel <= TOLERANCE,
    })
}

/// Compares token ids, which must be equal.
///
/// # Errors
/// Any error libtorch reports.
pub fn compare_tokens(name: &str, found: &[i64], expected: &Tensor) -> Result<TensorCheck> {
    let expected: Vec<i64> = Vec::<i64>::try_from(expected.f_to_kind(Kind::Int64)?.f_reshape([-1])?)?;
    let different = if found.len() == expected.len() {
        found.iter().zip(&expected).filter(|(a, b)| a != b).count()
    } else {
        expected.len().max(1)
    };
    let share = different as f64 / expected.len().max(1) as f64;
    Ok(TensorCheck {
        name: name.to_owned(),
        max_abs: different as f64,
        max_rel: share,
        passed: different == 0,
    })
}
