//! Weights kept a second time, [I, O] where the network has [O, I], for the passes of a sampler on a CPU.
//!
//! The matrix library copies an [O, I] weight into the order that it computes in at every product. Of many rows that is little;
//! of the eight to fifty of a cached step it is up to half the product. The copy here is that order to begin with. It is made
//! when a pass first wants it, and anew when the weights have changed since; products with it add in another order, so that a
//! sampler's numbers are those of training up to rounding, as they are with its caches.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::Tensor;

use crate::error::Result;

/// Says `0`, `1`, or nothing: as large as [`MOST`] allows.
pub const TRANSPOSED: &str = "DEMASK_TRANSPOSED_WEIGHTS";
/// Bytes that copies take at most where nobody asks for more.
const MOST: u64 = 1 << 30;

/// The copies, by the name of the leaf.
#[derive(Debug)]
pub(crate) struct Transposed {
    version: i64,
    weights: BTreeMap<String, Tensor>,
}

impl Transposed {
    /// Copies of all matrices among some leaves at a version of theirs.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new<'a>(version: i64, leaves: impl Iterator<Item = (&'a str, &'a Tensor)>) -> Result<Self> {
        let matrices = leaves.filter(|(_, leaf)| leaf.dim() == 2);
        let weights = matrices
            .map(|(name, leaf)| Ok((name.to_owned(), leaf.f_detach()?.f_tr()?.f_contiguous()?)))
            .collect::<Result<_>>()?;
        Ok(Self { version, weights })
    }

    /// The version of the leaves that these are copies of.
    #[must_use]
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The copy of a leaf, [I, O].
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.weights.get(name)
    }

    /// The same copies, for another thread.
    #[must_use]
    pub fn shared(&self) -> Self {
        let weights = self.weights.iter();
        Self {
            version: self.version,
            weights: weights
                .map(|(name, weight)| (name.clone(), weight.shallow_clone()))
                .collect(),
        }
    }
}

/// Whether weights of so many bytes are kept twice.
#[must_use]
pub(crate) fn are_kept(bytes: u64) -> bool {
    match std::env::var(TRANSPOSED).as_deref().map(str::trim) {
        Ok("0") => false,
        Ok("1") => true,
        _ => bytes <= MOST,
    }
}

/// `x wᵀ + bias` of rows x [T, I] by the copy [I, O] of a weight.
///
/// # Errors
/// libtorch's.
pub(crate) fn linear(x_TI: &Tensor, weight_IO: &Tensor, bias_O: Option<&Tensor>) -> Result<Tensor> {
    Ok(match bias_O {
        Some(bias) => bias.f_addmm(x_TI, weight_IO)?,
        None => x_TI.f_mm(weight_IO)?,
    })
}
