//! The translation between examples and engine requests, and the settings in a checkpoint's folder: prompts, lengths
//! and samplers.
//!
//! Not here: the callers and their purposes (`pipeline`, `run`), and the format of prompts (the `datasets` crate).

pub mod checkpoint_settings;
mod code_cache;
pub mod complete;
pub mod error;
pub mod image_tokenizer;
pub mod inpaint;
pub mod likelihood;
pub mod published_settings;
pub mod settings;
pub mod shipped;
pub mod typed_prompt;
pub mod watched;
