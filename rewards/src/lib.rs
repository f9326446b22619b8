//! Is the answer right, is the picture good: verifiers, rewards, benchmarks, intervals. No libtorch, no engine.
//!
//! - `rewards/`: the rewards, a file each, and their list; `benchmarks/`: the benchmarks, a file each, and their list;
//! - `scorers/`: the benchmarks' official scorers, verdict for verdict, behind `demask score`; `algebra/`: the exact computer
//!   algebra that the graders of mathematics need;
//! - `verifiers/`: answers, traces, drawn tables, classes of pictures;
//! - `judge.rs`: a completion against its example; `completion.rs`, `scored.rs`: what it takes and what it gives;
//! - `networks.rs`: what reward networks are asked; `advantages.rs`: group advantages; `statistics.rs`: intervals.

pub mod advantages;
pub mod algebra;
pub mod benchmarks;
pub mod completion;
pub mod judge;
pub mod networks;
pub mod rewards;
pub mod scored;
pub mod scorers;
pub mod statistics;
pub mod verifiers;
