//! The libtorch half of Demask: the networks, their training, their samplers, and the `demask-engine` program.
//!
//! A module uses only those before it in this list: `device` (kernels, CUDA, transfers), `weights` (parameters in
//! memory and on disk), `network` (the backbone), `world` (ranks), `training`, `policy`, `image_tokenizer`,
//! `reward_networks`, `sampler`, `likelihood`, `engine` (the socket and the dispatch of requests). The `mod.rs` of each
//! says what its files are for.

pub mod device;
pub mod engine;
pub mod error;
pub mod image_tokenizer;
pub mod likelihood;
pub mod network;
pub mod policy;
pub mod reward_networks;
pub mod sampler;
pub mod training;
pub mod weights;
pub mod world;

pub use error::{ModelError, Result};
pub use network::{AttentionMask, Backbone};
pub use weights::parameters::Parameters;
