//! A budget of one resource that a file may consume (law L9).

use super::error::{Flaw, broken};

/// The rest of a resource that a file may still consume.
#[derive(Debug)]
pub(super) struct Allowance {
    what: &'static str,
    most: u64,
    left: u64,
}

impl Allowance {
    /// Makes an allowance of `most` for the whole file.
    pub(super) const fn new(what: &'static str, most: u64) -> Self {
        Self {
            what,
            most,
            left: most,
        }
    }

    /// Takes `amount` from the allowance.
    ///
    /// # Errors
    /// An error with the limit and the resource if less is left.
    pub(super) fn spend(&mut self, amount: u64) -> Result<(), Flaw> {
        match self.left.checked_sub(amount) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => broken(format!("the file has more than {} {}", self.most, self.what)),
        }
    }
}
