//! Where examples come from, how they are cleaned, how they become token sequences.

pub mod bicubic;
pub mod chat_template;
pub mod decontaminate;
pub mod dedup;
pub mod example;
pub mod hub;
pub mod idx;
pub mod image_folder;
pub mod jsonl;
pub mod layout;
pub mod picture_file;
pub mod picture_fit;
pub mod place;
pub mod prompt_style;
pub mod published;
pub mod row;
pub mod sequences;
pub mod special_tokens;
pub mod tabletop;
pub mod text_tokenizer;
pub mod torch_file;

pub use example::{Check, Example, Kind, Mode, Split};
