//! Output for the user: tables, JSON and notes, pictures, and the dashboard.
//!
//! Not here: the content of the output (`commands`), and the dashboard's screens (the `tui` crate).

pub mod dashboard;
pub mod picture;
pub mod print;
