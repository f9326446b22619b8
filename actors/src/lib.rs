//! The actors of a training run, their messages, their supervision, and the control socket.
//!
//! A module uses only the modules to its right:
//!
//! ```text
//! daemon ─▶ run ─▶ pipeline ─▶ control ─▶ profile ─▶ inference ─▶ engine ─▶ runtime ─▶ (storage)
//! ```

pub mod control;
pub mod daemon;
pub mod engine;
pub mod home;
pub mod inference;
pub mod pipeline;
pub mod profile;
pub mod run;
pub mod runtime;
pub mod teacher;
