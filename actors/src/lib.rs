//! Who does what: the actors of a run, their messages, supervision, the control socket.
//!
//! Arrows between the rooms point down only:
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
