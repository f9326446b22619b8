//! For which run each stop was, by the id of its message.
//!
//! L1: a client that was told that the disk has not confirmed its stop may send it again to ask whether it has by now.
//! Meanwhile the run may have ended and the next one begun, which that stop is not for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::Control;
use super::pending_order::PresentControl;

/// Stops that are remembered.
const REMEMBERED: usize = 64;

/// Why an order is refused if no run is active.
pub const NO_RUN: &str = "no run is active; `demask run` starts one";

/// The control of a run that may have ended.
type PastControl = Weak<RefCell<Arc<Control>>>;

/// The runs that stops were for, by message id, the newest last.
#[derive(Debug, Default)]
pub struct KnownStops(VecDeque<(String, PastControl)>);

impl KnownStops {
    /// Returns the control of the run that a stop is for: the present one, unless it was sent before.
    ///
    /// # Errors
    /// The reason for a refusal if that run has ended, or if no run is active.
    pub fn run_of(
        &mut self,
        id: &str,
        present: Option<PresentControl>,
    ) -> Result<PresentControl, &'static str> {
        if let Some((_, before)) = self.0.iter().find(|(known, _)| known == id) {
            let ended = "the run that this stop was for has ended; `demask runs list` shows how";
            return before.upgrade().ok_or(ended);
        }
        let control = present.ok_or(NO_RUN)?;
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((id.to_owned(), Rc::downgrade(&control)));
        Ok(control)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l1_a_stop_that_comes_again_is_for_the_run_that_it_was_for() {
        let [one, next] = [(); 2].map(|()| PresentControl::default());
        let mut stops = KnownStops::default();
        assert_eq!(stops.run_of("a", None).unwrap_err(), NO_RUN);
        assert!(Rc::ptr_eq(
            &stops.run_of("a", Some(Rc::clone(&one))).unwrap(),
            &one
        ));
        assert!(Rc::ptr_eq(
            &stops.run_of("a", Some(Rc::clone(&next))).unwrap(),
            &one
        ));
        assert!(Rc::ptr_eq(
            &stops.run_of("b", Some(Rc::clone(&next))).unwrap(),
            &next
        ));
        drop(one);
        let ended = stops.run_of("a", Some(next)).unwrap_err();
        assert!(ended.contains("has ended"), "{ended}");
        for number in 0..REMEMBERED {
            stops
                .run_of(&number.to_string(), Some(PresentControl::default()))
                .unwrap();
        }
        assert_eq!(stops.0.len(), REMEMBERED);
    }
}
