//! What the dashboard promises through its public doors, as one program: linked once, each file a module. One file alone:
//! `cargo test --release --locked --workspace --test tui -- screens::`.
#![allow(clippy::unwrap_used, missing_docs)]

mod dashboard;
mod screens;
mod stored;
