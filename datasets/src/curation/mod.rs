//! Data cleaning: exact and near-duplicate texts (`dedup.rs`), overlaps with benchmarks (`decontaminate.rs`, law L6),
//! held-out rows (`held_out.rs`), likenesses of pictures (`likeness.rs`) and their cache (`likeness_cache.rs`).
//!
//! The Curator (crate `actors`) decides the order of these gates and mixes the sources.

pub mod decontaminate;
pub mod dedup;
pub mod held_out;
pub mod likeness;
pub mod likeness_cache;
