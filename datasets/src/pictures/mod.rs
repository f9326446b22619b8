//! Pictures: read from a file (`file.rs`), made another size (`fit.rs`), by Pillow's interpolation (`bicubic.rs`),
//! through a JPEG file and back (`jpeg.rs`).
//!
//! Drawing the tabletop is in `tabletop/render.rs`; picture codes are the engine's.

pub mod bicubic;
pub mod file;
pub mod fit;
pub mod jpeg;
