//! Rotary position embedding, half-split as in LLaMA (`mmada.md` 1.4). Padding consumes positions.
//!
//! Legend: B rows, H heads, L positions, E head width.

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

    /// Cosines and sines of the first positions in the compute dtype. (The published code rotates in f32 whatever the
    /// dtype; in f32, where numbers are compared, that is the same.)
    ///
    /// # Errors
    /// libtorch's.
    pub fn at(&self, length: i64, kind: Kind) -> Result<(Tensor, Tensor)> {
        let cut = |table: &Tensor| table.f_narrow(0, 0, length)?.f_to_kind(kind);
        Ok((cut(&self.cos_LE)?, cut(&self.sin_LE)?))
    }

    /// Rotates queries or keys, [B, H, L, E].
    ///
    /// # Errors
    /// libtorch's.
    pub fn apply(x_BHLE: &Tensor, (cos_LE, sin_LE): &(Tensor, Tensor)) -> Result<Tensor> {
        let halves = x_BHLE.f_chunk(2, -1)?;
        let turned = Tensor::f_cat(&[halves[1].f_neg()?, halves[0].shallow_clone()], -1)?;
        Ok(x_BHLE.f_mul(cos_LE)?.f_add(&turned.f_mul(sin_LE)?)?)
    }
}
