//! Every external interface ("door") with hostile inputs (law L9): no panic, no abort, limited memory and processor
//! time per input (`tests/src/fuzz.rs`).
//!
//! `DEMASK_FUZZ_INPUTS`, `_SEED` and `_ONLY` select more, other, or single inputs. Defects that fuzzing found were
//! fixed where they were found, and have tests there. The interfaces of the engine, which needs libtorch, are tested in
//! `model/tests/fuzz.rs`.
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

/// Reads a fixture of another crate.
fn fixture(path: &str) -> Vec<u8> {
    let house = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::fs::read(house.join(path)).unwrap()
}
