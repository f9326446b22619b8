//! Rotary position embedding, half-split as in LLaMA (`mmada.md` 1.4). Padding consumes positions.
//!
//! The turning itself is in `fused.rs`. Legend: L positions, E head width.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// Cosines and sines for every position, f32.
#[derive(Debug)]
pub struct Rotary {
    cos_LE: Tensor,
    sin_LE: Tensor,
}

impl Rotary {
    /// The table for a head width, a longest sequence and a base.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(width: usize, longest: usize, theta: f64, device: Device) -> Result<Self> {
        let half = (width / 2) as i64;
        let steps = Tensor::f_arange_start_step(0, 2 * half, 2, (Kind::Float, Device::Cpu))?;
        let exponent = steps.f_div_scalar(2.0 * half as f64)?;
        let frequency = Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()?;
        let position = Tensor::f_arange(longest as i64, (Kind::Float, Device::Cpu))?;
        let angle = position.f_unsqueeze(1)?.f_mul(&frequency.f_unsqueeze(0)?)?;
        let angle_LE = Tensor::f_cat(&[&angle, &angle], 1)?.f_to_device(device)?;
        Ok(Self {
            cos_LE: angle_LE.f_cos()?,
            sin_LE: angle_LE.f_sin()?,
        })
    }

    /// Cosines and sines of the first positions, each [L, E].
    ///
    /// # Errors
    /// libtorch's, beyond the longest sequence.
    pub fn at(&self, length: i64) -> Result<(Tensor, Tensor)> {
        Ok((
            self.cos_LE.f_narrow(0, 0, length)?,
            self.sin_LE.f_narrow(0, 0, length)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_frequencies_are_the_published_ones() {
        let (_, sin) = Rotary::new(128, 2, 500_000.0, Device::Cpu)
            .unwrap()
            .at(2)
            .unwrap();
        let angle = |j: i64| sin.double_value(&[1, j]).asin();
        assert!((angle(1) - 0.814_617_23).abs() < 1e-6);
        assert!((angle(63) - 2.455_140_8e-6).abs() < 1e-11);
    }
}
