//! What a network is: its shape, and how it is stored and loaded.
//!
//! - `config.rs`: the shapes of the networks; `published.rs`: a `config.json` as it is published;
//! - `validation.rs`: whether its numbers are within their limits; `memory.rs`: how much it takes, how much there is;
//!   `activations.rs`: how much of it a batch takes on its way through; `plan.rs`: what training takes in all;
//!   `sharding.rs`: what of it each of several ranks takes;
//!   `tokenizer_rules.rs`: what a tokenizer may do to a text;
//! - `checkpoint.rs`: the layout of a checkpoint folder and its manifest; `loading.rs`: how one is loaded;
//!   `frozen_base.rs`: what the frozen weights beside an adapter are kept in.
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
