//! Is the answer right, is the picture good: verifiers, metrics, how rewards combine. No libtorch, no input or output.
//!
//! - `answer.rs`: exact answers with equivalence of numbers and fractions; `thought.rs`: the reasoning format;
//! - `detector.rs`: reads a drawn table back into a scene; `class_means.rs`: the class of a drawn picture;
//! - `guard.rs`: length and repetition; `combine.rs`: the weighted sum and group advantages;
//! - `networks.rs`: what the numbers of CLIP and ImageReward are worth;
//! - `judge.rs`: a completion against its example; `suites.rs`: the benchmarks;
//! - `trace.rs`: is a reasoning trace acceptable; `metrics.rs`: intervals.

pub mod answer;
pub mod class_means;
pub mod combine;
pub mod detector;
pub mod guard;
pub mod judge;
pub mod metrics;
pub mod networks;
pub mod suites;
pub mod thought;
pub mod trace;
