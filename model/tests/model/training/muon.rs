//! Muon's update: orthogonal, of Adam's size, and only where it belongs.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

use demask_api::{Adam, StepSettings};
use demask_model::training::optimizer::muon::{directions, orthogonalise};
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
            // A matrix of rank r of sides M, N has r singular values near one: 0.2 where it has full rank.
            assert!((0.05..0.25).contains(&size), "{name}: {size}");
        } else {
            // Up to rounding: without Muon a CPU's kernel takes the step.
            for (one, other) in values(&moved).into_iter().zip(values(&adams)) {
                assert!((one - other).abs() < 1e-3 * rate, "{name}: {one} and {other}");
            }
        }
    }
}

#[test]
fn every_direction_has_its_parameters_shape() {
    let backbone: Backbone = crate::common::backbone(1);
    let made = directions(backbone.parameters(), backbone.parameters().master()).unwrap();
    let slots = backbone.parameters().slots();
    let hidden = slots
        .iter()
        .filter(|slot| slot.shape.len() == 2 && slot.name.contains(".blocks."));
    assert_eq!(made.len(), hidden.count());
    for (name, direction) in made {
        let slot = slots.iter().find(|slot| slot.name == name).unwrap();
        assert_eq!(direction.size(), slot.shape);
    }
}

fn of(parameters: &Parameters, flat: &Tensor, name: &str) -> Tensor {
    parameters.view(flat, name).unwrap()
}
