//! The settings of training.
//!
//! - `step_settings.rs`: the settings of one optimizer step;
//! - `policy.rs`: the samples and the objective of a policy step;
//! - `estimators/`: the estimators of a completion's likelihood in a policy step.
//!
//! Not here: the schedule of the learning rate, which the actors compute for each step.

pub mod estimators;
pub mod policy;
pub mod step_settings;
