//! Tests of the crate's public interfaces, as one program that is linked once; each file is a module. To run
//! one file: `cargo test --release --locked --workspace --test datasets -- hub::`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../hub_server/mod.rs"]
mod hub_server;

mod chat_templates;
mod cleaning;
mod files;
mod hub {
    mod cache;
    mod copies;
    mod listing;
    mod names;
    mod place;
    mod refusals;
    mod transfer;
}
mod layouts;
mod likeness;
mod picture_fit;
mod published;
mod readers;
mod tabletop;
mod torch_file;
