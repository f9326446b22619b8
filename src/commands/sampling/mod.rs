//! One model, asked: text written and filled in, pictures drawn and described, each prompt typed or of a file.
//!
//! Not here: how the model is found and loaded (`model`).

mod canvas;
pub mod describe;
pub mod fill;
pub mod generate;
pub mod imagine;
mod preview;
mod prompts;
