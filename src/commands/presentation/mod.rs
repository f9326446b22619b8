//! Runs to look at: `plot.rs` curves as a chart, `report.rs` a run as one page.
//!
//! Not here: how a chart is drawn (`figure`), what stands on the page (`page`).

pub mod plot;
pub mod report;
