//! Tests of the crate's public interfaces, as one program that is linked once; each file is a module. To run
//! one file: `cargo test --release --locked --workspace --test tui -- screens::`.
#![allow(clippy::unwrap_used, missing_docs)]

mod dashboard;
mod data;
mod keys;
mod log;
mod results;
mod screens;
mod state;
mod stored;
