//! Commands about models and data: they are fetched, converted, derived from others, and compared with recorded
//! tensors.
//!
//! Not here: training a model (`experiment`), and sampling from one (`sampling`).

pub mod convert;
mod derive_checkpoint;
pub mod grow;
pub mod merge;
pub mod pull;
pub mod verify;
