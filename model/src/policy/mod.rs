//! Learning from scored groups: UniGRPO and what shares its interface.

pub mod step;
mod validation;

pub use step::{DIFFUSION_STEPS, Estimator, MaskedView, score, step_time, train};
