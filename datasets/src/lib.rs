//! Where examples come from, how they are cleaned, how they become token sequences.
//!
//! - `example.rs`: the record that every source yields; `scene/`: what it may say of a table;
//! - `tabletop/`: the generated world; `formats/`: readers of files; `source_kind.rs`: which of them a source is;
//! - `curation/`: duplicates and overlaps with benchmarks; `prompts/`: examples as token sequences;
//! - `pictures/`: files and sizes; `hub/`: pulls; `torch_file/`: PyTorch's checkpoints; `data_dir.rs`: where data lies.

pub mod curation;
pub mod data_dir;
pub mod example;
pub mod formats;
pub mod hub;
pub mod pictures;
pub mod prompts;
pub mod scene;
pub mod source_kind;
pub mod tabletop;
pub mod torch_file;

pub use example::{Check, Example, Kind, Mode, Split, Turn};
