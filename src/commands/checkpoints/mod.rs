//! Models and data fetched, converted, made of others, compared with recorded tensors.
//!
//! Not here: training a model (`experiment`), asking one (`sampling`).

pub mod convert;
mod derive_checkpoint;
pub mod grow;
pub mod merge;
pub mod pull;
pub mod verify;
