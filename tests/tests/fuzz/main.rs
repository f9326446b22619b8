//! Every door to the outside, tried with changed inputs (law L9): no panic, no abort, at most 256 MiB and a second each.
//!
//! Each door is given its inputs of one seed; `DEMASK_FUZZ_INPUTS`, `_SEED` and `_ONLY` ask for more, others, one
//! (`tests/src/fuzz.rs`). What was found is mended where it was found, and has a test there. The doors of the engine, which
//! needs libtorch, are in `model/tests/fuzz.rs`.
#![allow(clippy::unwrap_used, missing_docs)]

mod pictures;
mod prompts;
mod servers;
mod settings;
mod sockets;
mod tables;
mod weights;

#[global_allocator]
static MEMORY: demask_tests::fuzz::CountingAllocator = demask_tests::fuzz::CountingAllocator;

/// A file of another crate's fixtures.
fn fixture(path: &str) -> Vec<u8> {
    let house = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read(house.join(path)).unwrap()
}
