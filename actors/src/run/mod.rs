//! One run, from its beginning to its end: the context of a life, the driver from step boundary to step boundary, the
//! stages and the checkpoints.
//!
//! Not here: the daemon that starts one life after another (`daemon`), and the actors that the Trainer asks
//! (`pipeline`).

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
