//! Tests of the built programs from outside, linked as one program; each file is a module. To run one file: `cargo test
//! --release --locked --workspace --test programs -- runs::crash::`.
//!
//! Two files are separate programs: `panics.rs` runs a daemon in its own process, and `terminal.rs` opens terminals
//! that the programs of other tests must not inherit.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../../datasets/tests/hub_server/mod.rs"]
mod hub_server;

mod commands {
    mod bad_input;
    mod hostile;
    mod installed;
    mod libtorch_folder;
    mod listed;
    mod plan;
    mod presentation;
    mod profiles;
    mod pull;
    mod score;
    mod slurm;
    mod typed;
}
/// A user's workflows, each from a clean home: own data, rewards and benchmarks, several runs.
mod desk {
    mod align;
    mod benchmarks;
    mod hostile_parquet;
    mod own_data;
    mod resume;
    mod study;
}
mod measurements {
    mod gpu_bench;
    mod rivals;
}
mod models {
    mod adapters;
    mod dcp;
    mod evaluation;
    mod likelihood;
    mod published;
    mod published_benchmarks;
}
mod runs {
    mod ahead;
    mod ahead_freshest;
    mod ahead_pool;
    mod asked;
    mod cable;
    mod crash;
    mod damaged_store;
    mod device_error;
    mod external_rewards;
    mod full_disk;
    mod given_data;
    mod hang;
    mod join;
    mod loop_pieces;
    mod many;
    mod queue;
    mod ranks;
    mod rounds;
    mod sandbox;
    mod teacher;
}
