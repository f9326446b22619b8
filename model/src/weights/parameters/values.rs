//! The values of parameters: by name, as views of a flat tensor, and overwritten all at once.

use std::collections::BTreeMap;

use demask_api::Purpose;
use tch::Tensor;

use super::{Parameters, part};
use crate::error::{ModelError, Result};

impl Parameters {
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
}
