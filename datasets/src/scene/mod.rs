//! The language of scenes: what can lie on a table (`table.rs`), and what a table must show (`request.rs`).
//!
//! An example's check contains a request, and the tabletop makes both; scenes are therefore a module below either.
//! Drawing and generating are in `tabletop/`.

pub mod request;
pub mod table;
