//! The running batch: rows of any lengths and settings on their way together, on one thread or several.
//!
//! - `workers.rs`: rows dealt to threads; `batch.rs`: the batch of one thread;
//! - `forward.rs`: one forward pass for the rows of a batch; `device_loop.rs`: several that a GPU does by itself;
//! - `shelf.rs`: the cache, and what was recorded on it, from one run of requests to the next;
//! - `limits.rs`: how much runs at one time.
//!
//! Not here: what a row draws and commits (`sampler/text.rs`, `sampler/image.rs`), and requests, answers and pictures
//! (`engine/sample_requests.rs`).

pub mod batch;
mod device_loop;
mod forward;
pub mod limits;
mod shelf;
pub mod workers;

pub use batch::{Batch, OnFrame, sample};
pub use device_loop::Stepping;
pub use limits::{Limits, sampling_limits};
pub use shelf::Shelf;
pub use workers::WorkerPool;
