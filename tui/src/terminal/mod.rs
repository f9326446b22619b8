//! The terminal and the daemon's socket: input from outside and output to it.
//!
//! Not here: how keys and events change the state (`update/`), and what is drawn (`view.rs`, `screens/`).

pub mod app;
mod link;
mod signals;
