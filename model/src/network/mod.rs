//! The language backbone: the bidirectional transformer of LLaDA and MMaDA, forward.
//!
//! - `backbone.rs`: the blocks and the head; `full_forward.rs`: a forward pass over every position of every row;
//! - `kv_cache.rs`, `kv_attention.rs`, `chunk.rs`: forward passes over some positions, with keys and values kept;
//! - `attention_mask.rs`, `packing.rs`: who attends to whom; the real tokens of padded rows, back to back;
//! - `slots.rs`, `folder_config.rs`: published names and shapes; what a folder's `config.json` says;
//! - `lora.rs`, `growth.rs`: adapters beside frozen weights; a text model that is given picture codes;
//! - `room.rs`: how much of a batch goes through at one time.
//!
//! Not here: losses and optimisers (`training`), samplers (`sampler`), the other networks (`image_tokenizer`,
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
