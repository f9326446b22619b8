//! What the crate promises through its public doors, as one program: linked once, each file a module. One file alone:
//! `cargo test --release --locked --workspace --test rewards -- verifiers::`.
#![allow(clippy::unwrap_used, missing_docs)]

mod benchmarks;
mod networks;
mod published;
mod rewards;
mod verifiers;
