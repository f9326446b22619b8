//! The engine: the handling of each request, and the process around it. The types of requests and answers are
//! in `demask-api`.
//!
//! - `dispatch/`: the handling of one request after another; `sample_requests.rs`: continuous batching of
//!   sampling requests; `aside.rs`: requests that a user makes while the engine trains or samples;
//! - `server/`: the socket and its clients; `process/`: command line, sandbox and end of the process;
//! - `device_choice.rs`: the choice of device and dtype; `seat.rs`: the division of GPUs among the processes of a
//!   machine;
//! - `ranks.rs`: the orders of rank 0 to the other ranks of a world;
//! - `checkpoint/`: reading and writing checkpoint folders; `verify.rs`: comparison of a checkpoint with
//!   recorded tensors;
//! - `validation.rs`: the checks of a model's configuration and of a request for log-probabilities.
//!
//! Not here: anything that computes.

pub mod aside;
pub mod checkpoint;
pub mod device_choice;
mod dispatch;
pub mod process;
mod ranks;
pub mod sample_requests;
pub mod seat;
pub mod server;
pub mod validation;
pub mod verify;

pub use dispatch::Engine;
