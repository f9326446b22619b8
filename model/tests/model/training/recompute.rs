//! Activation recomputation gives the same bits as keeping all activations.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use crate::common::{config, group, ragged, sequence, settings, state};
use demask_api::{
    BackboneConfig, EstimatorConfig, LoraConfig, ObjectiveConfig, Purpose, Recompute, Sequence, Spacing,
    StepSettings, UniGrpo,
};
use demask_model::network::lora::Lora;
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind};

/// Returns everything that three training steps and a policy step of two inner steps may have changed.
fn learnt(
    mut backbone: Backbone,
    batches: &[Vec<Sequence>],
    recompute: Recompute,
) -> (Backbone, Vec<(String, Vec<f64>)>) {
    let mut optimizer = AdamW::new(backbone.trained()).unwrap();
    let settings = |seed| StepSettings {
        recompute,
        ..settings(seed)
    };
    for seed in 0..3 {
        let report = training::train(&mut backbone, &mut optimizer, batches, &settings(seed)).unwrap();
        assert!(report.finite && report.grad_norm > 0.0);
    }
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 2,
        kl: 0.1,
        ..ObjectiveConfig::default()
    };
    let reference = backbone.frozen_copy().unwrap();
    let report = policy::train(
        &mut backbone,
        &mut optimizer,
        Some(&reference),
        &[group(&[1.0, -0.5, 0.5, 0.3, -1.0])],
        &estimator,
        &objective,
        &settings(9),
    );
    assert!(report.unwrap().finite);
    let state = state(backbone.trained(), &optimizer);
    (backbone, state)
}

fn same(make: impl Fn() -> Backbone, batches: &[Vec<Sequence>]) {
    let (kept, expected) = learnt(make(), batches, Recompute::Never);
    let (again, found) = learnt(make(), batches, Recompute::Always);
    assert!(again.room().recomputes() && !kept.room().recomputes());
    assert!(expected == found, "other bits");
}

/// Returns two micro-batches, one of them ragged, whose gradients are accumulated.
fn batches() -> Vec<Vec<Sequence>> {
    vec![ragged(), (0..9).map(|seed| sequence(seed, 16, 0)).collect()]
}

fn fresh(config: &BackboneConfig, kind: Kind) -> Backbone {
    Backbone::fresh(config, 3, Device::Cpu, kind).unwrap()
}

#[test]
fn a_step_comes_to_the_same_bits_in_every_dtype() {
    for kind in [Kind::Float, Kind::BFloat16, Kind::Double] {
        same(|| fresh(&config(), kind), &batches());
    }
}

#[test]
fn so_it_does_of_a_deeper_model_whose_embedding_is_its_head() {
    let config = BackboneConfig {
        n_layers: 5,
        weight_tying: true,
        input_emb_norm: true,
        attention_layer_norm: true,
        ..config()
    };
    for kind in [Kind::Float, Kind::BFloat16] {
        same(|| fresh(&config, kind), &batches());
    }
}

#[test]
fn so_it_does_where_long_rows_stay_in_their_rectangle() {
    let config = BackboneConfig {
        max_sequence_length: 300,
        n_layers: 3,
        ..config()
    };
    let rows =
        [(1, 280, 0), (2, 260, 3), (3, 290, 20)].map(|(seed, length, pad)| sequence(seed, length, pad));
    same(|| fresh(&config, Kind::Float), &[rows.to_vec()]);
}

#[test]
fn so_it_does_of_an_adapter_that_drops_inputs() {
    let config = BackboneConfig {
        n_layers: 3,
        ..config()
    };
    let make = |target_modules: &[&str]| {
        let lora = LoraConfig {
            rank: 3,
            dropout: 0.3,
            target_modules: target_modules.iter().map(|&name| name.to_owned()).collect(),
            ..LoraConfig::default()
        };
        let place = (Device::Cpu, Kind::Float);
        let base = Backbone::random(&config, 3, place.0, place.1).unwrap();
        base.adapted(Lora::fresh(&lora, &config, Path::new("base"), place, Purpose::Train).unwrap())
    };
    same(|| make(&["q_proj", "v_proj", "attn_out", "ff_out"]), &batches());
    same(|| make(&["ff_out"]), &batches());
}

/// With `Recompute::Auto`, a small step on a CPU with free memory keeps its activations.
#[test]
fn a_small_step_keeps_its_activations_where_that_is_left_open() {
    let (backbone, _) = learnt(fresh(&config(), Kind::Float), &batches(), Recompute::Auto);
    assert!(!backbone.room().recomputes());
}
