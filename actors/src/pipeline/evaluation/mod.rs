//! Benchmarks on a model: what is asked, what comes, who judges it.
//!
//! - `evaluator.rs`: a suite's items through the model, and the actor; `item_result.rs`: an item with what came of it;
//! - `trial.rs`: how a suite is run, and who is named to judge;
//! - `judges.rs`: judges that are no part of the program, asked about a batch: a judge model behind an address (`judge_model.rs`), a
//!   detector (`detector.rs`), a reward network, an external reward.
//!
//! Not here: what a benchmark is and what a verdict means (the `rewards` crate), what a result leads to (`run/promotion.rs`).

pub mod detector;
pub mod evaluator;
pub mod item_result;
pub mod judge_model;
mod judges;
pub mod trial;

pub use trial::Judges;
