//! Charts as pictures in files: `paper.rs` draws them (`plot_area.rs` where), `file.rs` writes what was made, whole or not at all.
//!
//! Not here: what a chart is and how it looks in characters (`demask_tui::chart`), where its values come from
//! (`demask_storage::query::curves`).

pub mod file;
pub mod paper;
mod plot_area;
