//! The engine: what is done with each request, and the process around it.
//!
//! - `dispatch.rs`: one request after the other; `sample_requests.rs`: requests for samples, whose rows run together;
//!   `aside.rs`: what a person asks for meanwhile;
//! - `server.rs`, `shutdown.rs`, `fault.rs`: the socket; when the process ends; a failure that a test asks for;
//! - `device_choice.rs`: the device and dtype to compute with;
//! - `sandbox.rs`: what the process may do beside computing;
//! - `ranks.rs`: what the other ranks of a world do too;
//! - `checkpoint.rs`: a model's folder; `verify.rs`: a checkpoint against recorded tensors;
//! - `validation.rs`: what a model and a request for log-probabilities must be.
//!
//! Not here: anything that computes. The types of requests and answers are `demask-api`'s.

pub mod aside;
pub mod checkpoint;
pub mod device_choice;
mod dispatch;
pub mod fault;
mod ranks;
pub mod sample_requests;
pub mod sandbox;
pub mod server;
pub mod shutdown;
pub mod validation;
pub mod verify;

pub use dispatch::Engine;
