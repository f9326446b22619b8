//! The gradients of the leaves: added to a flat buffer, and cleared.

use tch::Tensor;

use super::Parameters;
use crate::error::Result;

impl Parameters {
    /// Adds the leaves' gradients to a flat f32 buffer and clears them.
    ///
    /// # Errors
    /// [`ModelError::Refused`](crate::error::ModelError::Refused) if the parameters are for sampling, or any error
    /// libtorch reports.
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

    /// Clears the leaves' gradients. Those of sharded parameters are freed.
    pub fn clear_grads(&mut self) {
        if let Some(sharded) = &self.sharded {
            return sharded.drop_gradients();
        }
        for leaf in &mut self.leaves {
            leaf.zero_grad();
        }
    }
}
