//! The background process of a home: its start, its service and its end, with at most one run at a time.
//!
//! Not here: what a run does between two step boundaries (`run`), and the control socket and its orders (`control`).

mod beginnings;
mod failure_count;
mod front_desk;
mod lives;
mod question;
pub mod repair;
mod run_lifecycle;
mod run_record;
mod server;
pub mod sockets;
pub mod store_health;
mod turns;

pub use server::{EndedWithoutDisk, serve, serve_here, serve_with};
