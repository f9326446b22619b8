//! The model that a one-off command works with: its folder, its settings, and an engine that holds it.
//!
//! Not here: what the command then does (`commands`).

pub mod adapter;
pub mod engine;
pub mod pulled;
pub mod session;
pub mod settings;
