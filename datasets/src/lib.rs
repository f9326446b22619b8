//! Where examples come from, how they are cleaned, how they become token sequences.

pub mod example;
pub mod layout;
pub mod sequences;
pub mod tabletop;
pub mod text_tokenizer;

pub use example::{Check, Example, Kind, Mode, Split};
