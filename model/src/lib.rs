//! libtorch: one concept a file; the `demask-engine` program.

pub mod error;

pub use error::ModelError;
