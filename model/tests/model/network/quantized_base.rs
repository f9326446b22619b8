//! Adapters over a quantized base. The formats match blocks recorded from bitsandbytes. Training over a
//! quantized base is bit-identical to training over its dequantized weights in full precision. Such an
//! adapter learns, and can be resumed, sampled and merged.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::Path;

use crate::common::{group, numbers, ragged, settings, shards};
use crate::network::lora::{base, drawn};
use demask_api::memory;
use demask_api::plan::{LOGITS_AT_ONCE, MOST_PACKED, TrainingPlan};
use demask_api::sharding::Ranks;
use demask_api::{
    BackboneConfig, BaseDtype, EstimatorConfig, FrozenBase, LoadOptions, LoraConfig, MomentKind,
    ObjectiveConfig, Recompute, Shard, StepSettings,
};
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::network::attention_mask::AttentionMask;
use demask_model::weights::quantized::QuantizedTensor;
use demask_model::weights::quantized::blockwise::Blockwise;
use demask_model::weights::quantized::nf4::Nf4Tensor;
use demask_model::weights::safetensors;
use demask_model::{Backbone, policy, training};
use tch::{Device, Kind, Tensor};

const FORMS: [(BaseDtype, bool); 4] = [
    (BaseDtype::Bf16, false),
    (BaseDtype::Int8, false),
    (BaseDtype::Nf4, false),
    (BaseDtype::Nf4, true),
];

/// Reads the blocks that bitsandbytes 0.50.2 made on a CPU (PyTorch 2.11) of a weight of 298 full blocks and
/// a partial one. Codes are stored as f16.
fn recorded() -> BTreeMap<String, Tensor> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/fixtures/quantized.safetensors"
    );
    safetensors::read(Path::new(path)).unwrap()
}

fn dequantized(weight: &Tensor, dtype: BaseDtype, double_quantization: bool) -> Tensor {
    let form = FrozenBase {
        dtype,
        double_quantization,
    };
    let mut found = weight.empty_like();
    QuantizedTensor::of(weight, form)
        .unwrap()
        .write(&mut found)
        .unwrap();
    found
}

/// NF4 codes, constants and dequantized values equal those of bitsandbytes bit for bit, with and without
/// double quantization.
#[test]
fn nf4_is_what_bitsandbytes_recorded() {
    let recorded = recorded();
    let weight = recorded["weight"].to_kind(Kind::Float);
    for double in [false, true] {
        let found = Nf4Tensor::of(&weight, double).unwrap();
        // The last block is partial; this implementation pads it, bitsandbytes does not.
        let bytes = recorded["codes"].numel() as i64;
        let codes = found.codes().narrow(0, 0, bytes).to_kind(Kind::Half);
        assert!(codes.equal(&recorded["codes"]));
        let name = if double { "double" } else { "plain" };
        assert!(
            found
                .absmax()
                .unwrap()
                .equal(&recorded[&format!("{name}.absmax")]),
            "{name}"
        );
        let expected = &recorded[&format!("{name}.dequantized")];
        let rows = expected.size()[0];
        let all = dequantized(&weight, BaseDtype::Nf4, double);
        assert!(all.narrow(0, 0, rows).equal(expected), "{name}");
        let last = weight.size()[0] - 1;
        assert!(
            all.narrow(0, last, 1).equal(&recorded[&format!("{name}.last")]),
            "{name}"
        );
    }
}

#[test]
fn the_constants_eight_bits_are_what_bitsandbytes_recorded() {
    let recorded = recorded();
    let constants = &recorded["plain.absmax"] - recorded["plain.absmax"].mean(Kind::Float);
    let found = Blockwise::of(&constants).unwrap();
    assert!(found.codes().to_kind(Kind::Half).equal(&recorded["double.codes"]));
}

#[test]
fn int8_is_what_bitsandbytes_recorded() {
    let recorded = recorded();
    let weight = recorded["weight"].to_kind(Kind::Float);
    let QuantizedTensor::Int8(found) = QuantizedTensor::of(&weight, form(BaseDtype::Int8)).unwrap() else {
        panic!("another format");
    };
    let rows = found.codes().narrow(0, 0, 4).to_kind(Kind::Half);
    assert!(rows.equal(&recorded["int8.codes"]));
}

fn form(dtype: BaseDtype) -> FrozenBase {
    FrozenBase {
        dtype,
        double_quantization: false,
    }
}

/// The quantization error is at most half a step of the format. In NF4 the widest gap between two values is
/// 0.304 of a block's absmax. Quantizing dequantized weights again changes nothing.
#[test]
fn what_is_dequantised_is_near_and_what_is_there_already_stays() {
    for (seed, shape) in [(1, [3, 5]), (2, [64, 64]), (3, [70, 190]), (4, [1, 1])] {
        tch::manual_seed(seed);
        let weight = Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let most = weight.abs().max().double_value(&[]);
        for (dtype, double) in FORMS {
            let once = dequantized(&weight, dtype, double);
            let off = (&once - &weight).abs().max().double_value(&[]);
            let allowed = match dtype {
                BaseDtype::Bf16 => 1.0 / 256.0,
                BaseDtype::Int8 => 0.51 / 127.0,
                _ => 0.152 + 0.05,
            };
            assert!(off <= allowed * most, "{dtype:?} {shape:?}: {off} of {most}");
            if !double {
                assert!(
                    dequantized(&once, dtype, false).allclose(&once, 1e-6, 1e-9, false),
                    "{dtype:?}"
                );
            }
        }
    }
    // Blocks of zeros, and rows of zeros, stay zero.
    let zeros = Tensor::zeros([2, 64], (Kind::Float, Device::Cpu));
    for (dtype, double) in FORMS {
        assert!(dequantized(&zeros, dtype, double).equal(&zeros), "{dtype:?}");
    }
}

/// Every row of int8 and every block of NF4 has a constant of its own. Zeros stay zeros, and tiny and huge numbers keep
/// the precision of the format, whatever the rows beside them are. A magnitude that is too small to be inverted loses
/// at most itself.
#[test]
fn rows_of_zeros_and_of_tiny_numbers_have_their_own_scale() {
    // One block a row, whose largest magnitude is the row's scale.
    const SCALES: [f64; 5] = [1.0, 0.0, 1e-30, 1e-37, 1e30];
    tch::manual_seed(5);
    let unit = Tensor::rand([5, 64], (Kind::Float, Device::Cpu)) * 2.0 - 1.0;
    let _ = unit.narrow(1, 0, 1).fill_(1.0);
    let scales = Tensor::from_slice(&SCALES).to_kind(Kind::Float);
    let weight = unit * scales.unsqueeze(1);
    for (dtype, step) in [(BaseDtype::Int8, 0.51 / 127.0), (BaseDtype::Nf4, 0.153)] {
        let found = dequantized(&weight, dtype, false);
        for (row, scale) in SCALES.into_iter().enumerate() {
            let off = (found.get(row as i64) - weight.get(row as i64)).abs().max();
            let allowed = if row == 3 { 1.001 } else { step } * scale;
            let off = off.double_value(&[]);
            assert!(off <= allowed, "{dtype:?}, row {row}: {off}, allowed {allowed}");
        }
    }
    let QuantizedTensor::Int8(codes) = QuantizedTensor::of(&weight, form(BaseDtype::Int8)).unwrap() else {
        panic!("another format");
    };
    assert_eq!(codes.codes().get(1).abs().max().int64_value(&[]), 0);
    // With quantised constants a block of zeros has a constant that is not zero.
    let rows = weight.narrow(0, 0, 4);
    let found = dequantized(&rows, BaseDtype::Nf4, true);
    assert!(found.get(1).equal(&rows.get(1).zeros_like()));
    assert!(found.abs().max().double_value(&[]) <= 1.1);
}

fn lora(dtype: BaseDtype, double_quantization: bool) -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        seed: 4,
        base: dtype,
        double_quantization,
        ..LoraConfig::default()
    }
}

/// Writes a copy of a base whose block weights are replaced by their dequantized values.
fn full_of(dir: &Path, to: &Path, (dtype, double): (BaseDtype, bool)) {
    let mut tensors = safetensors::read(&dir.join("model.safetensors")).unwrap();
    for (name, tensor) in &mut tensors {
        if name.contains(".blocks.") && tensor.dim() == 2 {
            *tensor = dequantized(tensor, dtype, double);
        }
    }
    shards::write(to, &crate::common::config(), &tensors, 1);
}

fn open(dir: &Path, resume: bool, options: &LoadOptions) -> Result<LoadedModel, String> {
    LoadedModel::load_with(dir, resume, options, Device::Cpu, Kind::Float).map_err(|error| error.to_string())
}

fn adapted(dir: &Path, config: LoraConfig) -> LoadedModel {
    let options = LoadOptions {
        lora: Some(config),
        ..LoadOptions::default()
    };
    open(dir, false, &options).unwrap()
}

fn train(model: &mut LoadedModel, steps: std::ops::Range<u64>, recompute: Recompute) -> Vec<f64> {
    let one = |seed| {
        let settings = StepSettings {
            recompute,
            ..settings(seed)
        };
        let report =
            training::train(&mut model.backbone, &mut model.optimizer, &[ragged()], &settings).unwrap();
        assert!(report.finite);
        report.loss
    };
    steps.map(one).collect()
}

fn align(model: &mut LoadedModel) -> demask_api::PolicyReport {
    let reference = model.backbone.frozen_copy().unwrap();
    policy::train(
        &mut model.backbone,
        &mut model.optimizer,
        Some(&reference),
        &[group(&[1.0, -1.0, 0.5, -0.5, 0.0])],
        &EstimatorConfig::default(),
        &ObjectiveConfig::default(),
        &settings(5),
    )
    .unwrap()
}

fn logits(backbone: &Backbone) -> Vec<f64> {
    let ids = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]);
    tch::no_grad(|| {
        let hidden = backbone.hidden(&ids, &AttentionMask::None).unwrap();
        numbers(&backbone.head(&hidden, None).unwrap())
    })
}

fn values(model: &LoadedModel) -> Vec<(String, Vec<f64>)> {
    let named = model.backbone.trained().named().unwrap();
    named
        .into_iter()
        .map(|(name, tensor)| (name, numbers(&tensor)))
        .collect()
}

/// Training over a quantized base equals training over the dequantized weights bit for bit, and so does
/// sampling. Values and gradients are then those of the dequantized network, which the adapter tests compare
/// with finite differences.
#[test]
fn l7_what_is_trained_over_it_is_what_would_be_over_the_dequantised_weights() {
    let (place, dir) = base();
    for (number, form) in FORMS.into_iter().enumerate() {
        let full = place.path().join(format!("full-{number}"));
        std::fs::create_dir(&full).unwrap();
        full_of(&dir, &full, form);
        let mut models = [
            adapted(&dir, lora(form.0, form.1)),
            adapted(&full, lora(BaseDtype::Auto, false)),
        ];
        assert_ne!(
            logits(&models[0].backbone),
            logits(&Backbone::load(&dir, Device::Cpu, Kind::Float).unwrap())
        );
        for model in &mut models {
            train(model, 0..3, Recompute::Never);
            train(model, 3..5, Recompute::Always);
            let report = align(model);
            assert!(
                (report.ratio[0] - 1.0).abs() < 1e-6 && report.kl[0].abs() < 1e-6,
                "{report:?}"
            );
        }
        let [over, full] = models;
        assert_eq!(values(&over), values(&full), "{form:?}");
        assert_eq!(logits(&over.backbone), logits(&full.backbone), "{form:?}");
        assert_eq!(drawn(&over.backbone), drawn(&full.backbone), "{form:?}");
    }
}

#[test]
fn it_learns() {
    let (_place, dir) = base();
    for (dtype, double) in FORMS {
        let losses = train(&mut adapted(&dir, lora(dtype, double)), 0..60, Recompute::Auto);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..10]), mean(&losses[50..]));
        assert!(last < first * 0.8, "{dtype:?}: from {first} to {last}");
    }
}

/// An adapter's checkpoint records the format of its quantized base, without the base's weights, and resumes
/// bit for bit in every format.
#[test]
fn l8_what_is_saved_goes_on_bit_for_bit_over_the_same_base() {
    let (place, dir) = base();
    for (number, (dtype, double)) in FORMS.into_iter().enumerate() {
        let mut model = adapted(&dir, lora(dtype, double));
        train(&mut model, 0..2, Recompute::Auto);
        let saved = place.path().join(format!("step-2-{number}"));
        model.save(&saved, &BTreeMap::new(), true).unwrap();
        assert!(!saved.join("model.safetensors").exists(), "the adapter alone");
        let mut back = open(&saved, true, &LoadOptions::default()).unwrap();
        let kept = back.backbone.quantized().form();
        assert_eq!(
            kept,
            FrozenBase {
                dtype,
                double_quantization: double
            }
        );
        train(&mut model, 2..4, Recompute::Auto);
        train(&mut back, 2..4, Recompute::Auto);
        assert_eq!(values(&back), values(&model), "{dtype:?}");
        // The saved model samples as it was trained, both from its own folder and as an adapter on its base.
        let after = place.path().join(format!("step-4-{number}"));
        model.save(&after, &BTreeMap::new(), false).unwrap();
        let sampling = open(&after, false, &LoadOptions::sampling()).unwrap();
        assert_eq!(logits(&sampling.backbone), logits(&model.backbone), "{dtype:?}");
        let put_on = LoadOptions {
            adapter: Some(after),
            ..LoadOptions::sampling()
        };
        let sampling = open(&dir, false, &put_on).unwrap();
        assert_eq!(logits(&sampling.backbone), logits(&model.backbone), "{dtype:?}");
    }
}

/// Merging adds the adapter to the unquantized base: the result equals the adapter over that base, and
/// differs from the adapter over the quantized base.
#[test]
fn it_is_merged_with_the_base_in_full() {
    let (place, dir) = base();
    let mut model = adapted(&dir, lora(BaseDtype::Nf4, true));
    train(&mut model, 0..3, Recompute::Auto);
    let saved = place.path().join("adapter");
    model.save(&saved, &BTreeMap::new(), false).unwrap();
    let merged = open(
        &saved,
        false,
        &LoadOptions {
            merge: true,
            ..LoadOptions::sampling()
        },
    )
    .unwrap();
    let text = std::fs::read_to_string(saved.join("quantization_config.json")).unwrap();
    assert!(
        text.contains("\"nf4\"") && text.contains("bnb_4bit_use_double_quant"),
        "{text}"
    );
    std::fs::remove_file(saved.join("quantization_config.json")).unwrap();
    std::fs::remove_file(saved.join("manifest.json")).unwrap();
    let full = open(&saved, false, &LoadOptions::sampling()).unwrap();
    let off = |one: &[f64], other: &[f64]| {
        let gaps = one.iter().zip(other).map(|(a, b)| (a - b).abs());
        gaps.fold(0.0, f64::max)
    };
    let [merged, full] = [merged, full].map(|model| logits(&model.backbone));
    assert!(off(&merged, &full) < 1e-5, "{}", off(&merged, &full));
    assert!(
        off(&merged, &logits(&model.backbone)) > 1e-3,
        "over the quantised base it is another model"
    );
}

#[test]
fn it_takes_the_bytes_that_are_planned() {
    let (_place, dir) = base();
    let config = crate::common::config();
    for (dtype, double_quantization) in FORMS {
        let form = FrozenBase {
            dtype,
            double_quantization,
        };
        let backbone = Backbone::load_frozen(&dir, (Device::Cpu, Kind::Float), form, None).unwrap();
        let rest = form.backbone_bytes(&config, 4).unwrap() - backbone.quantized().bytes();
        let full = FrozenBase::default().backbone_bytes(&config, 4).unwrap();
        let blocks = 2 * 4 * (2 * 16 * 16 + 2 * 8 * 16 + 3 * 24 * 16);
        assert_eq!(rest, full - blocks, "{dtype:?}");
        assert_eq!(
            backbone.count(),
            Backbone::load(&dir, Device::Cpu, Kind::Float).unwrap().count()
        );
    }
}

/// Returns the bytes that `demask plan` counts for a sampler's packed copy of a network with an adapter, in f32.
fn planned_copy(config: &BackboneConfig, dtype: BaseDtype) -> u64 {
    planned_for_sampling(config, dtype, Ranks::default())
}

/// Returns the bytes that `demask plan` counts for the weights that these ranks sample with, with an adapter, in f32.
fn planned_for_sampling(config: &BackboneConfig, dtype: BaseDtype, ranks: Ranks) -> u64 {
    let adapter = lora(dtype, false);
    let plan = TrainingPlan {
        config,
        number: 4,
        lora: Some(&adapter),
        muon: false,
        moments: MomentKind::F32,
        offload: false,
        ranks,
        average: false,
        recomputed: false,
        kernels: true,
        threads: 1,
        rows: 4,
        length: 32,
        masked: 64,
        logits_at_once: LOGITS_AT_ONCE,
        reference: false,
        put_back: false,
        sampled: 64,
        samplers: 0,
        image_tokenizer: None,
    };
    let parts = plan.parts();
    let copy = parts.iter().find(|part| part.part == "weights for sampling");
    copy.map_or(0, |part| part.bytes)
}

/// A sampler's copy is dequantized, so it takes the bytes of the network in full. One of more than 1 GiB is not made,
/// and then only the head's is.
#[test]
fn a_samplers_copy_is_planned_in_full_or_without_the_blocks() {
    let small = crate::common::config();
    let large = BackboneConfig {
        d_model: 4096,
        mlp_hidden_size: Some(12_288),
        ..crate::common::config()
    };
    let full = |config: &BackboneConfig| FrozenBase::default().backbone_bytes(config, 4).unwrap();
    let blocks = 2 * 4 * memory::block_numbers(&large).unwrap();
    assert!(full(&large) > MOST_PACKED);
    for (dtype, _) in FORMS {
        assert_eq!(planned_copy(&small, dtype), full(&small), "{dtype:?}");
        assert_eq!(planned_copy(&large, dtype), full(&large) - blocks, "{dtype:?}");
    }
    assert_eq!(planned_copy(&small, BaseDtype::Auto), full(&small));
    assert_eq!(planned_copy(&large, BaseDtype::Auto), 0);
    // Rank 0 of a world that divides the weights gathers all of them to sample, and packs its copy besides.
    let divided = Ranks {
        count: 2,
        shard: Shard::Weights,
    };
    let both = planned_for_sampling(&small, BaseDtype::Auto, divided);
    assert_eq!(both, 2 * full(&small));
    let gathered = planned_for_sampling(&large, BaseDtype::Auto, divided);
    assert_eq!(gathered, full(&large), "no copy is made of so many");
}

/// An adapter whose `quantization_config.json` asks for an unsupported format is refused, whichever way it
/// is loaded.
#[test]
fn a_format_that_is_not_computed_here_is_named() {
    let (place, dir) = base();
    let saved = place.path().join("adapter");
    let model = adapted(&dir, lora(BaseDtype::Int8, false));
    model.save(&saved, &BTreeMap::new(), false).unwrap();
    std::fs::remove_file(saved.join("manifest.json")).unwrap();
    let strange = r#"{"load_in_4bit": true, "bnb_4bit_quant_type": "fp4"}"#;
    std::fs::write(saved.join("quantization_config.json"), strange).unwrap();
    for (folder, options) in [
        (&saved, LoadOptions::sampling()),
        (
            &dir,
            LoadOptions {
                adapter: Some(saved.clone()),
                ..LoadOptions::sampling()
            },
        ),
    ] {
        let message = open(folder, false, &options).map(|_| ()).unwrap_err();
        assert!(
            message.contains("quantization_config.json") && message.contains("nf4"),
            "{message}"
        );
    }
}
