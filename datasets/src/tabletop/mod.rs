//! The tabletop: a small generated world where every answer is exact.
//!
//! - `scene.rs`: what can lie on the table; `render.rs`: how it is drawn.

pub mod render;
pub mod scene;

pub use render::{CellPicture, cell_picture, render};
pub use scene::{Colour, Object, Scene, Shape, Size};
