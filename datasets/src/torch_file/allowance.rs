//! What one file may cost (law L9): something that is counted, of which there is only so much.

use super::error::{Flaw, broken};

/// How much of something may still be spent on a file.
#[derive(Debug)]
pub(super) struct Allowance {
    what: &'static str,
    most: u64,
    left: u64,
}

impl Allowance {
    /// So much of what is named, for the whole file.
    pub(super) const fn new(what: &'static str, most: u64) -> Self {
        Self {
            what,
            most,
            left: most,
        }
    }

    /// Takes some of it.
    ///
    /// # Errors
    /// There is not so much left: the limit, and of what.
    pub(super) fn spend(&mut self, amount: u64) -> Result<(), Flaw> {
        match self.left.checked_sub(amount) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => broken(format!("more than {} {}", self.most, self.what)),
        }
    }
}
