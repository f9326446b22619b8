//! How to learn: `step_settings.rs` holds for one optimiser step, `policy.rs` for steps on scored groups.
//!
//! Not here: the schedule of the learning rate, which the actors work out for each step.

pub mod policy;
pub mod step_settings;
