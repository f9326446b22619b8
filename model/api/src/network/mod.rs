//! The description of a network: its configuration, its memory, and how it is stored and loaded.
//!
//! - `config.rs`: the configurations of the networks; `published.rs`: reading of a published `config.json`;
//! - `validation.rs`: the check of its numbers against their limits; `tokenizer_rules.rs`: the limits of a tokenizer's
//!   rules;
//! - `memory.rs`: the memory of weights, and the free memory of the machine; `activations.rs`: the memory of a batch;
//!   `plan.rs`: the memory of training in total;
//! - `checkpoint.rs`: the layout of a checkpoint folder and its manifest; `loading.rs`: the options of loading one.
//!
//! Not here: weights, which never cross the socket.

pub mod activations;
pub mod checkpoint;
pub mod config;
pub mod frozen_base;
pub mod loading;
pub mod memory;
pub mod plan;
pub mod published;
pub mod sharding;
pub mod tokenizer_rules;
pub mod validation;
