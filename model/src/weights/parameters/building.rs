//! Creating parameters: from values, from a file, over ranks, and as copies that share or freeze values.

use std::collections::BTreeMap;

use demask_api::Purpose;
use tch::{Device, Kind, Tensor};

use super::{Parameters, SlotPlace, part};
use crate::error::Result;
use crate::weights::fit;
use crate::weights::shards::ShardMap;
use crate::weights::shards::leaves::ShardedLeaves;
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

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

    /// Makes autograd compute gradients of the leaves, if the parameters are for training.
    fn ask_for_gradients(&self) -> Result<()> {
        if self.purpose == Purpose::Train {
            for leaf in &self.leaves {
                let _ = leaf.f_set_requires_grad(true)?;
            }
        }
        Ok(())
    }

    /// Returns `length` elements of the master from `start` on as parameters without leaves, for an optimizer that owns
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
