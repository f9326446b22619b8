//! What a person sees: tables, JSON and notes; pictures; the dashboard.
//!
//! Not here: what is said (`commands`), the dashboard's screens (the `tui` crate).

pub mod dashboard;
pub mod picture;
pub mod print;
