//! Parameters: their names and shapes, their values in memory and on the disk.
//!
//! - `slot.rs`, `init.rs`: a parameter before it has values; the values of a fresh one;
//! - `parameters.rs`: all parameters of a network, with one flat f32 master where they are trained;
//! - `safetensors.rs`, `stored.rs`, `staging.rs`: tensors to a file and from one or several, and on their way to a GPU;
//! - `footprint.rs`: whether weights find room; `fit.rs`: whether what is stored is what a network needs; `compare.rs`: one tensor against a recorded one;
//! - `shards.rs`, `sharded_leaves.rs`: who of several ranks owns which numbers; leaves whose memory is there while a group of them is gathered;
//! - `peft.rs`: the configuration of an adapter as PEFT writes it.
//!
//! Not here: which parameters a network has (`network/slots.rs`), and checkpoint folders (`engine/checkpoint.rs`).

pub mod compare;
pub mod fit;
pub(crate) mod footprint;
pub mod init;
pub mod parameters;
pub mod peft;
pub mod safetensors;
pub mod sharded_leaves;
pub mod shards;
pub mod slot;
mod staging;
pub mod stored;
