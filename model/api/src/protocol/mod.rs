//! What crosses the socket: requests, answers and the frames around them.
//!
//! - `request.rs`, `answer.rs`: what can be asked, what comes back;
//! - `wire.rs`: frames; `number.rs`: numbers that need not be finite;
//! - `cuda.rs`: what an engine found of CUDA, with what mends it.
//!
//! Not here: what requests carry (`data`, `network`, `sampling`, `training`).

pub mod answer;
pub mod cuda;
pub mod number;
pub mod request;
pub mod wire;
