//! The running batch: rows of any lengths and settings that are sampled together, on one thread or several.
//!
//! - `workers.rs`: the distribution of rows over threads; `batch.rs`: the batch of one thread;
//! - `forward.rs`: one forward pass for the rows of a batch; `device_loop.rs`: several steps that a GPU runs by itself;
//! - `shelf.rs`: the cache and its CUDA graph, kept from one run of requests to the next;
//! - `limits.rs`: the limits on rows and tokens in the batch.
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
