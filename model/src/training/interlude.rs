//! What may be done between two micro-batches of a step: a person's question need not wait for the whole of it.

use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;

/// Something that is done between two micro-batches of a step, where weights stay as they were before it (law L3) and the step
/// comes to the same bits (law L8).
pub trait Interlude {
    /// Whether there is something to be done.
    fn is_wanted(&mut self) -> bool;

    /// Does it with the weights that the step began with, which are not changed.
    ///
    /// # Errors
    /// What ends the step: a device that failed.
    fn take(&mut self, begun_with: &Backbone) -> Result<()>;

    /// It cannot be done, because of this: those who wait for it are told.
    ///
    /// # Errors
    /// The same where it is a device that failed: that ends the step. Whatever else goes wrong for somebody who asks is none of the
    /// step's business (law L8).
    fn give_up(&mut self, error: ModelError) -> Result<()>;
}

/// Nothing is done between two micro-batches.
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

/// What a part of a batch does after each of its micro-batches, with the network that it computes on.
pub type Pause<'a> = dyn FnMut(&Backbone) -> Result<()> + 'a;
