//! The parameters of a network, and their leaves: the tensors in the compute dtype that the forward pass reads and that
//! autograd differentiates.
//!
//! Parameters for training have one flat f32 master copy, so that the optimizer needs only a few operations on large
//! tensors. The leaves are views of one flat copy of the master in the compute dtype, so that a refresh after a step is
//! a single conversion.
//!
//! Parameters for sampling have leaves and no master.
//!
//! Parameters that are sharded over ranks (`shards/`) have a master that contains only the part that this rank owns.
//! Their leaves are readable only while their group is gathered. Sharded parameters for sampling, such as the frozen
//! base of an adapter, have that part in the compute dtype.
//!
//! - `mod.rs`: the leaves and the master; `building.rs`: creating parameters;
//! - `values.rs`: their values by name; `gradients.rs`: the gradients of the leaves.

mod building;
mod gradients;
mod values;

use std::collections::BTreeMap;

use demask_api::Purpose;
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::shards::leaves::ShardedLeaves;
use crate::weights::slot::Slot;

/// Named parameters of one network.
#[derive(Debug)]
pub struct Parameters {
    slots: Vec<Slot>,
    places: Vec<SlotPlace>,
    /// The index of a leaf, by the name of its first slot.
    index: BTreeMap<String, usize>,
    purpose: Purpose,
    /// The master copy: all values in f32, in the order of the slots. Empty if the parameters are for sampling. Only
    /// this rank's part if they are sharded, in the compute dtype if they are also for sampling.
    master: Tensor,
    /// The flat copy of the master in the compute dtype, of which the leaves are views. It is the master itself if that
    /// dtype is f32 or the parameters are sharded. Empty if they are for sampling.
    compute: Tensor,
    leaves: Vec<Tensor>,
    /// The leaves by group, if the parameters are sharded over ranks.
    sharded: Option<ShardedLeaves>,
}

/// The location of a slot's values.
#[derive(Clone, Copy, Debug)]
struct SlotPlace {
    /// The offset in the flat master.
    flat: i64,
    /// The index of its leaf.
    leaf: usize,
    /// The offset in the flattened leaf.
    within: i64,
}

impl Parameters {
    /// Returns a view of each slot's part of a flat tensor of the master's length.
    fn views(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        let views = self.slots.iter().zip(&self.places);
        views
            .map(|(slot, place)| Ok(part(flat, place.flat, slot)?.f_detach()?))
            .collect()
    }

    /// Returns the offset of each leaf in the flat master, and its shape.
    fn leaf_shapes(&self) -> Vec<(i64, Vec<i64>)> {
        let mut shapes: Vec<(i64, Vec<i64>)> = Vec::new();
        for (slot, place) in self.slots.iter().zip(&self.places) {
            match shapes.last_mut().filter(|_| slot.stacked) {
                Some((_, shape)) => shape[0] += slot.shape[0],
                None => shapes.push((place.flat, slot.shape.clone())),
            }
        }
        shapes
    }

    /// Returns a view of a slot's part of its leaf.
    fn in_leaf(&self, number: usize) -> Result<Tensor> {
        let place = self.places[number];
        let flat = self.leaves[place.leaf].f_detach()?.f_view([-1])?;
        part(&flat, place.within, &self.slots[number])
    }

    /// Returns whether the parameters are for training or for sampling.
    #[must_use]
    pub fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// Checks that the parameters can be trained.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if they were loaded for sampling.
    pub fn trainable(&self) -> Result<()> {
        match self.purpose {
            Purpose::Train => Ok(()),
            Purpose::Sample => Err(ModelError::Refused(
                "the weights were loaded for sampling, without gradients and optimizer state: load them with the purpose train"
                    .into(),
            )),
        }
    }

    /// Returns the slots, in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Returns the number of elements of all parameters, on all ranks together.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| u64::try_from(slot.len()).unwrap_or(0))
            .sum()
    }

    /// Returns a leaf by the name of its first slot. It is in the compute dtype and includes the slots that are stacked
    /// under the first one.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if there is no leaf of this name, or if its group of sharded weights is not gathered
    /// (both are bugs in this crate).
    pub fn leaf(&self, name: &str) -> Result<&Tensor> {
        let number = self
            .index
            .get(name)
            .ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))?;
        if self
            .sharded
            .as_ref()
            .is_some_and(|sharded| !sharded.is_readable(*number))
        {
            let message = format!("the weights of {name} are on several ranks (a bug in this crate)");
            return Err(ModelError::Refused(message));
        }
        Ok(&self.leaves[*number])
    }

    /// Returns the leaves by name. Those of sharded parameters have memory only while their group is gathered.
    pub fn leaves(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.index
            .iter()
            .map(|(name, &number)| (name.as_str(), &self.leaves[number]))
    }

    /// Returns a number that changes whenever a leaf is written to.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn version(&self) -> Result<i64> {
        let versions = self.leaves.iter().map(Tensor::f_internal_version);
        versions.sum::<Result<i64, _>>().map_err(Into::into)
    }

    /// Returns the dtype and the device of the leaves.
    #[must_use]
    pub fn leaves_like(&self) -> (Kind, Device) {
        let leaf = self.leaves.first().unwrap_or(&self.master);
        (leaf.kind(), leaf.device())
    }

    /// Returns the leaves by group if the parameters are sharded over ranks, otherwise `None`.
    #[must_use]
    pub fn sharded(&self) -> Option<&ShardedLeaves> {
        self.sharded.as_ref()
    }

    /// Returns the master copy, flat, f32. It is empty if the parameters are for sampling, and contains only this
    /// rank's part if they are sharded. A caller that changes it must then call [`Self::refresh`].
    pub fn master(&self) -> &Tensor {
        &self.master
    }

    /// Copies the master into the leaves, converted to the compute dtype. This does nothing if the leaves are views of
    /// the master, or if the parameters are sharded: then the next gather reads the master.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn refresh(&self) -> Result<()> {
        if self.compute.kind() != Kind::Float {
            let mut compute = self.compute.shallow_clone();
            tch::no_grad(|| compute.f_copy_(&self.master))?;
        }
        Ok(())
    }
}

/// Returns a view of a slot's part of a flat tensor, which begins at `at`, in the slot's shape.
fn part(flat: &Tensor, at: i64, slot: &Slot) -> Result<Tensor> {
    Ok(flat.f_narrow(0, at, slot.len())?.f_view(&slot.shape[..])?)
}
