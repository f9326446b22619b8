//! What a user adds to a run without writing Rust: external rewards, own benchmarks, and the suites that a profile may
//! name because of them.

mod benchmark_file;
mod external_reward;
mod suites;

pub use benchmark_file::BenchmarkFile;
pub use external_reward::{ExternalReward, JudgedTask, PictureForm};
