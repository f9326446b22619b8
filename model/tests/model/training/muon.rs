//! Muon's update: orthogonal, of the size of Adam's, and applied only to the matrices it is for.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

use demask_api::{Adam, StepSettings};
use demask_model::training::optimizer::AdamW;
use demask_model::training::optimizer::muon::{batches, directions, orthogonalise};
use demask_model::{Backbone, Parameters, training};
use tch::{Kind, Tensor};

use crate::common::{learner, sequence, settings};

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1])).unwrap()
}

#[test]
fn singular_values_come_near_one_and_singular_vectors_stay() {
    tch::manual_seed(3);
    let x_KMN = Tensor::randn([3, 24, 40], (Kind::Float, tch::Device::Cpu));
    let made_KMN = orthogonalise(&x_KMN).unwrap();
    let (u, _, v) = x_KMN.svd(true, true);
    // In the basis of the input's singular vectors the result is diagonal, with values near one.
    let inner = u.transpose(1, 2).matmul(&made_KMN).matmul(&v);
    let diagonal = inner.diagonal(0, 1, 2);
    for value in values(&diagonal) {
        assert!((0.5..1.3).contains(&value), "{value}");
    }
    let off = &inner - Tensor::diag_embed(&diagonal, 0, 1, 2);
    assert!(values(&off).into_iter().all(|value| value.abs() < 0.08), "{off}");
}

/// Muon moves each matrix of a block by about 0.2 learning rates (root mean square), as large as Adam's
/// updates. All other parameters move as with Adam.
#[test]
fn a_matrix_moves_by_adams_size_and_everything_else_as_adam_moves_it() {
    let after = |muon| {
        let (mut backbone, mut optimizer) = learner(5);
        let before = backbone.parameters().master().copy();
        let rows: Vec<_> = (0..6).map(|row| sequence(row, 12, 2)).collect();
        let settings = StepSettings {
            adam: Adam {
                muon,
                weight_decay: 0.0,
                ..Adam::default()
            },
            clip_norm: 0.0,
            ..settings(1)
        };
        training::train(&mut backbone, &mut optimizer, &[rows], &settings).unwrap();
        let moved = backbone.parameters().master() - before;
        (moved, settings.learning_rate, backbone)
    };
    let ((with, rate, backbone), (without, ..)) = (after(true), after(false));
    for (name, moved) in backbone.parameters().named_like(&with).unwrap() {
        let adams = of(backbone.parameters(), &without, &name);
        if name.contains(".blocks.") && moved.dim() == 2 {
            let size = moved.square().mean(Kind::Double).double_value(&[]).sqrt() / rate;
            // An M x N matrix of rank r has r singular values near one, so its root mean square is 0.2 if it
            // has full rank and less otherwise.
            assert!((0.05..0.25).contains(&size), "{name}: {size}");
        } else {
            // Equal up to rounding: without Muon a CPU kernel takes the step.
            for (one, other) in values(&moved).into_iter().zip(values(&adams)) {
                assert!((one - other).abs() < 1e-3 * rate, "{name}: {one} and {other}");
            }
        }
    }
}

/// Batches of equal shapes cover every matrix of a block exactly once, and batching does not change a bit of
/// a matrix's direction.
#[test]
fn every_matrix_between_two_layers_has_a_direction_of_its_size() {
    let backbone: Backbone = crate::common::backbone(1);
    let parameters = backbone.parameters();
    let wanted: usize = parameters
        .slots()
        .iter()
        .filter(|slot| slot.shape.len() == 2 && slot.name.contains(".blocks."))
        .count();
    let mut found = 0;
    for batch in batches(parameters.slots()) {
        let momenta: Vec<Tensor> = batch
            .iter()
            .map(|matrix| parameters.master().narrow(0, matrix.flat, matrix.numbers()))
            .collect();
        // A matrix in a batch gets the same bits as alone.
        let together = directions(&batch, momenta.iter().map(Tensor::shallow_clone).collect()).unwrap();
        for ((matrix, momentum), direction) in batch.iter().zip(momenta).zip(together) {
            let alone = directions(&[*matrix], vec![momentum]).unwrap();
            assert_eq!(direction.numel() as i64, matrix.numbers());
            assert!(alone[0].equal(&direction), "{matrix:?}");
            found += 1;
        }
    }
    assert_eq!(found, wanted);
}

/// Muon's matrices store no second moment. An older optimizer state that has second moments for them
/// continues with the same bits.
#[test]
fn a_state_with_second_moments_of_matrices_goes_on_as_one_without() {
    let adam = Adam {
        muon: true,
        ..Adam::default()
    };
    let (mut backbone, mut optimizer) = learner(5);
    let step = |backbone: &mut Backbone, optimizer: &mut AdamW, seed: u64| {
        let settings = StepSettings {
            adam: adam.clone(),
            ..settings(seed)
        };
        let rows: Vec<_> = (0..6).map(|row| sequence(row, 12, 2)).collect();
        training::train(backbone, optimizer, &[rows], &settings).unwrap();
    };
    step(&mut backbone, &mut optimizer, 1);
    let mut state = optimizer.state("o").unwrap();
    let slots = backbone.parameters().slots();
    let beside = slots
        .iter()
        .filter(|slot| slot.shape.len() != 2 || !slot.name.contains(".blocks."));
    let beside: Vec<String> = beside.map(|slot| slot.name.clone()).collect();
    let kept: i64 = slots
        .iter()
        .filter(|slot| beside.contains(&slot.name))
        .map(|slot| slot.shape.iter().product::<i64>())
        .sum();
    assert_eq!(state["o.second"].numel() as i64, kept);
    // The older layout: a second moment for every parameter.
    let all = backbone.parameters().master().ones_like();
    let mut at = 0;
    for name in &beside {
        let mut own = backbone.parameters().view(&all, name).unwrap();
        let count = own.numel() as i64;
        own.copy_(&state["o.second"].narrow(0, at, count).view(own.size().as_slice()));
        at += count;
    }
    let old = {
        let mut old: std::collections::BTreeMap<_, _> = state
            .iter()
            .map(|(name, tensor)| (name.clone(), tensor.copy()))
            .collect();
        old.insert("o.second".into(), all);
        old
    };
    state = state
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.copy()))
        .collect();
    let weights = backbone.parameters().master().copy();
    let mut after = Vec::new();
    for state in [state, old] {
        backbone.parameters().set(&weights).unwrap();
        optimizer.restore("o", &state).unwrap();
        step(&mut backbone, &mut optimizer, 2);
        after.push(crate::common::state(backbone.parameters(), &optimizer));
    }
    assert!(after[0] == after[1]);
}

/// When Muon is switched off, the second moment of a matrix starts as the square of its first moment. Adam's first step
/// then moves no weight of it by more than a bound that holds for every gradient g. With the first moment m, by
/// Cauchy–Schwarz, |β1 m + (1 − β1) g| is at most c √(β2 m² + (1 − β2) g²), where c² = β1² / β2 + (1 − β1)² / (1 − β2).
#[test]
fn matrices_go_back_to_adam_without_a_leap() {
    let (mut backbone, mut optimizer) = learner(5);
    let rows: Vec<_> = (0..6).map(|row| sequence(row, 12, 2)).collect();
    let step = |backbone: &mut Backbone, optimizer: &mut AdamW, seed: u64, muon: bool| {
        let settings = StepSettings {
            adam: Adam {
                muon,
                weight_decay: 0.0,
                ..Adam::default()
            },
            ..settings(seed)
        };
        training::train(backbone, optimizer, std::slice::from_ref(&rows), &settings).unwrap();
        settings.learning_rate
    };
    step(&mut backbone, &mut optimizer, 1, true);
    step(&mut backbone, &mut optimizer, 2, true);
    let first = optimizer.state("o").unwrap()["o.first"].copy();
    let before = backbone.parameters().master().copy();
    let rate = step(&mut backbone, &mut optimizer, 3, false);
    let moved = backbone.parameters().master() - before;
    let second = optimizer.state("o").unwrap()["o.second"].copy();
    assert_eq!(second.numel(), first.numel());

    let Adam { beta1, beta2, .. } = Adam::default();
    let bound = (beta1.powi(2) / beta2 + (1.0 - beta1).powi(2) / (1.0 - beta2)).sqrt();
    // The corrections of the third step, which are those of moments that began with zero.
    let bound = bound * (1.0 - beta2.powi(3)).sqrt() / (1.0 - beta1.powi(3));
    assert!(bound < 0.7, "{bound}");
    let parameters = backbone.parameters();
    let matrices = parameters
        .slots()
        .iter()
        .filter(|slot| slot.shape.len() == 2 && slot.name.contains(".blocks."));
    for slot in matrices {
        let own = |flat: &Tensor| of(parameters, flat, &slot.name);
        let most = own(&moved).abs().max().double_value(&[]) / rate;
        assert!(most > 0.0 && most <= 1.001 * bound, "{}: {most}", slot.name);
        // Less would be a second moment that had begun with something smaller.
        let least = own(&first).square() * (0.9999 * beta2);
        assert_eq!(own(&second).ge_tensor(&least).all().int64_value(&[]), 1);
    }
}

fn of(parameters: &Parameters, flat: &Tensor, name: &str) -> Tensor {
    parameters.view(flat, name).unwrap()
}
