//! The gradient of a head whose weights are the embedding's, for a sum that does not depend on the order of rows (L11).

use tch::Tensor;

use super::Backbone;
use crate::device::storage;
use crate::error::{ModelError, Result};

impl Backbone {
    /// Gives the head a gradient of its own if its weights are the embedding's and are trained. The gradients of all
    /// rows of a unit are then added for each of the two uses, and the two sums to each other at the end
    /// ([`Self::join_head_gradient`]), in whatever order a unit's rows go through the network.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn part_head(&self) -> Result<()> {
        if self.config.weight_tying && self.lora.is_none() && self.head_leaf.get().is_none() {
            let leaf = self.embedding_leaf()?.f_detach()?.f_set_requires_grad(true)?;
            self.head_leaf.set(leaf).ok();
        }
        Ok(())
    }

    /// Returns the embedding's leaf, also if it is not gathered.
    fn embedding_leaf(&self) -> Result<&Tensor> {
        let name = self.head_name();
        let mut leaves = self.parameters.leaves();
        let found = leaves.find(|(leaf, _)| *leaf == name);
        found
            .map(|(_, leaf)| leaf)
            .ok_or_else(|| ModelError::Refused(format!("no parameter {name}")))
    }

    /// Adds the head's gradient to that of the embedding, if it has one of its own.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn join_head_gradient(&self) -> Result<()> {
        let Some(head) = self.head_leaf.get() else {
            return Ok(());
        };
        let (own, mut whole) = (head.f_grad()?, self.embedding_leaf()?.f_grad()?);
        // Whatever has reached the head's weights has also reached the embedding, through the hidden states.
        if own.defined() && whole.defined() {
            let _ = tch::no_grad(|| whole.f_add_(&own))?;
        }
        self.forget_head_gradient()
    }

    /// Drops the head's own gradient.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub(crate) fn forget_head_gradient(&self) -> Result<()> {
        self.head_leaf.get().map_or(Ok(()), storage::drop_grad)
    }
}
