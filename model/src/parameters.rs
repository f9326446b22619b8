//! The parameters of a network: one flat f32 master, and leaves in the compute dtype that autograd sees.
//!
//! The optimiser works on the master in a handful of wide operations; the forward pass reads the leaves, each a view
//! into one flat copy, so that a refresh after a step is a single conversion and autograd never walks the flat buffer.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};

/// A parameter's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Published name.
    pub name: String,
    /// Sides, outermost first.
    pub shape: Vec<i64>,
    /// Stands under the slot before it in one matrix product: they share a leaf, stacked on the first side.
    pub stacked: bool,
}

impl Slot {
    /// A slot.
    #[must_use]
    pub fn new(name: impl Into<String>, shape: &[i64]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
            stacked: false,
        }
    }

    /// The same, sharing the leaf of the slot before it.
    #[must_use]
    pub fn stack(mut self) -> Self {
        self.stacked = true;
        self
    }

    fn len(&self) -> i64 {
        self.shape.iter().product()
    }
}

/// Named parameters of one network.
#[derive(Debug)]
pub struct Parameters {
    slots: Vec<Slot>,
    /// The leaf that begins with the slot of a name.
    index: BTreeMap<String, usize>,
    offsets: Vec<i64>,
    /// All values, f32, in the order of the slots.
    master: Tensor,
    /// The same values in the compute dtype (the master itself when that is f32).
    compute: Tensor,
    leaves: Vec<Tensor>,
}

impl Parameters {
    /// Parameters of the given shapes and values (f32, one tensor a slot).
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(slots: Vec<Slot>, values: &[Tensor], device: Device, compute: Kind) -> Result<Self> {
        let flat: Vec<Tensor> = values
            .iter()
            .map(|value| value.f_reshape([-1]))
            .collect::<Result<_, _>>()?;
        let master = Tensor::f_cat(&flat, 0)?
            .f_to_device(device)?
            .f_to_kind(Kind::Float)?;
        let mut offsets = Vec::with_capacity(slots.len());
        let mut end = 0;
        for slot in &slots {
            offsets.push(end);
            end += slot.len();
        }
        let heads = slots.iter().filter(|slot| !slot.stacked).enumerate();
        let index = heads.map(|(number, slot)| (slot.name.clone(), number)).collect();
        let compute = if compute == Kind::Float {
            master.shallow_clone()
        } else {
            master.f_to_kind(compute)?
        };
        let mut parameters = Self {
            slots,
            index,
            offsets,
            master,
            compute,
            leaves: Vec::new(),
        };
        parameters.leaves = parameters.leaf_views()?;
        for leaf in &parameters.leaves {
            let _ = leaf.f_set_requires_grad(true)?;
        }
        Ok(parameters)
    }

    /// Takes the wanted tensors out of a file's; complains of missing, extra and misshapen ones.
    ///
    /// # Errors
    /// [`ModelError::Checkpoint`] naming the tensor, what was expected and what was found.
    pub fn from_file(
        slots: Vec<Slot>,
        mut tensors: BTreeMap<String, Tensor>,
        path: &Path,
        ignored: &[&str],
        device: Device,
        compute: Kind,
    ) -> Result<Self> {
        let values: Vec<Tensor> = slots
            .iter()
            .map(|slot| {
                let tensor = tensors.remove(&slot.name).ok_or_else(|| {
                    ModelError::checkpoint(
                        path,
                        format!("tensor {} is missing, expected shape {:?}", slot.name, slot.shape),
                    )
                })?;
                if tensor.size() != slot.shape {
                    let message = format!(
                        "tensor {} has shape {:?}, expected {:?}",
                        slot.name,
                        tensor.size(),
                        slot.shape
                    );
                    return Err(ModelError::checkpoint(path, message));
                }
                Ok(tensor.f_to_kind(Kind::Float)?)
            })
            .collect::<Result<_>>()?;
        if let Some(extra) = tensors.keys().find(|name| !ignored.contains(&name.as_str())) {
            let message = format!("tensor {extra} is not part of the network that config.json describes");
            return Err(ModelError::checkpoint(path, message));
        }
        Self::new(slots, &values, device, compute)
    }

    fn views(&self, flat: &Tensor) -> Result<Vec<Tensor>> {
        let views = self.slots.iter().zip(&self.offsets);
        views
            .map(|(slot, &at)| {
                Ok(flat
                    .f_narrow(0, at, slot.len())?
                    .f_view(&slot.shape[..])?
                    .f_detach()?)
            })
            .collect()
    }

    fn leaf_views(&self) -> Result<Vec<Tensor>> {
        let mut shapes: Vec<(i64, Vec<i64>)> = Vec::new();
        for (slot, &at) in self.slots.iter().zip(&self.offsets) {
            match shapes.last_mut().filter(|_| slot.stacked) {
                Some((_, shape)) => shape[0] += slot.shape[0],
                None => shapes.push((at, slot.shape.clone())),
            }
        }
        let view = |(at, shape): (i64, Vec<i64>)| {
            let length = shape.iter().product();
            Ok(self
                .compute
                .f_narrow(0, at, length)?
                .f_view(&shape[..])?
                .f_detach()?)
        };
        shapes.into_iter().map(view).collect()
    }

    /// The slots, in order.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.slots
            .iter()
            .map(|slot| u64::try_from(slot.len()).unwrap_or(0))
            .sum()
    }

    /// The leaf of a name: a parameter in the compute dtype, with those that are stacked under it.
    ///
    /// # Errors
    /// [`ModelError::Refused`] for a name that is not there (a fault of this crate).
    pub fn leaf(&self, name: &str) -> Result<&Tensor> {
        let number = self
            .index
            .get(name)
            .ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))?;
        Ok(&self.leaves[*number])
    }

    /// All values, flat, f32. Whoever changes it calls [`Self::refresh`].
    pub fn master(&self) -> &Tensor {
        &self.master
    }

    /// Copies the master into the leaves.
    ///
    /// # Errors
    /// libtorch's.
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
    /// libtorch's.
    pub fn gather_grads(&mut self, into: &mut Tensor) -> Result<()> {
        tch::no_grad(|| {
            let grads: Vec<Tensor> = self
                .leaves
                .iter()
                .map(|leaf| {
                    let grad = leaf.f_grad()?;
                    if grad.defined() {
                        grad.f_reshape([-1])
                    } else {
                        leaf.f_zeros_like()?.f_reshape([-1])
                    }
                })
                .collect::<Result<_, _>>()?;
            let _ = into.f_add_(&Tensor::f_cat(&grads, 0)?.f_to_kind(Kind::Float)?)?;
            self.clear_grads();
            Ok(())
        })
    }

    /// Drops the leaves' gradients.
    pub fn clear_grads(&mut self) {
        for leaf in &mut self.leaves {
            leaf.zero_grad();
        }
    }

    /// The f32 value of each parameter by name.
    ///
    /// # Errors
    /// libtorch's.
    pub fn named(&self) -> Result<BTreeMap<String, Tensor>> {
        self.named_like(&self.master)
    }

    /// A flat tensor of the master's length cut into named views.
    ///
    /// # Errors
    /// libtorch's.
    pub fn named_like(&self, flat: &Tensor) -> Result<BTreeMap<String, Tensor>> {
        let names = self.slots.iter().map(|slot| slot.name.clone());
        Ok(names.zip(self.views(flat)?).collect())
    }

    /// The part of a flat tensor of the master's length that belongs to this parameter, in its shape.
    ///
    /// # Errors
    /// [`ModelError::Refused`] for a name that is not there (a fault of this crate).
    pub fn view(&self, flat: &Tensor, name: &str) -> Result<Tensor> {
        let number = self.slots.iter().position(|slot| slot.name == name);
        let number = number.ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))?;
        let (slot, at) = (&self.slots[number], self.offsets[number]);
        Ok(flat.f_narrow(0, at, slot.len())?.f_view(&slot.shape[..])?)
    }

    /// Overwrites all values.
    ///
    /// # Errors
    /// libtorch's, for another length.
    pub fn set(&self, flat: &Tensor) -> Result<()> {
        let mut master = self.master.shallow_clone();
        tch::no_grad(|| master.f_copy_(flat))?;
        self.refresh()
    }

    /// The same values, in leaves that have gradients of their own. A refresh of either is seen by both.
    ///
    /// # Errors
    /// libtorch's.
    pub fn twin(&self) -> Result<Self> {
        let mut twin = Self {
            slots: self.slots.clone(),
            index: self.index.clone(),
            offsets: self.offsets.clone(),
            master: self.master.shallow_clone(),
            compute: self.compute.shallow_clone(),
            leaves: Vec::new(),
        };
        twin.leaves = twin.leaf_views()?;
        for leaf in &twin.leaves {
            let _ = leaf.f_set_requires_grad(true)?;
        }
        Ok(twin)
    }

    /// A copy that shares nothing and asks for no gradient.
    ///
    /// # Errors
    /// libtorch's.
    pub fn frozen_copy(&self) -> Result<Self> {
        let values = self.views(&self.master.copy())?;
        let copy = Self::new(
            self.slots.clone(),
            &values,
            self.master.device(),
            self.compute.kind(),
        )?;
        for leaf in &copy.leaves {
            let _ = leaf.f_set_requires_grad(false)?;
        }
        Ok(copy)
    }
}
