//! For which run each stop was, by the id of its message.
//!
//! L1: a client that was told that the disk has not confirmed its stop may send it again to ask whether it has by now, and
//! so may one whose daemon has died. Meanwhile the run may have ended and the next one begun, which that stop is not for.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::Control;
use super::pending_order::PresentControl;

/// Stops that are remembered, of this daemon's and as many of those before.
pub const REMEMBERED: u32 = 64;

/// Why an order is refused if no run is active.
pub const NO_RUN: &str = "no run is active; `demask run` starts one";

/// The control of a run that may have ended.
type PastControl = Weak<RefCell<Arc<Control>>>;

/// Why a stop is refused that is sent again.
const ENDED: &str = "the run that this stop was for has ended; `demask runs list` shows how";

/// The runs that stops were for, by message id.
#[derive(Debug, Default)]
pub struct KnownStops {
    /// Stops that this daemon was asked for, the newest last.
    own: VecDeque<(String, PastControl)>,
    /// Stops that the daemons before have recorded, with the ids of the runs.
    before: Vec<(String, String)>,
}

impl KnownStops {
    /// Notes stops that the daemons before have recorded: message ids with ids of runs (`journal::stops`).
    pub fn recorded_before(&mut self, stops: Vec<(String, String)>) {
        self.before = stops;
    }

    /// Returns the control of the run that a stop is for: the present one, unless it was sent before.
    ///
    /// # Errors
    /// The reason for a refusal if that run has ended, or if no run is active.
    pub fn run_of(
        &mut self,
        id: &str,
        present: Option<PresentControl>,
    ) -> Result<PresentControl, &'static str> {
        if let Some((_, before)) = self.own.iter().find(|(known, _)| known == id) {
            return before.upgrade().ok_or(ENDED);
        }
        if let Some((_, run)) = self.before.iter().find(|(known, _)| known == id) {
            let is_its = |present: &PresentControl| present.borrow().place().0 == *run;
            return present.filter(is_its).ok_or(ENDED);
        }
        let control = present.ok_or(NO_RUN)?;
        if self.own.len() >= REMEMBERED as usize {
            self.own.pop_front();
        }
        self.own.push_back((id.to_owned(), Rc::downgrade(&control)));
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
        stops.recorded_before(vec![("c".into(), "r".into()), ("d".into(), String::new())]);
        assert_eq!(stops.run_of("c", Some(Rc::clone(&next))).unwrap_err(), ENDED);
        // The controls of this test are of a run without a name.
        assert!(Rc::ptr_eq(
            &stops.run_of("d", Some(Rc::clone(&next))).unwrap(),
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
        assert_eq!(stops.own.len(), REMEMBERED as usize);
    }
}
