//! The gradient of the masked loss against finite differences, tensor by tensor.
#![allow(clippy::unwrap_used, missing_docs)]

use crate::common::{MASK, config, ragged};
use demask_api::BackboneConfig;
use demask_model::Backbone;
use demask_model::training::loss::{LossRow, backward_chunks, gather};
use demask_model::training::mask_sampling::masked;
use tch::{Device, Kind, Tensor};

fn rows() -> Vec<LossRow> {
    let row = |(number, sequence): (usize, demask_api::Sequence)| {
        let answer = sequence.answer[0];
        let at: Vec<usize> = (answer.start..answer.end)
            .filter(|at| (at + number) % 3 != 0)
            .collect();
        LossRow {
            ids: masked(&sequence.ids, &at, MASK),
            left_pad: sequence.left_pad,
            targets: at
                .iter()
                .map(|&at| (at, sequence.ids[at], 0.05 * (1 + at % 4) as f32))
                .collect(),
        }
    };
    ragged().into_iter().enumerate().map(row).collect()
}

fn loss(backbone: &Backbone, rows: &[LossRow]) -> f64 {
    let gathered = gather(backbone, rows).unwrap();
    backward_chunks(backbone, &gathered, |logp, at, length| {
        Ok(-(logp * gathered.weights_N.narrow(0, at, length)).sum(Kind::Float))
    })
    .unwrap()
}

/// A step along the gradient of a single tensor raises the loss at the rate of the gradient's norm.
/// Configurations: as many key/value heads as query heads, fewer, and every optional part of the network.
#[test]
fn every_tensors_gradient_is_the_slope_of_the_loss() {
    let full = BackboneConfig {
        include_bias: true,
        attention_layer_norm: true,
        scale_logits: true,
        input_emb_norm: true,
        ..config()
    };
    for config in [
        config(),
        BackboneConfig {
            n_kv_heads: None,
            ..config()
        },
        full,
    ] {
        let mut backbone = Backbone::fresh(&config, 3, Device::Cpu, Kind::Float).unwrap();
        let rows = rows();
        loss(&backbone, &rows);
        let mut flat = backbone.parameters().master().zeros_like();
        backbone.parameters_mut().gather_grads(&mut flat).unwrap();
        let start = backbone.parameters().master().copy();
        for (name, gradient) in backbone.parameters().named_like(&flat).unwrap() {
            let norm = gradient.norm().double_value(&[]);
            let direction = start.zeros_like();
            let part = backbone
                .parameters()
                .named_like(&direction)
                .unwrap()
                .remove(&name)
                .unwrap();
            tch::no_grad(|| part.shallow_clone().copy_(&(&gradient / norm.max(1e-12))));
            let at = |distance: f64| {
                backbone
                    .parameters()
                    .set(&(&start + &direction * distance))
                    .unwrap();
                tch::no_grad(|| value(&backbone, &rows))
            };
            let step = 1e-2;
            let slope = (at(step) - at(-step)) / (2.0 * step);
            assert!(
                (slope - norm).abs() < 2e-2 * norm + 1e-3,
                "{name}: differences {slope}, gradient {norm}"
            );
        }
    }
}

/// Returns the loss alone, summed in double precision.
fn value(backbone: &Backbone, rows: &[LossRow]) -> f64 {
    let gathered = gather(backbone, rows).unwrap();
    let logp = demask_model::training::loss::log_probs(backbone, &gathered.x_ND, &gathered.labels_N).unwrap();
    let weighted: Tensor = logp.to_kind(Kind::Double) * gathered.weights_N.to_kind(Kind::Double);
    -weighted.sum(Kind::Double).double_value(&[])
}
