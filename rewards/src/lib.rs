//! Judging of answers and pictures: verifiers, rewards, benchmarks and confidence intervals. No libtorch, no engine.
//!
//! - `rewards/`: the rewards, one per file, and their list;
//! - `benchmarks/`: the benchmarks, one per file, and their list;
//! - `scorers/`: the benchmarks' official scorers, reproduced verdict for verdict, behind `demask score`; `algebra/`:
//!   the exact computer algebra that the graders of mathematics need;
//! - `verifiers/`: answers, reasoning traces, drawn tables, classes of pictures;
//! - `judge.rs`: a completion against its example; `completion.rs`, `scored.rs`: its input and output;
//! - `networks.rs`: the inputs of reward networks; `advantages.rs`: group advantages; `statistics.rs`: intervals.

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
