//! Where a step's examples come from: the sources and their gates, the mixture of them, and the Curator that answers
//! demand.
//!
//! Not here: file formats, duplicates and overlaps themselves (the `datasets` crate).

pub mod curator;
pub mod dry_run;
pub mod fitting;
pub mod kept_pictures;
pub mod library;
pub mod mixture;
pub mod sources;
pub mod training_example;
