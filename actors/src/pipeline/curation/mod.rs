//! The origin of a step's examples: the sources and their gates, the mixture of them, and the Curator that answers
//! demands.
//!
//! Not here: file formats, and the detection of duplicates and overlaps (the `datasets` crate).

pub mod curator;
pub mod dry_run;
pub mod fitting;
pub mod kept_pictures;
pub mod library;
pub mod mixture;
pub mod sources;
pub mod training_example;
