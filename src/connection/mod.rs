//! The daemon that has a home: found, waited for while it starts or ends, asked; and what is written beside it.
//!
//! Not here: starting one (`commands::experiment::daemon`).

pub mod append;
pub mod line;
pub mod reach;
