//! Commands that sample from one model: texts are written and filled in, pictures are drawn and described. A prompt is
//! an argument or a line of a file.
//!
//! Not here: how the model is found and loaded (`model`).

mod canvas;
pub mod describe;
pub mod fill;
pub mod generate;
pub mod imagine;
mod preview;
mod prompts;
