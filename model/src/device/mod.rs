//! The device that computes: what crosses to it, the kernels that run on it, libtorch's CUDA half.
//!
//! - `transfer.rs`: uploads and reads between host and device, counted;
//! - `heartbeat.rs`: signs of life of the thread that computes;
//! - `storage.rs`: memory of tensors that comes and goes while they stay;
//! - `kernels/`: the operators that are ours, on the CPU and composed elsewhere;
//! - `cuda/`: how libtorch's CUDA half is found, opened and settled.
//!
//! Not here: which device an engine takes (`engine/device_choice.rs`), and whatever knows of a network.

pub mod cuda;
pub mod heartbeat;
pub mod kernels;
pub(crate) mod storage;
pub mod transfer;
