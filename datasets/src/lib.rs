//! Data for training and evaluation: where examples come from, how they are cleaned and how they become token
//! sequences.
//!
//! - `example.rs`: the record that every source yields; `scene/`: what it can say about a table;
//! - `tabletop/`: the generated world; `formats/`: readers of data files; `source_kind.rs`: the kinds of a source;
//! - `curation/`: duplicates and overlaps with benchmarks; `prompts/`: examples as token sequences;
//! - `pictures/`: picture files and sizes; `hub/`: downloads from the Hugging Face hub; `torch_file/`: PyTorch's
//!   checkpoints; `data_dir.rs`: where data is searched; `unnamed_file.rs`: temporary files.

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
mod unnamed_file;

pub use example::{Check, Example, Kind, Mode, Split, Turn};
