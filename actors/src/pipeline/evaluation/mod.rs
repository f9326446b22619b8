//! Benchmarks of a model: the requests, the answers and the judges.
//!
//! - `evaluator.rs`: running a suite's items through the model, and the actor; `item_result.rs`: an item with its
//!   result;
//! - `fingerprint.rs`: the files of a model, recognized by their content;
//! - `trial.rs`: the settings of an evaluation, and the judges that are named;
//! - `judges.rs`: external judges that are asked about a batch: a judge model at an address (`judge_model.rs`), a
//!   detector (`detector.rs`), a reward network, an external reward.
//!
//! Not here: what a benchmark is and what a verdict means (the `rewards` crate), and what follows from a result
//! (`run/promotion.rs`).

pub mod detector;
pub mod evaluator;
pub mod fingerprint;
pub mod item_result;
pub mod judge_model;
mod judges;
pub mod trial;

pub use trial::Judges;
