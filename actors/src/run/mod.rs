//! One run, from its beginning to its end: what a life of it is given, who drives it from step boundary to step boundary,
//! its stages, its checkpoints.
//!
//! Not here: the daemon that starts one life after another (`daemon`), the actors that the Trainer asks (`pipeline`).

pub mod checkpoints;
pub mod context;
pub mod driver;
pub mod learning_rate;
pub mod lineage;
pub mod named_checkpoint;
pub mod prefetch;
pub(crate) mod progress;
pub mod promotion;
pub mod run_actors;
pub mod stages;
pub mod trainer;
