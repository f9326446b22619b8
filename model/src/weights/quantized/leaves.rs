//! The quantized weights of a network's blocks, by name. Each weight is dequantized for the matrix product
//! that needs it. Layers that are computed as one product are quantized separately, as in the published
//! layout, and dequantized into one matrix, one below the other.

use std::collections::BTreeMap;
use std::sync::Arc;

use demask_api::FrozenBase;
use tch::{Device, Kind, Tensor};

use super::QuantizedTensor;
use crate::device::heartbeat;
use crate::device::kernels::frozen_linear::FrozenWeight;
use crate::error::Result;
use crate::weights::slot::Slot;

/// Quantized weights, by the name of the first layer of each product. Clones share the stored data.
#[derive(Clone, Debug, Default)]
pub struct QuantizedLeaves {
    form: FrozenBase,
    leaves: BTreeMap<String, Arc<dyn FrozenWeight>>,
    count: u64,
    bytes: u64,
}

/// The weight of one matrix product.
#[derive(Debug)]
struct QuantizedLeaf {
    /// The quantized layers with their numbers of rows.
    parts: Vec<(i64, QuantizedTensor)>,
    columns: i64,
    place: (Kind, Device),
}

// SAFETY: the tensors are only read, libtorch allows concurrent reads of a tensor, and its reference counts
// are atomic.
unsafe impl Sync for QuantizedLeaf {}

impl FrozenWeight for QuantizedLeaf {
    fn made(&self) -> Result<Tensor> {
        tch::no_grad(|| {
            let rows: i64 = self.parts.iter().map(|(rows, _)| rows).sum();
            let made = Tensor::f_empty([rows, self.columns], self.place)?;
            let mut first = 0;
            for (rows, part) in &self.parts {
                part.write(&mut made.f_narrow(0, first, *rows)?)?;
                first += rows;
            }
            Ok(made)
        })
    }
}

impl QuantizedLeaves {
    /// Quantizes the matrices of `slots` one after another. `fill` writes the values of each matrix, so only
    /// one is in memory unquantized at a time.
    ///
    /// # Errors
    /// Returns the errors of `fill` and of libtorch.
    pub fn build(
        slots: &[Slot],
        form: FrozenBase,
        (device, kind): (Device, Kind),
        mut fill: impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<Self> {
        let mut products: Vec<(String, QuantizedLeaf)> = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        for slot in slots {
            heartbeat::beat();
            let part = tch::no_grad(|| {
                let mut whole = Tensor::f_empty(&slot.shape[..], (Kind::Float, device))?;
                fill(slot, &mut whole)?;
                QuantizedTensor::of(&whole, form)
            })?;
            count += u64::try_from(slot.len()).unwrap_or(0);
            bytes += part.bytes();
            let part = (slot.shape[0], part);
            match products.last_mut().filter(|_| slot.stacked) {
                Some((_, leaf)) => leaf.parts.push(part),
                None => products.push((
                    slot.name.clone(),
                    QuantizedLeaf {
                        parts: vec![part],
                        columns: slot.shape[1],
                        place: (kind, device),
                    },
                )),
            }
        }
        let shared = |(name, leaf)| {
            let leaf: Arc<dyn FrozenWeight> = Arc::new(leaf);
            (name, leaf)
        };
        Ok(Self {
            form,
            leaves: products.into_iter().map(shared).collect(),
            count,
            bytes,
        })
    }

    /// Returns the weight of the product whose first layer's weight has the name `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<dyn FrozenWeight>> {
        self.leaves.get(name)
    }

    /// Returns the weights of all products, by the names of their first layers' weights.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &Arc<dyn FrozenWeight>)> {
        self.leaves.iter().map(|(name, weight)| (name.as_str(), weight))
    }

    /// Returns whether there are no quantized weights.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// Returns the format of the weights.
    #[must_use]
    pub fn form(&self) -> FrozenBase {
        self.form
    }

    /// Returns the number of parameters.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}
