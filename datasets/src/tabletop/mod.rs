//! The tabletop: a small generated world where every answer is exact.
//!
//! - `scene.rs`: what can lie on the table; `render.rs`: how it is drawn;
//! - `request.rs`: what a table must show, and how well one shows it;
//! - `generator.rs`: examples by seed, kind, split and index; `draft.rs`: which split one belongs to; `chance.rs`: held-out pairs and free cells;
//! - `drawing.rs`: requests to draw; `asking.rs`: captions and questions; `sums.rs`: word problems, requests that need
//!   thought.

mod asking;
pub mod chance;
mod draft;
mod drawing;
pub mod generator;
pub mod render;
pub mod request;
pub mod scene;
mod sums;

pub use asking::CAPTION_PROMPT;
pub use generator::Tabletop;
pub use render::{CellPicture, cell_picture, render};
pub use request::{Category, Piece, Relation, Request, Want};
pub use scene::{Colour, Object, Scene, Shape, Size};
pub use sums::LARGEST;
