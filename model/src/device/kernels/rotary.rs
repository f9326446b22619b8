//! The tables of the rotary position embedding, half-split as in LLaMA (`mmada.md` 1.4). Padding counts as positions.
//!
//! The rotation itself is in `fused.rs`. Legend: L positions, E head width.

#![allow(non_snake_case)]

use tch::{Device, Kind, Tensor};

use crate::error::Result;

/// The rotary tables of every position, f32.
#[derive(Debug)]
pub struct Rotary {
    all: Turns,
}

/// The rotary tables of some positions, f32, each [L, E]. They rotate x to
/// `x cos + (-right, left) sin = x cos + (right, left) swap`, where left and right are the halves of x.
#[derive(Debug)]
pub struct Turns {
    /// The cosines.
    pub cos: Tensor,
    /// The sines.
    pub sin: Tensor,
    /// The sines, with those of the left half negated.
    pub swap: Tensor,
}

impl Turns {
    fn map(&self, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        Ok(Self {
            cos: f(&self.cos)?,
            sin: f(&self.sin)?,
            swap: f(&self.swap)?,
        })
    }

    /// Selects the tables of the given positions, [T].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn of(&self, positions_T: &Tensor) -> Result<Self> {
        self.map(|table| Ok(table.f_index_select(0, positions_T)?))
    }

    /// Adds a dimension for the heads: each table becomes [L, 1, E].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn for_heads(&self) -> Result<Self> {
        self.map(|table| Ok(table.f_unsqueeze(1)?))
    }

    /// Copies the values of other tables into the tensors of these.
    ///
    /// # Errors
    /// Any error libtorch reports, for example if the shapes differ.
    pub fn refill(&mut self, other: &Self) -> Result<()> {
        self.cos.f_copy_(&other.cos)?;
        self.sin.f_copy_(&other.sin)?;
        Ok(self.swap.f_copy_(&other.swap)?)
    }
}

impl Rotary {
    /// Computes the tables for a head width, a longest sequence and a base.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(width: usize, longest: usize, theta: f64, device: Device) -> Result<Self> {
        let half = (width / 2) as i64;
        let steps = Tensor::f_arange_start_step(0, 2 * half, 2, (Kind::Float, Device::Cpu))?;
        let exponent = steps.f_div_scalar(2.0 * half as f64)?;
        let frequency = Tensor::f_pow_scalar(theta, &exponent)?.f_reciprocal()?;
        let position = Tensor::f_arange(longest as i64, (Kind::Float, Device::Cpu))?;
        let angle = position.f_unsqueeze(1)?.f_mul(&frequency.f_unsqueeze(0)?)?;
        let angle_LE = Tensor::f_cat(&[&angle, &angle], 1)?.f_to_device(device)?;
        let (cos, sin) = (angle_LE.f_cos()?, angle_LE.f_sin()?);
        let halves = sin.f_chunk(2, 1)?;
        let swap = Tensor::f_cat(&[&halves[0].f_neg()?, &halves[1]], 1)?;
        Ok(Self {
            all: Turns { cos, sin, swap },
        })
    }

    /// Returns the tables of every position.
    #[must_use]
    pub fn all(&self) -> &Turns {
        &self.all
    }

    /// Returns the tables of the first `length` positions.
    ///
    /// # Errors
    /// Any error libtorch reports, for example if `length` exceeds the longest sequence.
    pub fn at(&self, length: i64) -> Result<Turns> {
        self.all.map(|table| Ok(table.f_narrow(0, 0, length)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_frequencies_are_the_published_ones() {
        let rotary = Rotary::new(128, 2, 500_000.0, Device::Cpu).unwrap();
        let sin = rotary.at(2).unwrap().sin;
        let angle = |j: i64| sin.double_value(&[1, j]).asin();
        assert!((angle(1) - 0.814_617_23).abs() < 1e-6);
        assert!((angle(63) - 2.455_140_8e-6).abs() < 1e-11);
    }
}
