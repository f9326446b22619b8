//! The actors that make what a run trains on: Curator, Reasoner, Rollout, Scorer, Evaluator, and why they may fail.
//!
//! Not here: the Trainer and the stages (`run`), supervision (`runtime`), rewards and benchmarks themselves (the
//! `rewards` crate).

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
