//! Tests of the networks, the training and the samplers, as one program that is linked once; each file is a
//! module. To run one file: `cargo test --release --locked --workspace --test model -- network::lora::`. A
//! test that changes process-wide state (threads, the kernel set, CUDA) or that measures memory is a program
//! of its own, beside this folder.
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
    mod caches;
    mod codes;
    mod joining;
    mod picture_shapes;
    mod requests;
    mod samplers;
    mod text_rules;
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
