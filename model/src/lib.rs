//! libtorch: the networks, their training, their samplers, and the `demask-engine` program around them.
//!
//! A room uses those above it in this list only: `device` (kernels, CUDA, transfers), `weights` (parameters in memory and on
//! the disk), `network` (the backbone), `world` (ranks), `training`, `policy`, `image_tokenizer`, `reward_networks`, `sampler`, `likelihood`, `engine` (what is
//! done with each request, the socket). Each room's `mod.rs` says what its files are for.

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
