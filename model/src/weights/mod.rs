//! Parameters: their names and shapes, and their values in memory and on disk.
//!
//! - `slot.rs`: the name and shape of a parameter; `init.rs`: the initial values of a fresh one;
//! - `parameters/`: all parameters of a network, with one flat f32 master copy if they are trained;
//! - `safetensors.rs`: tensors written to a file; `stored.rs`: tensors read from one file or several; `staging.rs`:
//!   their transfer to a GPU;
//! - `footprint.rs`: the check that weights fit into memory; `fit.rs`: the check that stored tensors are those of a
//!   network; `compare.rs`: the comparison of a tensor with a recorded one;
//! - `peft.rs`: the configuration of an adapter in PEFT's format;
//! - `shards/`: the part of each group of weights that a rank keeps; `quantized/`: frozen weights in fewer bits.
//!
//! Not here: which parameters a network has (`network/slots.rs`), and checkpoint folders (`engine/checkpoint/`).

pub mod compare;
pub mod fit;
pub(crate) mod footprint;
pub mod init;
pub mod parameters;
pub mod peft;
pub mod quantized;
pub mod safetensors;
pub mod shards;
pub mod slot;
mod staging;
pub mod stored;
