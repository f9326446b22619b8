//! The language backbone: the forward pass of LLaDA's and MMaDA's bidirectional transformer.
//!
//! - `backbone/`: the blocks and the head; `full_forward.rs`: a forward pass over every position of every row;
//! - `kv_cache.rs`, `kv_attention.rs`, `chunk.rs`: forward passes over some positions, with a cache of keys and values;
//! - `attention_mask.rs`: the attention mask; `packing.rs`: the real tokens of padded rows, back to back;
//! - `slots.rs`: published names and shapes of the parameters; `folder_config.rs`: the configuration of a model's
//!   folder;
//! - `lora/`: adapters beside frozen weights; `growth.rs`: the extension of a text model by picture codes;
//! - `room.rs`: the limits on how much of a batch is computed at a time.
//!
//! Not here: losses and optimizers (`training`), samplers (`sampler`), the other networks (`image_tokenizer`,
//! `reward_networks`).

pub mod attention_mask;
pub mod backbone;
pub mod chunk;
pub mod folder_config;
pub(crate) mod full_forward;
pub mod growth;
mod kv_attention;
pub mod kv_cache;
pub mod lora;
pub mod packing;
pub mod room;
pub mod slots;

pub use attention_mask::AttentionMask;
pub use backbone::Backbone;
