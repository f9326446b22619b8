//! Samplers, which replace mask tokens: text block by block, the codes of a picture in parallel.
//!
//! Start with `reference.rs`: it has both sampling loops as the papers write them, one row at a time. The other files
//! are the fast implementation of the same loops:
//!
//! - `text.rs`, `image.rs`: the two kinds of rows; `row.rs`: the state and the interface that both kinds share;
//! - `forward_request.rs`: what a row asks of the next forward pass;
//! - `draw.rs`: the draw of a token from each row of logits; `commit.rs`: which drawn tokens are committed;
//!   `schedule.rs`: how many are; `credit.rs`: the credit of tokens that earlier steps guessed;
//! - `batching/`: the running batch, whose rows may differ in length and settings;
//! - `validation.rs`: the checks of a request for samples.
//!
//! Not here: the forward pass itself (`network`), and the mapping from rows to clients' requests
//! (`engine/sample_requests.rs`).

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
