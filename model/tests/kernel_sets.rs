//! The attention kernels of every instruction set that this machine supports, compared with libtorch's
//! operators in f64, with themselves in other batches (L8), and by the tokens that they sample.
#![allow(clippy::unwrap_used, missing_docs, non_snake_case)]

mod common;

use std::path::Path;
use std::process::Command;

use common::config;
use common::rows::{draw, row, sharp};
use demask_api::{BackboneConfig, LoraConfig, Purpose, Sampler, TextCache, TextSampler};
use demask_model::device::kernels::kernel_set::{KERNELS, KernelSet};
use demask_model::device::kernels::rotary::Rotary;
use demask_model::device::transfer::Packet;
use demask_model::network::chunk::Chunk;
use demask_model::network::kv_cache::KvCache;
use demask_model::network::lora::Lora;
use demask_model::{Backbone, Parameters};
use proptest::prelude::*;
use tch::{Device, Kind, Tensor};

/// The largest number of positions in a row.
const LONGEST: usize = 70;

/// Number of query heads, number of key/value heads, and head dimension.
type Heads = (usize, usize, usize);

fn cache((heads, kv_heads, width): Heads, rows: usize, kind: Kind) -> KvCache {
    let config = BackboneConfig {
        d_model: heads * width,
        n_heads: heads,
        n_kv_heads: Some(kv_heads),
        n_layers: 1,
        ..config()
    };
    KvCache::new(&config, rows, LONGEST, Device::Cpu, kind).unwrap()
}

/// Returns the joined query, key and value projections of `count` positions, with shape `[count, (heads + 2 *
/// kv_heads) * width]`.
fn projections((heads, kv_heads, width): Heads, count: usize, salt: f64) -> Tensor {
    let columns = ((heads + 2 * kv_heads) * width) as i64;
    let wave = Tensor::arange(count as i64 * columns, (Kind::Double, Device::Cpu)) * (0.7 + salt);
    wave.sin().view([count as i64, columns])
}

fn count(chunks: &[Chunk]) -> usize {
    chunks.iter().map(|chunk| chunk.places.len()).sum()
}

fn attend(
    cache: &KvCache,
    kind: Kind,
    (heads, _, width): Heads,
    chunks: &[Chunk],
    joined: &Tensor,
) -> Tensor {
    let rotary = Rotary::new(width, 2 * LONGEST, 10_000.0, Device::Cpu).unwrap();
    let mut packet = Packet::new();
    let planned = cache.plan(chunks, &mut packet);
    let pass = planned
        .arrive(&packet.send(Device::Cpu).unwrap(), &rotary)
        .unwrap();
    let (places, more) = (count(chunks) as i64, pass.ids_T.size()[0] - count(chunks) as i64);
    let joined = joined.to_kind(kind).constant_pad_nd([0, 0, 0, more]);
    let mixed = cache.attend(0, &joined, None, rotary.all(), heads as i64, &pass);
    mixed.unwrap().narrow(0, 0, places)
}

/// A row's left padding, positions and soft-padded positions, and the positions that a pass computes, as a
/// first position and a stride.
type RowShape = (usize, usize, usize, usize, usize);

fn chunks(shapes: &[RowShape], whole: bool) -> Vec<Chunk> {
    let of = |(number, &(offset, keys, soft_pad, first, stride)): (usize, &RowShape)| {
        let places: Vec<usize> = match whole {
            true => (0..keys).collect(),
            false => (first % keys..keys).step_by(stride).collect(),
        };
        Chunk {
            slot: shapes.len() - 1 - number,
            ids: vec![0; places.len()],
            places,
            offset,
            keys,
            soft_pad: soft_pad % keys,
        }
    };
    shapes.iter().enumerate().map(of).collect()
}

fn heads() -> impl Strategy<Value = Heads> {
    let counts = prop_oneof![Just((2, 1)), Just((4, 2)), Just((3, 3))];
    let widths = prop_oneof![Just(8usize), Just(20), Just(64)];
    (counts, widths).prop_map(|((heads, kv_heads), width)| (heads, kv_heads, width))
}

fn shapes() -> impl Strategy<Value = Vec<RowShape>> {
    let soft_pad = prop_oneof![Just(0usize), 0..LONGEST];
    let one = (0usize..4, 1..=LONGEST, soft_pad, 0..LONGEST, 1usize..9);
    proptest::collection::vec(one, 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Every kernel set agrees to 2e-5 with the f64 operators, both in full passes and in passes over some
    /// positions that reuse the cache of a full pass.
    #[test]
    fn every_set_attends_as_the_operators_do(heads in heads(), shapes in shapes()) {
        let wide = cache(heads, shapes.len(), Kind::Double);
        let passes = [(true, 0.0), (false, 0.1)].map(|(whole, salt)| {
            let chunks = chunks(&shapes, whole);
            let joined = projections(heads, count(&chunks), salt);
            let expected = attend(&wide, Kind::Double, heads, &chunks, &joined);
            (chunks, joined, expected)
        });
        for set in KernelSet::here() {
            let ours = cache(heads, shapes.len(), Kind::Float).with_kernels(set);
            for (chunks, joined, expected) in &passes {
                let found = attend(&ours, Kind::Float, heads, chunks, joined);
                let far = (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
                prop_assert!(far < 2e-5, "{}: {}", set.name(), far);
            }
        }
    }

    /// A position computed alone, in a tile of one query, has the same bits as among others (L8).
    #[test]
    fn l8_a_place_is_the_same_in_any_tile(heads in heads(), shapes in shapes()) {
        let chunks = chunks(&shapes, true);
        let joined = projections(heads, count(&chunks), 0.0);
        for set in KernelSet::here() {
            let ours = cache(heads, shapes.len(), Kind::Float).with_kernels(set);
            let together = attend(&ours, Kind::Float, heads, &chunks, &joined);
            let places = chunks.iter().flat_map(|chunk| chunk.places.iter().map(move |&place| (chunk, place)));
            for (at, (chunk, place)) in places.enumerate().step_by(5) {
                let only = Chunk { ids: vec![0], places: vec![place], ..chunk.clone() };
                let alone = attend(&ours, Kind::Float, heads, &[only], &joined.narrow(0, at as i64, 1));
                prop_assert!(alone.equal(&together.narrow(0, at as i64, 1)), "{}: place {}", set.name(), place);
            }
        }
    }
}

const TOKENS: &str = "tokens under ";

/// Returns a network with biases everywhere, of which none is zero, and norms of queries and keys.
fn biased() -> Backbone {
    let config = BackboneConfig {
        include_bias: true,
        attention_layer_norm: true,
        ..config()
    };
    let backbone = sharp(&config, 5, (Device::Cpu, Kind::Float));
    shift(backbone.parameters(), 0.1);
    backbone
}

/// Returns a network with an adapter.
fn adapted() -> Backbone {
    let place = (Device::Cpu, Kind::Float);
    let base = sharp(&config(), 3, place);
    let modules = LoraConfig::default();
    let lora = Lora::fresh(&modules, base.config(), Path::new("base"), place, Purpose::Train).unwrap();
    shift(lora.parameters(), 0.1);
    base.adapted(lora)
}

/// Adds numbers of at most `by` to all parameters.
fn shift(parameters: &Parameters, by: f64) {
    let master = parameters.master();
    let wave = (Tensor::arange(master.numel() as i64, (Kind::Float, Device::Cpu)) * 0.7).sin() * by;
    parameters.set(&(master + wave)).unwrap();
}

/// Prints the kernel set and the samples of this process, in f32 and bf16, for the test that started it.
#[test]
fn samples_of_this_process() {
    let plain = [Kind::Float, Kind::BFloat16].map(|kind| sharp(&config(), 3, (Device::Cpu, kind)));
    let caches = [
        TextCache::None,
        TextCache::Prefix,
        TextCache::Dual {
            refresh: 2,
            vicinity: 1,
        },
    ];
    let requests: Vec<_> = (0..9)
        .map(|id| {
            let sampler = Sampler::Text(TextSampler {
                steps: 12,
                block: 4,
                cache: caches[id % caches.len()],
                ..TextSampler::default()
            });
            row(id as u64, id % 4, 1 + id % 5, 12, &sampler)
        })
        .collect();
    let ids = |backbone: &Backbone| {
        let samples = draw(backbone, &requests).into_iter();
        samples.map(|sample| sample.ids).collect::<Vec<_>>()
    };
    let name = KernelSet::chosen().map_or("none", KernelSet::name);
    let others = [ids(&biased()), ids(&adapted())];
    let [f32, bf16] = plain.map(|backbone| ids(&backbone));
    println!("{TOKENS}{name}: {f32:?}{IN_BF16}{bf16:?}{OF_OTHERS}{others:?}");
}

const IN_BF16: &str = ", in bf16: ";
const OF_OTHERS: &str = ", of networks with biases and with an adapter: ";

/// Runs [`samples_of_this_process`] with the kernel set that `kernels` selects, and with packed weights (`1`) or without
/// (`0`). Returns the set's name, the tokens in f32 and in bf16, and those of the networks with biases and with an
/// adapter.
fn samples_under(kernels: &str, packed: &str) -> [String; 4] {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "samples_of_this_process", "--nocapture"])
        .env(KERNELS, kernels)
        .env("DEMASK_PACKED_WEIGHTS", packed)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, line) = text.split_once(TOKENS).expect(&text);
    let (set, tokens) = line.lines().next().unwrap().split_once(": ").unwrap();
    let (f32, tokens) = tokens.split_once(IN_BF16).unwrap();
    let (bf16, others) = tokens.split_once(OF_OTHERS).unwrap();
    [set, f32, bf16, others].map(str::to_owned)
}

#[test]
fn every_set_samples_the_same_tokens_and_is_the_one_that_was_asked_for() {
    let Some(&best) = KernelSet::here().first() else {
        return;
    };
    // The composed operators, without packed weights.
    let [set, expected, _, of_others] = samples_under("no such set", "0");
    assert_eq!(set, best.name());
    for set in KernelSet::here() {
        let [name, f32, bf16, others] = samples_under(set.name(), "1");
        assert_eq!((name.as_str(), &f32), (set.name(), &expected));
        assert_eq!(others, of_others, "{name}");
        // Only these sets round nothing but the inputs of products. The operators of the others round every result, and
        // where two tokens are nearly equally likely they take the other.
        if set.multiplies_bf16() {
            assert_eq!(bf16, expected, "{name}");
        }
    }
}
