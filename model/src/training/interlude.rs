//! Interludes: other work between two micro-batches of a step, so that a user's question need not wait for the whole
//! step.

use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;

/// Work between two micro-batches of a step. It uses the weights from before the step (law L3) and does not change the
/// bits of the step's result (law L8).
pub trait Interlude {
    /// Returns whether there is work.
    fn is_wanted(&mut self) -> bool;

    /// Does the work with the weights that the step began with, and does not change them.
    ///
    /// # Errors
    /// A device fault only, which ends the step. Any other error concerns the asking client alone, not the step (law
    /// L8).
    fn take(&mut self, begun_with: &Backbone) -> Result<()>;

    /// Answers the waiting clients with the error that prevents the work.
    ///
    /// # Errors
    /// Returns the error again if it is a device fault, which ends the step. Any other error concerns the asking client
    /// alone, not the step (law L8).
    fn give_up(&mut self, error: ModelError) -> Result<()>;
}

/// An interlude that never has work.
#[derive(Debug)]
pub struct Uninterrupted;

impl Interlude for Uninterrupted {
    fn is_wanted(&mut self) -> bool {
        false
    }

    fn take(&mut self, _: &Backbone) -> Result<()> {
        Ok(())
    }

    fn give_up(&mut self, error: ModelError) -> Result<()> {
        Err(error)
    }
}

/// The callback that a part of a batch runs after each of its micro-batches, with the network that it computes on.
pub type Pause<'a> = dyn FnMut(&Backbone) -> Result<()> + 'a;
