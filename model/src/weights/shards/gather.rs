//! What brings sharded weights together, as those see it that compute with them.

use std::fmt::Debug;

use crate::error::Result;
use crate::weights::parameters::Parameters;

/// Brings groups of weights of which each rank keeps a part to where they are computed with, and their gradients to their owners. All
/// ranks call it in the same order, whatever they compute.
pub trait Gather: Debug + Send + Sync {
    /// Has a group's weights in their leaves, waiting for them where they have not come yet, and lets `next` begin to come.
    ///
    /// # Errors
    /// A peer that is gone; libtorch's.
    fn unshard(&self, parameters: &Parameters, group: usize, next: Option<usize>) -> Result<()>;

    /// Lets a group's weights go.
    ///
    /// # Errors
    /// libtorch's.
    fn reshard(&self, parameters: &Parameters, group: usize) -> Result<()>;

    /// Lets a group's gradients go to the owners of its numbers; they are not waited for.
    ///
    /// # Errors
    /// A peer that is gone; libtorch's.
    fn reduce(&self, parameters: &Parameters, group: usize) -> Result<()>;

    /// Says that a way through all groups begins: whatever is here of them goes.
    ///
    /// # Errors
    /// libtorch's.
    fn begin(&self, parameters: &Parameters) -> Result<()>;
}
