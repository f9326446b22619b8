//! End to end, through the built programs: what every such test needs, written once.
//!
//! No test is here, and nothing that only one test needs.

pub mod home;
pub mod profile;
pub mod runs;
pub mod store;
pub mod weights;

pub use home::{Place, programs};
pub use profile::SMOKE;
pub use runs::{finish, next_event, start, wait_for};
