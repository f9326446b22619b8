//! Examples to engine requests and back, and what a checkpoint's folder says about prompts, lengths and samplers.
//!
//! Not here: who asks and why (`pipeline`, `run`), and how a prompt is written (the `datasets` crate).

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
