//! `demask eval`: evaluates a checkpoint on benchmarks, stores the items, and shows and compares evaluations.
//!
//! Not here: how an item is asked and judged (`actors`, `rewards`).

pub mod compare;
pub mod eval;
mod figures;
mod judging;
mod kept;
mod list;
mod merge;
mod named;
pub mod show;
mod stamps;
mod subject;
