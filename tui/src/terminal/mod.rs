//! The terminal and the daemon's socket: what comes in from outside, and what goes out.
//!
//! Not here: what a key or an event changes (`update/`), what is drawn (`view.rs`, `screens/`).

pub mod app;
mod link;
mod signals;
