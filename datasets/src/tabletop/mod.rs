//! The tabletop: a small generated world in which every answer is exact.
//!
//! - `render.rs`: how a table is drawn (what it holds and must show is in `../scene/`);
//! - `generator.rs`: examples by seed, kind, split and index; `draft.rs`: the split of an example; `chance.rs`: random
//!   choices, held-out pairs;
//! - `drawing.rs`: requests to draw; `asking.rs`: captions and questions; `sums.rs`: word problems, think-then-draw
//!   requests.

mod asking;
pub mod chance;
mod draft;
mod drawing;
pub mod generator;
pub mod render;
mod sums;

pub use crate::scene::request::{Category, Piece, Relation, SceneRequest, Want};
pub use crate::scene::table::{Colour, Object, Scene, Shape, Size};
pub use generator::Tabletop;
pub use render::{CellPicture, cell_picture, render};
pub use sums::LARGEST;
