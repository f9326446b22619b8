//! What a network is: its shape, and how it is stored and loaded.
//!
//! - `config.rs`: the shapes of the networks; `published.rs`: a `config.json` as it is published;
//! - `validation.rs`: whether its numbers are within their limits; `memory.rs`: how much it takes, how much there is;
//!   `activations.rs`: how much of it a batch takes on its way through; `plan.rs`: what training takes in all;
//!   `tokenizer_rules.rs`: what a tokenizer may do to a text;
//! - `checkpoint.rs`: the layout of a checkpoint folder and its manifest; `loading.rs`: how one is loaded.
//!
//! Not here: weights, which never cross the socket.

pub mod activations;
pub mod checkpoint;
pub mod config;
pub mod loading;
pub mod memory;
pub mod plan;
pub mod published;
pub mod tokenizer_rules;
pub mod validation;
