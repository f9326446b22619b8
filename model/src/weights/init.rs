//! The initial values of fresh networks. They come from our own counter-based generator, so that a seed gives the same
//! values on every device.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tch::Tensor;

use crate::error::Result;

/// Returns normal values with a standard deviation.
///
/// # Errors
/// Any error libtorch reports.
pub fn normal(shape: &[i64], deviation: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    filled(shape, || deviation * gaussian(rng))
}

/// Returns normal values with a standard deviation. Values beyond three deviations are drawn again.
///
/// # Errors
/// Any error libtorch reports.
pub fn truncated_normal(shape: &[i64], deviation: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    filled(shape, || {
        loop {
            let draw = gaussian(rng);
            if draw.abs() <= 3.0 {
                return deviation * draw;
            }
        }
    })
}

/// Returns uniform values in ±bound.
///
/// # Errors
/// Any error libtorch reports.
pub fn uniform(shape: &[i64], bound: f64, rng: &mut ChaCha8Rng) -> Result<Tensor> {
    filled(shape, || bound * (2.0 * rng.random::<f64>() - 1.0))
}

fn filled(shape: &[i64], mut draw: impl FnMut() -> f64) -> Result<Tensor> {
    let count: i64 = shape.iter().product();
    #[allow(clippy::cast_possible_truncation)]
    let values: Vec<f32> = (0..count).map(|_| draw() as f32).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view(shape)?)
}

fn gaussian(rng: &mut ChaCha8Rng) -> f64 {
    // The Box–Muller transform; `u` is in (0, 1].
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}
