//! Work that is split over several threads: a batch gives the same gradients as on one thread, and the same
//! bits each time. A sampler's pass gives the same bits for any number of threads.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::path::Path;

use demask_api::{
    BackboneConfig, BaseDtype, EstimatorConfig, FrozenBase, LoraConfig, ObjectiveConfig, Purpose, Sequence,
    Spacing, UniGrpo,
};
use demask_model::device::kernels::kernel_set::KernelSet;
use demask_model::device::kernels::rotary::Rotary;
use demask_model::device::transfer::Packet;
use demask_model::network::chunk::Chunk;
use demask_model::network::kv_cache::KvCache;
use demask_model::network::lora::Lora;
use demask_model::{Backbone, Parameters, policy, training};
use tch::{Device, Kind, Tensor};

use common::{config, learner, sequence, settings};

fn rows() -> Vec<Sequence> {
    (0..13)
        .map(|row| sequence(row, 10 + row as usize % 4, row as usize % 3))
        .collect()
}

/// Returns the weights after three training steps and one policy step, and all losses.
fn learnt(threads: i32) -> (Tensor, Vec<f64>) {
    tch::set_num_threads(threads);
    let (mut backbone, mut optimizer) = learner(2);
    let mut losses = Vec::new();
    for step in 0..3 {
        let report = training::train(&mut backbone, &mut optimizer, &[rows()], &settings(step)).unwrap();
        losses.push(report.loss);
        losses.extend(report.task_losses.into_iter().map(|(_, loss)| loss));
    }
    let groups = [
        common::group(&[1.0, -0.5, 0.0, 0.5, -1.0]),
        common::group(&[0.3, 0.3, -0.6, 0.1, -0.1]),
    ];
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 2,
        ..ObjectiveConfig::default()
    };
    let report = policy::train(
        &mut backbone,
        &mut optimizer,
        None,
        &groups,
        &estimator,
        &objective,
        &settings(9),
    )
    .unwrap();
    losses.extend(report.losses);
    (backbone.parameters().master().copy(), losses)
}

#[test]
fn l8_parts_give_the_gradient_of_the_whole_and_the_same_bits_each_time() {
    let (alone, its_losses) = learnt(1);
    let (apart, losses) = learnt(3);
    assert_eq!(tch::get_num_threads(), 3);
    let (again, losses_again) = learnt(3);
    tch::set_num_threads(1);
    assert_eq!(losses, losses_again);
    assert!(apart.equal(&again));
    for (a, b) in its_losses.iter().zip(&losses) {
        assert!(
            (a - b).abs() <= 1e-4 * a.abs().max(1.0),
            "{its_losses:?} {losses:?}"
        );
    }
    let away = (&alone - &apart)
        .abs()
        .max()
        .to_kind(Kind::Double)
        .double_value(&[]);
    // Adam's first steps have the size of the learning rate whatever the size of the gradient, so rounding of
    // a gradient close to zero shows in the weights.
    assert!(away < 2e-3, "{away}");
}

/// A network of the shipped model's width, with fewer key heads than query heads.
fn wide() -> BackboneConfig {
    BackboneConfig {
        d_model: 192,
        n_heads: 6,
        n_kv_heads: Some(2),
        n_layers: 3,
        mlp_hidden_size: Some(328),
        ..config()
    }
}

/// Returns the part of the given row that a pass computes: every place, or every third.
fn chunk(slot: usize, keys: usize, whole: bool) -> Chunk {
    let places: Vec<usize> = (0..keys).step_by(if whole { 1 } else { 3 }).collect();
    let id = |place: &usize| (place * 5 + slot * 3 + usize::from(whole)) as u32 % 10;
    Chunk {
        slot,
        ids: places.iter().map(id).collect(),
        places,
        offset: slot,
        keys,
        soft_pad: if slot == 1 { 2 } else { 0 },
    }
}

/// Returns the hidden states of every second place, [N, D], of a whole pass and of a pass over a third of the
/// places that reads what the first one left in the cache.
fn hidden(backbone: &Backbone, rows: &[(usize, usize)]) -> Vec<Tensor> {
    let config = backbone.config();
    let cache = KvCache::new(config, 3, 24, Device::Cpu, backbone.kind()).unwrap();
    let rotary = Rotary::new(config.head_dim(), 64, config.rope_theta, Device::Cpu).unwrap();
    let pass = |whole| {
        let chunks: Vec<Chunk> = rows
            .iter()
            .map(|&(slot, keys)| chunk(slot, keys, whole))
            .collect();
        let count: usize = chunks.iter().map(|chunk| chunk.places.len()).sum();
        let mut packet = Packet::new();
        let planned = cache.plan(&chunks, &mut packet);
        let wanted = packet.longs((0..count as i64).step_by(2));
        let arrived = packet.send(Device::Cpu).unwrap();
        let pass = planned.arrive(&arrived, &rotary).unwrap();
        backbone.run(&cache, &pass, Some(&arrived.get(wanted))).unwrap()
    };
    vec![pass(true), pass(false)]
}

/// The networks whose passes are one call.
#[derive(Clone, Copy, Debug)]
enum Network {
    Plain,
    /// With biases everywhere, and norms of queries and keys.
    Biased,
    /// With so many tokens that each pass projects its own ones for the first block.
    OfManyTokens,
    /// With an adapter on some of the layers.
    Adapted,
    /// With an adapter over a base in four bits, and biases.
    Quantized,
}

impl Network {
    const ALL: [Self; 5] = [
        Self::Plain,
        Self::Biased,
        Self::OfManyTokens,
        Self::Adapted,
        Self::Quantized,
    ];

    fn config(self) -> BackboneConfig {
        match self {
            Self::Plain | Self::Adapted => wide(),
            Self::OfManyTokens => BackboneConfig {
                include_bias: true,
                vocab_size: 7000,
                ..wide()
            },
            Self::Biased | Self::Quantized => BackboneConfig {
                include_bias: true,
                attention_layer_norm: true,
                ..wide()
            },
        }
    }

    /// Makes the network in a dtype, from the same numbers for each.
    fn of(self, kind: Kind) -> Backbone {
        let config = self.config();
        let trained = |kind: Kind| {
            let backbone = Backbone::fresh(&config, 4, Device::Cpu, kind).unwrap();
            shift(backbone.parameters(), 0.02);
            backbone
        };
        match self {
            Self::Plain | Self::Biased | Self::OfManyTokens => trained(kind),
            Self::Adapted => adapted(trained(kind)),
            Self::Quantized => {
                let dir = tempfile::tempdir().unwrap();
                let named = trained(Kind::Float).parameters().named().unwrap();
                common::shards::write(dir.path(), &config, &named, 1);
                let form = FrozenBase {
                    dtype: BaseDtype::Nf4,
                    double_quantization: false,
                };
                adapted(Backbone::load_frozen(dir.path(), (Device::Cpu, kind), form, None).unwrap())
            }
        }
    }

    /// Returns the dtypes that a pass in one call knows here, with the error that each may have.
    fn kinds(self) -> Vec<(Kind, f64)> {
        let (in_f32, in_bf16) = match self {
            Self::Plain => (2e-5, 0.04),
            // More is added.
            _ => (5e-5, 0.08),
        };
        // An adapter is not merged in bf16, so such a network goes operator by operator.
        let is_merged = matches!(self, Self::Adapted | Self::Quantized);
        let has_bf16 = KernelSet::chosen().is_some_and(KernelSet::multiplies_bf16);
        let bf16 = (has_bf16 && !is_merged).then_some((Kind::BFloat16, in_bf16));
        if !has_bf16 {
            println!("bf16 skipped: this processor has no products in it");
        }
        [(Kind::Float, in_f32)].into_iter().chain(bf16).collect()
    }
}

/// Adds numbers of at most `by` to all parameters, so that no bias is zero and no gain is one.
fn shift(parameters: &Parameters, by: f64) {
    let master = parameters.master();
    let wave = (Tensor::arange(master.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7).sin() * by;
    parameters.set(&(master + wave)).unwrap();
}

/// Puts an adapter on a network, which adapts only a part of two of its products.
fn adapted(base: Backbone) -> Backbone {
    let lora = LoraConfig {
        rank: 4,
        alpha: 8.0,
        target_modules: ["q_proj", "v_proj", "attn_out", "up_proj", "ff_out"]
            .map(str::to_owned)
            .to_vec(),
        ..LoraConfig::default()
    };
    let place = (Device::Cpu, base.kind());
    let lora = Lora::fresh(&lora, base.config(), Path::new("base"), place, Purpose::Train).unwrap();
    shift(lora.parameters(), 0.05);
    base.adapted(lora)
}

/// Law L8, and the hidden states are those of the operators in f64.
#[test]
fn l8_a_samplers_pass_has_the_same_bits_for_any_number_of_threads_and_those_of_the_operators() {
    let rows = [(0, 24), (1, 17), (2, 22)];
    for network in Network::ALL {
        let exact = hidden(&network.of(Kind::Double), &rows);
        for (kind, allowed) in network.kinds() {
            let name = format!("{network:?}, {kind:?}");
            let of = |threads: i32, rows: &[(usize, usize)]| {
                tch::set_num_threads(threads);
                let found = hidden(&network.of(kind), rows);
                tch::set_num_threads(1);
                found
            };
            let alone = of(1, &rows);
            for (exact, found) in exact.iter().zip(&alone) {
                assert_eq!((exact.size(), kind), (found.size(), found.kind()));
                let far = (exact - found.to_kind(Kind::Double))
                    .abs()
                    .max()
                    .double_value(&[]);
                assert!(far < allowed, "{name}: {far}");
            }
            for threads in [2, 3, 5] {
                for (one, several) in alone.iter().zip(&of(threads, &rows)) {
                    assert!(one.equal(several), "{name}, {threads} threads");
                }
            }
            // A row has the same bits without the others: the first one's wanted places come first.
            for (all, own) in alone.iter().zip(&of(2, &rows[..1])) {
                assert!(all.narrow(0, 0, own.size()[0]).equal(own), "{name}");
            }
        }
    }
}
