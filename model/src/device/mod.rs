//! The compute device: transfers to it, the kernels that run on it, and libtorch's CUDA libraries.
//!
//! - `transfer.rs`: uploads and reads between host and device, which are counted;
//! - `heartbeat.rs`: the progress counter of the computing thread;
//! - `kernels/`: our own operators, as CPU kernels and composed of libtorch's operators elsewhere;
//! - `cuda/`: how libtorch's CUDA libraries are found, loaded and configured.
//!
//! Not here: the choice of an engine's device (`engine/device_choice.rs`), and everything that depends on a network.

pub mod cuda;
pub mod heartbeat;
pub mod kernels;
pub(crate) mod storage;
pub mod transfer;
