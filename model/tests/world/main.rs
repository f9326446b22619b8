//! Tests of several ranks, as processes over the loopback interface with one thread each. The test program
//! starts itself again as each rank.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod engines;
mod meeting;
mod processes;
mod steps;

/// Not a test: the entry point of a rank, which plays its part in the scene that the environment names.
#[test]
#[ignore = "started by the tests as a rank"]
fn as_a_rank() {
    let Ok(scene) = std::env::var(processes::SCENE) else {
        return;
    };
    if !steps::play(&scene) && !calls::play(&scene) {
        meeting::play(&scene);
    }
}
