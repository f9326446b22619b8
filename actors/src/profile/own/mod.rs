//! What a person adds to a run without Rust: rewards, benchmarks, and which suites a profile may name for them.

mod benchmark_file;
mod external_reward;
mod suites;

pub use benchmark_file::BenchmarkFile;
pub use external_reward::{ExternalReward, JudgedTask, PictureForm};
