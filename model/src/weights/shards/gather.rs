//! The interface through which the network and the training sweep gather sharded weights.

use std::fmt::Debug;

use crate::error::Result;
use crate::weights::parameters::Parameters;

/// Gathers groups of sharded weights for computation, and sends their gradients to their owners. All ranks must make
/// the same calls in the same order, whatever they compute.
pub trait Gather: Debug + Send + Sync {
    /// Makes the leaves of a group readable: waits for its all-gather and starts it first if necessary. Then starts to
    /// prefetch the group `next`.
    ///
    /// # Errors
    /// [`ModelError::World`](crate::ModelError::World) if a peer is gone, or any error libtorch reports.
    fn unshard(&self, parameters: &Parameters, group: usize, next: Option<usize>) -> Result<()>;

    /// Frees the gathered weights of a group.
    ///
    /// # Errors
    /// Any error libtorch reports.
    fn reshard(&self, parameters: &Parameters, group: usize) -> Result<()>;

    /// Starts to send the gradients of a group to the owners of its elements, without waiting for the end.
    ///
    /// # Errors
    /// [`ModelError::World`](crate::ModelError::World) if a peer is gone, or any error libtorch reports.
    fn reduce(&self, parameters: &Parameters, group: usize) -> Result<()>;

    /// Begins a sweep through all groups. Groups that are still gathered are freed.
    ///
    /// # Errors
    /// Any error libtorch reports.
    fn begin(&self, parameters: &Parameters) -> Result<()>;
}
