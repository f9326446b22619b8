//! Filling masks in: text by blocks, pictures all at once, rows of any lengths and settings in one running batch.
//!
//! `hands.rs` runs it on several threads, `batch.rs` on one; `pass.rs` is one pass of the network, `resident.rs` several that a
//! GPU does by itself; `shelf.rs` keeps the cache from one run to the next; `lane.rs` is one row on its way, `text.rs` and `image.rs` the two kinds of rows; `commit.rs` says which
//! drawn tokens are committed, `schedule.rs` how many, `credit.rs` what earlier guesses count for, `draw.rs` draws.

pub mod batch;
pub mod commit;
pub mod credit;
pub mod draw;
pub mod hands;
mod image;
mod lane;
mod need;
mod pass;
mod resident;
pub mod schedule;
mod shelf;
mod text;

pub use batch::{Batch, Limits, OnFrame, sample};
pub use hands::Hands;
pub use resident::Stepping;
pub use shelf::Shelf;
