//! How to learn: `step_settings.rs` holds for one optimiser step, `policy.rs` for steps on scored groups, `estimators/` for what
//! stands for a likelihood there.
//!
//! Not here: the schedule of the learning rate, which the actors work out for each step.

pub mod estimators;
pub mod policy;
pub mod step_settings;
