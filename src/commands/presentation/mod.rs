//! Displays of runs: `plot.rs` draws curves as a chart, `report.rs` writes a run as one page.
//!
//! Not here: the drawing of a chart (`figure`), and the content of the page (`page`).

pub mod plot;
pub mod report;
