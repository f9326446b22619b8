//! What ranks promise, as processes over the loopback with a thread each. One program, which starts itself again as a rank.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

#[path = "../common/mod.rs"]
mod common;

mod calls;
mod engines;
mod processes;
mod steps;

/// Not a test: what a rank does, in the scene that it is told.
#[test]
#[ignore = "started by the tests as a rank"]
fn as_a_rank() {
    let Ok(scene) = std::env::var(processes::SCENE) else {
        return;
    };
    if !steps::play(&scene) {
        calls::play(&scene);
    }
}
