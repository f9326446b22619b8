//! The language of scenes: what can lie on a table (`table.rs`), and what a table must show (`request.rs`).
//!
//! Examples carry a request as their check, and the tabletop makes both; so they stand below the two. Drawing and generating
//! are in `tabletop/`.

pub mod request;
pub mod table;
