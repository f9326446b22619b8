//! Cleaning: equal and nearly equal texts (`dedup.rs`), overlaps with benchmarks (`decontaminate.rs`, law L6),
//! what pictures show (`likeness.rs`) and that it is looked at once (`likeness_cache.rs`).
//!
//! How the gates follow one another, and the mix of sources, are the Curator's, in `actors`.

pub mod decontaminate;
pub mod dedup;
pub mod held_out;
pub mod likeness;
pub mod likeness_cache;
