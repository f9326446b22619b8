//! The socket protocol: requests, answers and their frames.
//!
//! - `request.rs`, `answer.rs`: the requests and the answers;
//! - `wire.rs`: the frames; `number.rs`: numbers that need not be finite;
//! - `join.rs`: how an engine that the daemon did not start reaches it;
//! - `exit.rs`: the exit codes of an engine; `machine.rs`: the name of the machine;
//! - `cuda.rs`: the state of CUDA on a machine, with a remedy for each fault.
//!
//! Not here: the data in a request (`data`, `network`, `sampling`, `training`).

pub mod answer;
pub mod cuda;
pub mod exit;
pub mod join;
pub mod machine;
pub mod number;
pub mod request;
pub mod wire;
