//! The daemon that has a home: found, waited for while it starts or ends, asked.
//!
//! Not here: starting one (`commands::experiment::daemon`).

pub mod line;
pub mod reach;
