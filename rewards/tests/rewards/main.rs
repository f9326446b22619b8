//! Tests of the crate's public interfaces, as one program that is linked once; each file is a module. To run
//! one file: `cargo test --release --locked --workspace --test rewards -- verifiers::`.
#![allow(clippy::unwrap_used, missing_docs)]

mod benchmarks;
mod networks;
mod published;
mod rewards;
mod verifiers;
mod wise;
