//! The background process of a home: brought up, kept up, brought down, with at most one run.
//!
//! Not here: what a run does between two step boundaries (`run`), the socket and the orders (`control`).

mod question;
mod run_lifecycle;
mod run_record;
mod server;

pub use server::{serve, serve_with};
