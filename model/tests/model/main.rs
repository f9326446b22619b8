//! What the networks, the training and the samplers promise, as one program: linked once, each file a module. One file alone:
//! `cargo test --release --locked --workspace --test model -- network::lora::`. A test that sets what holds for its whole process (threads, the
//! kernel set, CUDA) or that measures its memory is a program of its own, beside this folder.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

#[path = "../common/mod.rs"]
mod common;

mod engine {
    mod engine_process;
    mod golden_rewards;
    mod reward_scores;
    mod validation;
}
mod likelihood {
    mod estimators;
}
mod network {
    mod checkpoints;
    mod golden_backbone;
    mod golden_variants;
    mod gradients;
    mod growth;
    mod loading;
    mod lora;
    mod packed_weights;
    mod properties_backbone;
    mod quantized_base;
}
mod sampling {
    mod batch;
    mod picture_shapes;
    mod samplers;
}
mod training {
    mod learning;
    mod muon;
    mod noise;
    mod optimizer;
    mod policy;
    mod recompute;
}
mod weights {
    mod shards;
}
