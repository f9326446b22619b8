//! Muon's update of hidden matrices (K. Jordan 2024): the momentum with all its singular values brought near
//! one. It is scaled to the magnitude of Adam's update (arXiv 2502.16982, equation 4), so that one learning
//! rate serves both.
//!
//! Legend: K matrices of one shape, M their shorter side, N their longer side.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::weights::slot::Slot;

/// The number of Newton–Schulz iterations, and the published coefficients of each.
const ITERATIONS: usize = 5;
const QUINTIC: (f64, f64, f64) = (3.4445, -4.7750, 2.0315);
/// The root mean square of an update of Adam.
const ADAM_SIZE: f64 = 0.2;

/// Returns whether a parameter takes Muon's update: a matrix or a convolution between two hidden layers.
/// Embeddings, the head, norms, and the first and last convolutions do not.
pub(super) fn takes(slot: &Slot) -> bool {
    match slot.shape.len() {
        2 => slot.name.contains(".blocks."),
        4 => !slot.name.contains("conv_in") && !slot.name.contains("conv_out"),
        _ => false,
    }
}

/// The largest number of elements whose updates are computed in one batch, which always holds at least one
/// matrix. A stack of matrices is computed as fast as one, but takes memory for all of them.
const TOGETHER: i64 = demask_api::plan::MATRICES_AT_ONCE as i64;

/// A parameter that takes Muon's update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The sides of the parameter as a matrix. All dimensions of a convolution but the first form one side.
    pub rows: i64,
    /// The second side.
    pub columns: i64,
    /// The offset of its first element in the flat master weights of all ranks.
    pub flat: i64,
}

impl Matrix {
    fn of(slot: &Slot, flat: i64) -> Self {
        Self {
            rows: slot.shape[0],
            columns: slot.shape[1..].iter().product(),
            flat,
        }
    }

    /// Returns the shorter and the longer side.
    fn sides(self) -> (i64, i64) {
        (self.rows.min(self.columns), self.rows.max(self.columns))
    }

    /// Returns the number of elements.
    #[must_use]
    pub fn numbers(self) -> i64 {
        self.rows * self.columns
    }

    /// Returns the start and the end (exclusive) of its elements in the flat master weights.
    #[must_use]
    pub fn range(self) -> (i64, i64) {
        (self.flat, self.flat + self.numbers())
    }

    /// Returns the multiplications of an iteration, up to a factor that all matrices share.
    fn cost(self) -> i64 {
        let (shorter, longer) = self.sides();
        shorter * shorter * (2 * longer + shorter)
    }

    /// Transposes the matrix so that its shorter side comes first; a second call undoes the first.
    fn lying(self, matrix: &Tensor) -> Result<Tensor> {
        if self.rows > self.columns {
            return Ok(matrix.f_transpose(0, 1)?);
        }
        Ok(matrix.shallow_clone())
    }
}

/// Returns all parameters that take Muon's update, in batches of one shape. The batches depend on nothing but the
/// slots. Those that cost most come first, so that neighbours cost about the same.
#[must_use]
pub fn batches(slots: &[Slot]) -> Vec<Vec<Matrix>> {
    let mut by_shape: BTreeMap<(i64, i64), Vec<Vec<Matrix>>> = BTreeMap::new();
    let mut flat = 0;
    for slot in slots {
        if takes(slot) {
            let matrix = Matrix::of(slot, flat);
            let batches = by_shape.entry(matrix.sides()).or_default();
            let has_room = |batch: &&mut Vec<Matrix>| (batch.len() as i64 + 1) * slot.len() <= TOGETHER;
            match batches.last_mut().filter(has_room) {
                Some(batch) => batch.push(matrix),
                None => batches.push(vec![matrix]),
            }
        }
        flat += slot.len();
    }
    let mut batches: Vec<Vec<Matrix>> = by_shape.into_values().flatten().collect();
    batches.sort_by_key(|batch| {
        let cost: i64 = batch.iter().map(|matrix| matrix.cost()).sum();
        std::cmp::Reverse(cost)
    });
    batches
}

/// Computes the update of each matrix of a batch from its momentum; both are flat.
///
/// # Errors
/// Returns libtorch's errors.
pub fn directions(batch: &[Matrix], momenta: Vec<Tensor>) -> Result<Vec<Tensor>> {
    let lie = |(matrix, momentum): (&Matrix, Tensor)| -> Result<Tensor> {
        matrix.lying(&momentum.f_view([matrix.rows, matrix.columns])?)
    };
    let stacked = batch.iter().zip(momenta).map(lie).collect::<Result<Vec<_>>>()?;
    let longer = batch.first().map_or(1, |matrix| matrix.sides().1);
    let x_KMN = Tensor::f_stack(&stacked, 0)?;
    drop(stacked);
    let scale = ADAM_SIZE * (longer as f64).sqrt();
    let made_KMN = orthogonalise(&x_KMN)?.f_mul_scalar(scale)?;
    drop(x_KMN);
    let flat = |(number, matrix): (usize, &Matrix)| -> Result<Tensor> {
        let made = matrix.lying(&made_KMN.f_select(0, number as i64)?)?;
        Ok(made.f_contiguous()?.f_view([-1])?)
    };
    batch.iter().enumerate().map(flat).collect()
}

/// Brings the singular values of each matrix, [K, M, N] with M ≤ N, into about 0.7 to 1.2, and keeps its
/// singular vectors.
///
/// # Errors
/// Returns libtorch's errors.
pub fn orthogonalise(x_KMN: &Tensor) -> Result<Tensor> {
    let (a, b, c) = QUINTIC;
    let norm = x_KMN
        .f_norm_scalaropt_dim(2.0, [-2, -1], true)?
        .f_clamp_min(1e-12)?;
    let mut x_KMN = x_KMN.f_div(&norm)?.f_to_kind(Kind::BFloat16)?;
    for _ in 0..ITERATIONS {
        let gram_KMM = x_KMN.f_bmm(&x_KMN.f_transpose(1, 2)?)?;
        let square_KMM = gram_KMM.f_bmm(&gram_KMM)?;
        let by_KMM = gram_KMM.f_mul_scalar(b)?.f_add(&square_KMM.f_mul_scalar(c)?)?;
        x_KMN = x_KMN.f_mul_scalar(a)?.f_add(&by_KMM.f_bmm(&x_KMN)?)?;
    }
    Ok(x_KMN.f_to_kind(Kind::Float)?)
}
