//! The tabletop: a small generated world where every answer is exact.
//!
//! - `render.rs`: how a table is drawn; what can lie on it and what it must show is in `../scene/`;
//! - `generator.rs`: examples by seed, kind, split and index; `draft.rs`: which split one belongs to; `chance.rs`: held-out pairs and free cells;
//! - `drawing.rs`: requests to draw; `asking.rs`: captions and questions; `sums.rs`: word problems, requests that need
//!   thought.

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
