//! Waiting for what gives no event, such as a line in a log. Between two looks the processor is free for who is waited
//! for.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(5);
/// The time in which it must happen; a longer time fails the test. It is longer than processes wait for one another.
const LONGEST: Duration = Duration::from_secs(400);

/// A wait that has a limit.
pub struct Patience(Instant);

impl Default for Patience {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Patience {
    /// Waits until the next look.
    ///
    /// # Panics
    /// With what is waited for, if that has taken too long.
    pub async fn next_look(&self, what: impl FnOnce() -> String) {
        let seconds = LONGEST.as_secs();
        assert!(self.0.elapsed() < LONGEST, "not within {seconds} s: {}", what());
        sleep(LOOK).await;
    }
}

/// Waits until this is so.
///
/// # Panics
/// With `what`, if it takes too long.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Patience::default();
    while !is_so() {
        patience.next_look(|| what.to_owned()).await;
    }
}
