//! The parameters of a network, and their leaves: the tensors in the compute dtype that the forward pass reads and that
//! autograd differentiates.
//!
//! Parameters for training have one flat f32 master copy, so that the optimiser needs only a few operations on large
//! tensors. The leaves are views of one flat copy of the master in the compute dtype, so that a refresh after a step is
//! a single conversion.
//!
//! Parameters for sampling have leaves and no master.
//!
//! Parameters that are sharded over ranks (`shards/`) have a master that contains only the part that this rank owns.
//! Their leaves are readable only while their group is gathered. Sharded parameters for sampling, such as the frozen
//! base of an adapter, have that part in the compute dtype.

use std::collections::BTreeMap;

use demask_api::Purpose;
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::fit;
use crate::weights::shards::ShardMap;
use crate::weights::shards::leaves::ShardedLeaves;
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

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
    /// Creates trainable parameters from slots and values, one tensor per slot.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn new(slots: Vec<Slot>, values: &[Tensor], device: Device, compute: Kind) -> Result<Self> {
        let mut values = values.iter();
        Self::build(slots, device, compute, Purpose::Train, |_, into| {
            if let Some(value) = values.next() {
                into.f_copy_(value)?;
            }
            Ok(())
        })
    }

    /// Creates parameters. `fill` is called for each slot in order and writes the slot's values directly to their final
    /// location.
    ///
    /// # Errors
    /// The errors of `fill`, or any error libtorch reports.
    pub fn build(
        slots: Vec<Slot>,
        device: Device,
        compute: Kind,
        purpose: Purpose,
        mut fill: impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<Self> {
        let mut parameters = Self::empty(slots, device, purpose)?;
        tch::no_grad(|| match purpose {
            Purpose::Train => parameters.fill_master(device, compute, &mut fill),
            Purpose::Sample => parameters.fill_leaves(device, compute, &mut fill),
        })?;
        parameters.ask_for_gradients()?;
        Ok(parameters)
    }

    /// Creates parameters that are sharded over ranks. `fill` is called for each slot in order and writes the slot's
    /// values to a temporary tensor, from which this rank's part is copied. Only one slot is in memory as a whole at a
    /// time. Parameters for sampling are frozen: this rank's part is in the compute dtype, and no leaf has a gradient.
    ///
    /// # Errors
    /// The errors of `fill`, or any error libtorch reports.
    pub fn build_part(
        slots: Vec<Slot>,
        device: Device,
        compute: Kind,
        (map, purpose): (ShardMap, Purpose),
        mut fill: impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<Self> {
        let mut parameters = Self::empty(slots, device, purpose)?;
        let learns = purpose == Purpose::Train;
        let like = (if learns { Kind::Float } else { compute }, device);
        parameters.master = Tensor::f_empty([map.owned(map.own().rank)], like)?;
        parameters.compute = parameters.master.shallow_clone();
        tch::no_grad(|| -> Result<()> {
            for (slot, place) in parameters.slots.iter().zip(&parameters.places) {
                let mut whole = Tensor::f_empty(&slot.shape[..], like)?;
                fill(slot, &mut whole)?;
                map.take(&whole, place.flat, &parameters.master)?;
            }
            Ok(())
        })?;
        let place = (compute, device);
        let (sharded, leaves) = ShardedLeaves::new(map, &parameters.leaf_shapes(), place, learns)?;
        (parameters.sharded, parameters.leaves) = (Some(sharded), leaves);
        Ok(parameters)
    }

    /// Creates parameters without values.
    fn empty(slots: Vec<Slot>, device: Device, purpose: Purpose) -> Result<Self> {
        let none = || Tensor::f_empty([0], (Kind::Float, device));
        Ok(Self {
            places: places(&slots),
            index: slots
                .iter()
                .filter(|slot| !slot.stacked)
                .enumerate()
                .map(|(number, slot)| (slot.name.clone(), number))
                .collect(),
            slots,
            purpose,
            master: none()?,
            compute: none()?,
            leaves: Vec::new(),
            sharded: None,
        })
    }

    fn fill_master(
        &mut self,
        device: Device,
        compute: Kind,
        fill: &mut impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<()> {
        let length: i64 = self.slots.iter().map(Slot::len).sum();
        self.master = Tensor::f_empty([length], (Kind::Float, device))?;
        for (slot, place) in self.slots.iter().zip(&self.places) {
            fill(slot, &mut part(&self.master, place.flat, slot)?)?;
        }
        self.compute = if compute == Kind::Float {
            self.master.shallow_clone()
        } else {
            self.master.f_to_kind(compute)?
        };
        self.leaves = self.leaf_views()?;
        Ok(())
    }

    fn fill_leaves(
        &mut self,
        device: Device,
        compute: Kind,
        fill: &mut impl FnMut(&Slot, &mut Tensor) -> Result<()>,
    ) -> Result<()> {
        for (_, shape) in self.leaf_shapes() {
            self.leaves.push(Tensor::f_empty(&shape[..], (compute, device))?);
        }
        for number in 0..self.slots.len() {
            fill(&self.slots[number], &mut self.in_leaf(number)?)?;
        }
        Ok(())
    }

    /// Makes autograd compute gradients of the leaves, if the parameters are for training.
    fn ask_for_gradients(&self) -> Result<()> {
        if self.purpose == Purpose::Train {
            for leaf in &self.leaves {
                let _ = leaf.f_set_requires_grad(true)?;
            }
        }
        Ok(())
    }

    /// Loads the stored tensor of every slot directly to its final location. `source` maps the name of a slot to its
    /// stored name.
    ///
    /// # Errors
    /// The errors of [`fit::check`], an error if a file cannot be read, or any error libtorch reports.
    pub fn load(
        slots: Vec<Slot>,
        stored: &StoredTensors,
        source: impl Fn(&str) -> String,
        ignored: &[&str],
        device: Device,
        compute: Kind,
        purpose: Purpose,
    ) -> Result<Self> {
        fit::check(&slots, stored, &source, ignored)?;
        Self::build(slots, device, compute, purpose, |slot, into| {
            stored.copy_to(&source(&slot.name), into)
        })
    }

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

    /// Returns the leaves as views of the flat copy in the compute dtype.
    fn leaf_views(&self) -> Result<Vec<Tensor>> {
        let view = |(at, shape): (i64, Vec<i64>)| {
            let length = shape.iter().product();
            Ok(self
                .compute
                .f_narrow(0, at, length)?
                .f_view(&shape[..])?
                .f_detach()?)
        };
        self.leaf_shapes().into_iter().map(view).collect()
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

    /// Adds the leaves' gradients to a flat f32 buffer and clears them.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the parameters are for sampling, or any error libtorch reports.
    pub fn gather_grads(&mut self, into: &mut Tensor) -> Result<()> {
        self.trainable()?;
        tch::no_grad(|| {
            let mut start = 0;
            for leaf in &self.leaves {
                let (grad, count) = (leaf.f_grad()?, leaf.numel() as i64);
                if grad.defined() {
                    let _ = into.f_narrow(0, start, count)?.f_add_(&grad.f_reshape([-1])?)?;
                }
                start += count;
            }
            self.clear_grads();
            Ok(())
        })
    }

    /// Adds the gradients of the elements of the master from `start` on to a flat f32 buffer. The length of the buffer
    /// determines how many elements are added.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn add_grads_from(&self, start: i64, into: &Tensor) -> Result<()> {
        let end = start + into.numel() as i64;
        tch::no_grad(|| {
            let mut at = 0;
            for leaf in &self.leaves {
                let next = at + leaf.numel() as i64;
                let (from, to) = (at.max(start), next.min(end));
                if from < to {
                    let grad = leaf.f_grad()?;
                    if grad.defined() {
                        let part = grad.f_reshape([-1])?.f_narrow(0, from - at, to - from)?;
                        let _ = into.f_narrow(0, from - start, to - from)?.f_add_(&part)?;
                    }
                }
                at = next;
            }
            Ok(())
        })
    }

    /// Returns `length` elements of the master from `start` on as parameters without leaves, for an optimiser that owns
    /// only this range. They share the memory of the master.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn range(&self, start: i64, length: i64) -> Result<Self> {
        let slots = vec![Slot::new("range", &[length])];
        Ok(Self {
            places: places(&slots),
            index: BTreeMap::new(),
            slots,
            purpose: self.purpose,
            master: self.master.f_narrow(0, start, length)?,
            compute: self.compute.f_narrow(0, start, length)?,
            leaves: Vec::new(),
            sharded: None,
        })
    }

    /// Clears the leaves' gradients. Those of sharded parameters are freed.
    pub fn clear_grads(&mut self) {
        if let Some(sharded) = &self.sharded {
            return sharded.drop_gradients();
        }
        for leaf in &mut self.leaves {
            leaf.zero_grad();
        }
    }

    /// Returns the value of each parameter by name, in f32, or in the compute dtype if the parameters are for sampling.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the parameters are sharded (a bug in this crate), or any error libtorch reports.
    pub fn named(&self) -> Result<BTreeMap<String, Tensor>> {
        self.whole()?;
        if self.purpose == Purpose::Train {
            return self.named_like(&self.master);
        }
        let named = self.slots.iter().enumerate();
        named
            .map(|(number, slot)| Ok((slot.name.clone(), self.in_leaf(number)?)))
            .collect()
    }

    /// Splits a flat tensor of the length of the whole master into a named view per slot.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn named_like(&self, flat: &Tensor) -> Result<BTreeMap<String, Tensor>> {
        let names = self.slots.iter().map(|slot| slot.name.clone());
        Ok(names.zip(self.views(flat)?).collect())
    }

    /// Returns a view of a parameter's part of a flat tensor of the master's length, in the parameter's shape.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if there is no parameter of this name (a bug in this crate), or any error libtorch
    /// reports.
    pub fn view(&self, flat: &Tensor, name: &str) -> Result<Tensor> {
        let number = self.number(name)?;
        part(flat, self.places[number].flat, &self.slots[number])
    }

    /// Returns a view of a parameter's value, through which it can be changed. If the parameters are for training, it
    /// is a view of the master, and a caller that changes it must then call [`Self::refresh`]. If they are for
    /// sampling, it is a view of the leaf. Sharded parameters are refused (a bug in this crate).
    ///
    /// # Errors
    /// [`ModelError::Refused`] if there is no parameter of this name (a bug in this crate), or any error libtorch
    /// reports.
    pub fn value(&self, name: &str) -> Result<Tensor> {
        self.whole()?;
        match self.purpose {
            Purpose::Train => Ok(self.view(&self.master, name)?.f_detach()?),
            Purpose::Sample => self.in_leaf(self.number(name)?),
        }
    }

    /// Checks that this rank has all values.
    fn whole(&self) -> Result<()> {
        match self.sharded {
            None => Ok(()),
            Some(_) => Err(ModelError::Refused(
                "each rank has a part of these weights (a bug in this crate)".into(),
            )),
        }
    }

    /// Returns the index of a slot by its name.
    fn number(&self, name: &str) -> Result<usize> {
        let number = self.slots.iter().position(|slot| slot.name == name);
        number.ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))
    }

    /// Overwrites all values with those of a flat tensor. If the parameters are sharded, the tensor may contain either
    /// all values or only those that this rank owns.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the tensor has any other length, or any error libtorch reports.
    pub fn set(&self, flat: &Tensor) -> Result<()> {
        if self.sharded.is_some() && flat.numel() == self.master.numel() {
            let mut master = self.master.shallow_clone();
            return Ok(tch::no_grad(|| master.f_copy_(flat))?);
        }
        let (found, expected) = (flat.numel() as u64, self.count());
        if found != expected {
            let message = format!("found {found} numbers for {expected} parameters");
            return Err(ModelError::Refused(message));
        }
        if let Some(sharded) = &self.sharded {
            return tch::no_grad(|| sharded.map().take(flat, 0, &self.master));
        }
        if self.purpose == Purpose::Train {
            let mut master = self.master.shallow_clone();
            tch::no_grad(|| master.f_copy_(flat))?;
            return self.refresh();
        }
        for (number, value) in self.views(flat)?.iter().enumerate() {
            self.in_leaf(number)?.f_copy_(value)?;
        }
        Ok(())
    }

    /// Creates parameters that share the values but have leaves with their own gradients. A refresh of either one
    /// changes the values of both.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn twin(&self) -> Result<Self> {
        let shared = |leaf: &Tensor| leaf.f_detach();
        let leaves = self.leaves.iter().map(shared).collect::<Result<Vec<_>, _>>()?;
        let twin = Self {
            slots: self.slots.clone(),
            places: self.places.clone(),
            index: self.index.clone(),
            purpose: self.purpose,
            master: self.master.shallow_clone(),
            compute: self.compute.shallow_clone(),
            sharded: self.sharded.as_ref().map(|sharded| sharded.twin(&leaves)),
            leaves,
        };
        twin.ask_for_gradients()?;
        Ok(twin)
    }

    /// Creates parameters for sampling with the same values. Trainable parameters are copied in the compute dtype, so
    /// that later steps do not change the copy. Parameters that are already for sampling share their leaves, and if
    /// they are sharded they stay so. Sharded parameters for training must be gathered.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn frozen_copy(&self) -> Result<Self> {
        if self.sharded.is_some() && self.purpose == Purpose::Sample {
            return self.twin();
        }
        let device = self.master.device();
        let none = || Tensor::f_empty([0], (Kind::Float, device));
        let copied = |leaf: &Tensor| -> Result<Tensor> {
            let leaf = leaf.f_detach()?;
            Ok(match self.purpose {
                Purpose::Train => leaf.copy(),
                Purpose::Sample => leaf,
            })
        };
        Ok(Self {
            slots: self.slots.clone(),
            places: self.places.clone(),
            index: self.index.clone(),
            purpose: Purpose::Sample,
            master: none()?,
            compute: none()?,
            leaves: self.leaves.iter().map(copied).collect::<Result<_>>()?,
            sharded: None,
        })
    }
}

/// Returns a view of a slot's part of a flat tensor, which begins at `at`, in the slot's shape.
fn part(flat: &Tensor, at: i64, slot: &Slot) -> Result<Tensor> {
    Ok(flat.f_narrow(0, at, slot.len())?.f_view(&slot.shape[..])?)
}

/// Computes the location of each slot.
fn places(slots: &[Slot]) -> Vec<SlotPlace> {
    let (mut places, mut flat, mut leaves, mut within) = (Vec::with_capacity(slots.len()), 0, 0, 0);
    for slot in slots {
        if !slot.stacked {
            (leaves, within) = (leaves + 1, 0);
        }
        places.push(SlotPlace {
            flat,
            leaf: usize::saturating_sub(leaves, 1),
            within,
        });
        flat += slot.len();
        within += slot.len();
    }
    places
}
