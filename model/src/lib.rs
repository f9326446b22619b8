//! libtorch: the networks, their training, their samplers, and the `demask-engine` program around them.
//!
//! One concept a file; see the crate's README for the list.

pub mod attention_mask;
pub mod backbone;
pub mod checkpoint;
pub mod chunk;
pub mod compare;
pub mod cuda;
pub mod cuda_graph;
pub mod device;
pub mod ending;
pub mod engine;
pub mod error;
pub mod fault;
pub mod fit;
pub mod folder_config;
pub mod fused;
pub mod growth;
pub mod image_tokenizer;
pub mod init;
pub mod kernel_set;
mod kv_attention;
pub mod kv_cache;
pub mod lora;
pub mod loss;
pub mod muon;
pub mod noise;
pub mod optimizer;
pub mod packed_weights;
pub mod packing;
pub mod parallel;
pub mod parameters;
pub mod peft;
pub mod policy;
pub mod profiler;
pub mod ragged;
pub mod reward_networks;
pub mod room;
pub mod rotary;
pub mod sampler;
pub mod sampling;
pub mod server;
pub mod slot;
pub mod slots;
mod staging;
pub mod stored;
pub mod trainer;
pub mod transfer;
pub mod validation;
pub mod verify;
pub mod weights;
mod whole_pass;

pub use attention_mask::AttentionMask;
pub use backbone::Backbone;
pub use error::{ModelError, Result};
pub use parameters::Parameters;
