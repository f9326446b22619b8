//! Pictures: decoding files (`file.rs`), fitting to a size (`fit.rs`), Pillow's resampling (`bicubic.rs`), and round
//! trips through JPEG (`jpeg.rs`).
//!
//! The tabletop is drawn in `tabletop/render.rs`; the engine computes picture codes.

pub mod bicubic;
pub mod file;
pub mod fit;
pub mod jpeg;
