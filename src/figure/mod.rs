//! Charts as picture files: `paper.rs` draws them in the areas of `plot_area.rs`, and `file.rs` writes files
//! atomically.
//!
//! Not here: the definition of a chart and its display in characters (`demask_tui::chart`), and the source of its
//! values (`demask_storage::query::curves`).

pub mod file;
pub mod paper;
mod plot_area;
