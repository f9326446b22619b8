//! Helpers of the end-to-end tests, which run the built programs.
//!
//! This crate contains no test, and no helper that only one test needs.

pub mod acknowledged;
pub mod dice;
pub mod fuzz;
pub mod home;
pub mod http;
pub mod likeness;
pub mod patience;
pub mod processes;
pub mod profile;
pub mod published;
pub mod runs;
pub mod store;
pub mod weights;

pub use home::{Place, programs, said};
pub use patience::until;
pub use profile::SMOKE;
pub use runs::{begin, ended, finish, next_event, start, subscribed, undisturbed, wait_for, wait_until};
