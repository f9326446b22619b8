//! Samplers: filling masks in, text by blocks and pictures all at once.
//!
//! Begin with `reference.rs`: both loops as the papers write them, one row at a time. All else is the same, fast:
//!
//! - `text.rs`, `image.rs`: the two kinds of rows; `row.rs`: a row on its way, of either kind;
//! - `forward_request.rs`: what a row wants of a forward pass;
//! - `draw.rs`, `commit.rs`, `schedule.rs`, `credit.rs`: the draw; which drawn tokens are committed, how many; what earlier
//!   guesses count for;
//! - `batching/`: rows of any lengths and settings in one running batch;
//! - `validation.rs`: what a request for samples must be.
//!
//! Not here: the forward pass itself (`network`), and whose requests the rows are (`engine/sample_requests.rs`).

pub mod batching;
pub mod commit;
pub mod credit;
pub mod draw;
mod forward_request;
mod image;
pub mod reference;
mod row;
pub mod schedule;
mod text;
pub mod validation;

pub use batching::{Batch, Limits, OnFrame, Shelf, Stepping, WorkerPool, sample, sampling_limits};
