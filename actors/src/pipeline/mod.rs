//! The actors that produce and judge what a run trains on: Curator, Reasoner, Rollout, Scorer and Evaluator, with their
//! errors.
//!
//! Not here: the Trainer and the stages (`run`), supervision (`runtime`), and the rewards and benchmarks themselves
//! (the `rewards` crate).

pub mod addresses;
pub mod curation;
pub mod evaluation;
pub mod external_rewards;
pub mod judgement;
pub mod reasoner;
pub mod reward_networks;
pub mod rollout;
pub mod run_error;
pub mod sampling_engines;
pub mod scorer;
