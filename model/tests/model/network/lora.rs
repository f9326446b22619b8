//! Low-rank adapters. A fresh adapter leaves the base's outputs unchanged. Only A and B are trained, with
//! gradients that match finite differences. An adapter saved in PEFT's layout loads again, and a merged model
//! computes the same. A sampler on a CPU samples through an adapter as from the merged model, and follows its training.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::common::rows::{draw, row};
use crate::common::{numbers, ragged, settings};
use demask_api::{
    EstimatorConfig, LoadOptions, LoraConfig, ObjectiveConfig, Purpose, Sample, SampleRequest, Sampler,
    StepSettings, TextCache, TextSampler,
};
use demask_model::device::kernels::kernel_set::KernelSet;
use demask_model::engine::checkpoint::LoadedModel;
use demask_model::network::attention_mask::AttentionMask;
use demask_model::training::interlude::{Interlude, Uninterrupted};
use demask_model::training::loss::{LossRow, backward_chunks, gather};
use demask_model::training::optimizer::AdamW;
use demask_model::weights::safetensors;
use demask_model::{Backbone, ModelError, Result, policy, training};
use tch::{Device, Kind, Tensor};

const ROW: &str = "base_model.model.model.transformer.blocks";

fn lora() -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        seed: 4,
        ..LoraConfig::default()
    }
}

fn on(modules: &[&str]) -> LoraConfig {
    LoraConfig {
        target_modules: modules.iter().map(|&module| module.to_owned()).collect(),
        ..lora()
    }
}

/// Saves a base model to a temporary folder.
pub(super) fn base() -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("base");
    let (backbone, optimizer) = crate::common::learner(3);
    let model = LoadedModel {
        backbone,
        optimizer,
        tokenizer: None,
    };
    model.save(&dir, &BTreeMap::new(), false).unwrap();
    (place, dir)
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

fn train(model: &mut LoadedModel, steps: u64) {
    for seed in 0..steps {
        let report = training::train(
            &mut model.backbone,
            &mut model.optimizer,
            &[ragged()],
            &settings(seed),
        );
        assert!(report.unwrap().finite);
    }
}

fn logits(backbone: &Backbone) -> Vec<f64> {
    let ids = Tensor::arange(9, (Kind::Int64, Device::Cpu)).view([1, 9]);
    tch::no_grad(|| {
        let hidden = backbone.hidden(&ids, &AttentionMask::None).unwrap();
        numbers(&backbone.head(&hidden, None).unwrap())
    })
}

fn named(tensors: BTreeMap<String, Tensor>) -> Vec<(String, Vec<f64>)> {
    tensors
        .into_iter()
        .map(|(name, tensor)| (name, numbers(&tensor)))
        .collect()
}

fn far(one: &[f64], other: &[f64]) -> f64 {
    let gaps = one.iter().zip(other).map(|(a, b)| (a - b).abs());
    gaps.fold(0.0, f64::max)
}

#[test]
fn an_adapter_begins_as_the_base_bit_for_bit() {
    let (_place, dir) = base();
    for kind in [Kind::Float, Kind::BFloat16] {
        let options = LoadOptions {
            lora: Some(lora()),
            ..LoadOptions::default()
        };
        let model = LoadedModel::load_with(&dir, false, &options, Device::Cpu, kind).unwrap();
        let plain = Backbone::load(&dir, Device::Cpu, kind).unwrap();
        assert_eq!(logits(&model.backbone), logits(&plain), "{kind:?}");
    }
}

#[test]
fn a_and_b_alone_are_trained() {
    let (_place, dir) = base();
    let mut model = adapted(&dir, on(&["q_proj", "up_proj"]));
    // Two targets in each of two layers: A is 3 x 16, B is 16 x 3 for one target and 24 x 3 for the other.
    assert_eq!(model.backbone.trained().count(), 2 * (2 * 48 + 48 + 72));
    let before = named(model.backbone.parameters().named().unwrap());
    let start = logits(&model.backbone);
    train(&mut model, 3);
    assert_eq!(named(model.backbone.parameters().named().unwrap()), before);
    assert!(far(&logits(&model.backbone), &start) > 1e-3);
    let state = model.optimizer.state("o").unwrap();
    assert_eq!(state["o.first"].numel() as u64, model.backbone.trained().count());
}

/// Returns the loss of a row through the adapted network, and leaves its gradient in the leaves.
fn loss(backbone: &Backbone) -> f64 {
    let row = LossRow {
        ids: vec![
            1,
            2,
            3,
            crate::common::MASK,
            5,
            crate::common::MASK,
            crate::common::MASK,
        ],
        left_pad: 0,
        targets: vec![(3, 4, 0.5), (5, 6, 0.25), (6, 7, 0.25)],
    };
    let gathered = gather(backbone, &[row]).unwrap();
    let weighted = |logp: &Tensor| -(logp * &gathered.weights_N).sum(Kind::Float);
    backward_chunks(backbone, &gathered, |logp, _, _| Ok(weighted(logp))).unwrap()
}

/// The gradients of A and B equal central differences along a fixed direction, for every kind of target
/// module. B is trained first, because the gradient of A is zero while B is zero.
#[test]
fn gradients_are_those_of_finite_differences() {
    let (_place, dir) = base();
    for config in [lora(), on(&["k_proj"]), on(&["ff_proj", "ff_out"])] {
        let mut model = adapted(&dir, config);
        train(&mut model, 3); // B is no longer zero after these steps.
        let backbone = &mut model.backbone;
        let mut optimizer = AdamW::new(backbone.trained()).unwrap();
        loss(backbone);
        optimizer.accumulate(backbone.trained_mut()).unwrap();
        let grads = optimizer.named_grads(backbone.trained()).unwrap();
        for (name, gradient) in grads {
            let mut value = backbone.trained().value(&name).unwrap();
            let start = value.copy();
            let direction = (Tensor::arange(value.numel() as i64, (Kind::Float, Device::Cpu)) * 1.7)
                .cos()
                .view(&value.size()[..]);
            let step = 2e-2;
            let mut at = |sign: f64| {
                value.copy_(&(&start + &direction * (sign * step)));
                backbone.trained().refresh().unwrap();
                let found = loss(backbone);
                backbone.trained_mut().clear_grads();
                found
            };
            let found = (at(1.0) - at(-1.0)) / (2.0 * step);
            at(0.0);
            let expected = (&gradient * &direction).sum(Kind::Double).double_value(&[]);
            assert!(
                (found - expected).abs() <= 2e-2 * expected.abs().max(2e-2),
                "{name}: {found} by differences, {expected} by the gradient"
            );
        }
    }
}

/// A saved adapter resumes bit for bit, including its dropout and optimizer state, and the base is not
/// copied into its checkpoint.
#[test]
fn l8_what_is_saved_goes_on_bit_for_bit() {
    let (place, dir) = base();
    let config = LoraConfig {
        dropout: 0.3,
        ..lora()
    };
    let mut model = adapted(&dir, config);
    train(&mut model, 2);
    let saved = place.path().join("step-2");
    model.save(&saved, &BTreeMap::new(), true).unwrap();
    assert!(
        !saved.join("model.safetensors").exists(),
        "the base is not copied"
    );
    let mut back = open(&saved, true, &LoadOptions::default()).unwrap();
    assert_eq!(logits(&back.backbone), logits(&model.backbone));
    assert_eq!(back.optimizer.step_count(), 2);
    train(&mut model, 2);
    train(&mut back, 2);
    let values = |model: &LoadedModel| named(model.backbone.trained().named().unwrap());
    assert_eq!(values(&back), values(&model));
    // Loaded for sampling, the model has nothing to train.
    let sampling = open(&saved, false, &LoadOptions::sampling()).unwrap();
    assert!(sampling.backbone.trained().trainable().is_err());
}

#[test]
fn the_files_are_pefts() {
    let (place, dir) = base();
    let saved = place.path().join("adapter");
    let model = adapted(&dir, on(&["q_proj", "ff_out"]));
    model.save(&saved, &BTreeMap::new(), false).unwrap();
    let text = std::fs::read_to_string(saved.join("adapter_config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(config["peft_type"], "LORA");
    assert_eq!((&config["r"], &config["lora_alpha"]), (&3.into(), &6.0.into()));
    assert_eq!(config["target_modules"], serde_json::json!(["q_proj", "ff_out"]));
    assert_eq!(
        config["exclude_modules"],
        serde_json::json!(["transformer.ff_out"])
    );
    assert_eq!(config["base_model_name_or_path"], dir.display().to_string());
    let tensors = safetensors::read(&saved.join("adapter_model.safetensors")).unwrap();
    assert_eq!(tensors.len(), 8);
    let shape = |name: &str| tensors[&format!("{ROW}.{name}.weight")].size();
    assert_eq!(shape("0.q_proj.lora_A"), [3, 16]);
    assert_eq!(shape("0.q_proj.lora_B"), [16, 3]);
    assert_eq!(shape("1.ff_out.lora_A"), [3, 24]);
    assert_eq!(shape("1.ff_out.lora_B"), [16, 3]);
}

/// Merging gives base + scale * B A. The test computes the product from the saved files alone.
#[test]
fn what_is_merged_computes_the_same() {
    let (place, dir) = base();
    for stabilized in [false, true] {
        let config = LoraConfig {
            rank_stabilized: stabilized,
            ..lora()
        };
        let mut model = adapted(&dir, config);
        train(&mut model, 3);
        let saved = place.path().join(format!("adapter-{stabilized}"));
        model.save(&saved, &BTreeMap::new(), false).unwrap();
        let a_b = safetensors::read(&saved.join("adapter_model.safetensors")).unwrap();
        let scale = if stabilized { 6.0 / 3f64.sqrt() } else { 2.0 };
        let plain = safetensors::read(&dir.join("model.safetensors")).unwrap();
        for purpose in [Purpose::Train, Purpose::Sample] {
            let options = LoadOptions {
                purpose,
                adapter: Some(saved.clone()),
                merge: true,
                ..LoadOptions::default()
            };
            let merged = open(&dir, false, &options).unwrap();
            assert!(far(&logits(&merged.backbone), &logits(&model.backbone)) < 1e-5);
            let out = place.path().join(format!("merged-{stabilized}-{purpose:?}"));
            merged.save(&out, &BTreeMap::new(), false).unwrap();
            for (name, found) in safetensors::read(&out.join("model.safetensors")).unwrap() {
                let module = format!("base_model.model.{}", name.trim_end_matches(".weight"));
                let mut expected = plain[&name].copy();
                if let Some(a) = a_b.get(&format!("{module}.lora_A.weight")) {
                    expected += a_b[&format!("{module}.lora_B.weight")].matmul(a) * scale;
                }
                assert!(far(&numbers(&found), &numbers(&expected)) < 1e-6, "{name}");
            }
        }
    }
}

fn requests() -> Vec<SampleRequest> {
    let caches = [
        TextCache::None,
        TextCache::Dual {
            refresh: 2,
            vicinity: 1,
        },
    ];
    let request = |id: usize| {
        let sampler = Sampler::Text(TextSampler {
            steps: 12,
            block: 4,
            cache: caches[id % 2],
            ..TextSampler::default()
        });
        row(id as u64, id % 3, 3 + id, 12, &sampler)
    };
    (0..4).map(request).collect()
}

/// Returns what a sampler has drawn and how sure it was, which shows every bit of the logits.
pub(super) fn drawn(backbone: &Backbone) -> Vec<(Vec<u32>, Vec<f32>)> {
    let samples = draw(backbone, &requests()).into_iter();
    samples
        .map(|Sample { ids, confidence, .. }| (ids, confidence))
        .collect()
}

/// A sampler packs an adapter's merged weights, with the numbers of the merged model, on disk or not.
#[test]
fn a_sample_through_an_adapter_is_one_of_the_merged_model_bit_for_bit() {
    let (place, dir) = base();
    let mut model = adapted(&dir, on(&["q_proj", "v_proj", "attn_out", "ff_proj", "ff_out"]));
    train(&mut model, 3);
    let saved = place.path().join("adapter");
    model.save(&saved, &BTreeMap::new(), false).unwrap();
    if KernelSet::chosen().is_none() {
        println!("skipped: nothing packs weights here");
        return;
    }
    let load = |dir: &Path, adapter: Option<PathBuf>, merge: bool| {
        let options = LoadOptions {
            adapter,
            merge,
            ..LoadOptions::sampling()
        };
        LoadedModel::load_with(dir, false, &options, Device::Cpu, Kind::Float).unwrap()
    };
    let beside = drawn(&load(&dir, Some(saved.clone()), false).backbone);
    let merged = load(&dir, Some(saved.clone()), true);
    assert_eq!(beside, drawn(&merged.backbone));
    let out = place.path().join("merged");
    merged.save(&out, &BTreeMap::new(), false).unwrap();
    assert_eq!(beside, drawn(&load(&out, None, false).backbone));
    assert_ne!(beside, drawn(&load(&dir, None, false).backbone));
    // One that is trained on has f32 masters of A and B, and is sampled with the same numbers.
    let options = LoadOptions {
        adapter: Some(saved.clone()),
        ..LoadOptions::default()
    };
    let trained = LoadedModel::load_with(&dir, false, &options, Device::Cpu, Kind::Float).unwrap();
    assert_eq!(beside, drawn(&trained.backbone));
}

/// The packed weights are made again after a step of the adapter, also those that a twin has.
#[test]
fn a_sampler_meets_the_adapter_as_it_is() {
    let (_place, dir) = base();
    let mut model = adapted(&dir, lora());
    let before = drawn(&model.backbone);
    let twin = model.backbone.twin().unwrap();
    let reference = model.backbone.frozen_copy().unwrap();
    let settings = StepSettings {
        learning_rate: 0.3,
        ..settings(1)
    };
    training::train(&mut model.backbone, &mut model.optimizer, &[ragged()], &settings).unwrap();
    let after = drawn(&model.backbone);
    assert_ne!(before, after, "the step changed something");
    assert_eq!(drawn(&twin), after);
    assert_eq!(drawn(&reference), before);
    let fresh = adapted(&dir, lora());
    fresh
        .backbone
        .trained()
        .set(model.backbone.trained().master())
        .unwrap();
    assert_eq!(drawn(&fresh.backbone), after);
    // Merged in place, the adapter is not there twice.
    model.backbone.merge().unwrap();
    assert_eq!(drawn(&model.backbone), after);
}

/// Law L7 with dropout: a policy step scores with the network that sampled, without dropout, and changes the
/// adapter alone.
#[test]
fn l7_a_policy_step_moves_the_adapter_alone() {
    let (_place, dir) = base();
    let config = LoraConfig {
        dropout: 0.5,
        ..lora()
    };
    let mut model = adapted(&dir, config);
    train(&mut model, 2);
    let before = named(model.backbone.parameters().named().unwrap());
    let start = logits(&model.backbone);
    let reference = model.backbone.frozen_copy().unwrap();
    let report = policy::train(
        &mut model.backbone,
        &mut model.optimizer,
        Some(&reference),
        &[crate::common::group(&[1.0, -1.0, 0.5, -0.5, 0.0])],
        &EstimatorConfig::default(),
        &ObjectiveConfig::default(),
        &settings(5),
    )
    .unwrap();
    assert!(report.finite);
    assert!((report.ratio[0] - 1.0).abs() < 1e-6, "{:?}", report.ratio);
    assert!(report.kl[0].abs() < 1e-6, "{:?}", report.kl);
    assert_eq!(named(model.backbone.parameters().named().unwrap()), before);
    assert_ne!(logits(&model.backbone), start);
}

#[test]
fn a_reference_policy_stays_when_the_adapter_moves() {
    let (_place, dir) = base();
    let mut model = adapted(&dir, lora());
    train(&mut model, 1);
    let reference = model.backbone.frozen_copy().unwrap();
    let before = logits(&reference);
    assert_eq!(before, logits(&model.backbone));
    train(&mut model, 1);
    assert_eq!(logits(&reference), before);
    assert_ne!(logits(&model.backbone), before);
}

#[test]
fn dropout_acts_in_training_alone_and_the_same_each_time() {
    let (_place, dir) = base();
    let after = |dropout: f64, seed: u64| {
        let config = LoraConfig { dropout, ..lora() };
        let mut model = adapted(&dir, config);
        train(&mut model, 1);
        let settings = StepSettings {
            learning_rate: 0.05,
            ..settings(seed)
        };
        training::train(&mut model.backbone, &mut model.optimizer, &[ragged()], &settings).unwrap();
        let twice = [logits(&model.backbone), logits(&model.backbone)];
        assert_eq!(twice[0], twice[1], "none in sampling");
        twice[0].clone()
    };
    assert_eq!(after(0.5, 9), after(0.5, 9));
    assert_ne!(after(0.5, 9), after(0.0, 9));
}

/// Counts its calls, and asks at every pause of a step.
struct Curious(usize);

impl Interlude for Curious {
    fn is_wanted(&mut self) -> bool {
        true
    }

    fn take(&mut self, begun_with: &Backbone) -> Result<()> {
        self.0 += 1;
        begun_with.twin().map(drop)
    }

    fn give_up(&mut self, error: ModelError) -> Result<()> {
        Err(error)
    }
}

/// Requests that are served during a training step do not change the step's dropout masks.
#[test]
fn l8_dropout_is_the_same_whoever_asks_in_the_middle_of_a_step() {
    let (_place, dir) = base();
    let after = |interlude: &mut dyn Interlude| {
        let config = LoraConfig {
            dropout: 0.5,
            ..lora()
        };
        let mut model = adapted(&dir, config);
        train(&mut model, 1);
        let batches = [ragged(), ragged(), ragged()];
        training::train_with(
            &mut model.backbone,
            &mut model.optimizer,
            &batches,
            &settings(9),
            interlude,
        )
        .unwrap();
        logits(&model.backbone)
    };
    let mut curious = Curious(0);
    assert_eq!(after(&mut curious), after(&mut Uninterrupted));
    assert!(curious.0 > 1, "nobody asked");
}

/// Invalid adapter settings, adapters of unsupported PEFT variants, and adapters that do not fit the base
/// are refused with the setting or tensor at fault.
#[test]
fn what_makes_no_adapter_is_refused() {
    let (place, dir) = base();
    let says = |options: LoadOptions, words: &str| {
        let message = open(&dir, false, &options).map(|_| ()).unwrap_err();
        assert!(message.contains(words), "{message} lacks {words}");
    };
    let fresh = |config: LoraConfig| LoadOptions {
        lora: Some(config),
        ..LoadOptions::default()
    };
    says(fresh(LoraConfig { rank: 0, ..lora() }), "rank is 0");
    says(
        fresh(LoraConfig {
            dropout: 1.0,
            ..lora()
        }),
        "dropout is 1",
    );
    says(
        fresh(on(&["o_proj"])),
        "target module \"o_proj\", expected one of q_proj",
    );
    says(fresh(on(&[])), "target_modules is empty");
    let merge = LoadOptions {
        merge: true,
        ..LoadOptions::default()
    };
    says(merge, "no adapter to merge");
    let saved = place.path().join("adapter");
    adapted(&dir, lora())
        .save(&saved, &BTreeMap::new(), false)
        .unwrap();
    let with = || LoadOptions {
        adapter: Some(saved.clone()),
        ..LoadOptions::default()
    };
    open(&dir, false, &with()).unwrap();
    std::fs::remove_file(saved.join("manifest.json")).unwrap();
    let file = saved.join("adapter_config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    for (field, old, new) in [
        ("use_dora", "false", "true"),
        ("bias", "\"none\"", "\"all\""),
        ("init_lora_weights", "true", "\"pissa\""),
        ("rank_pattern", "{}", "{\"q_proj\": 2}"),
        ("lora_dropout", "0.0", "1.5"),
    ] {
        let changed = text.replace(&format!("\"{field}\": {old}"), &format!("\"{field}\": {new}"));
        assert_ne!(changed, text, "{field}");
        std::fs::write(&file, changed).unwrap();
        says(with(), field);
    }
    std::fs::write(&file, text.replace("\"r\": 3", "\"r\": 4")).unwrap();
    says(with(), "lora_A.weight has shape [3, 16], expected [4, 16]");
    std::fs::write(&file, &text).unwrap();
    // A missing base folder is named in the error.
    std::fs::rename(&dir, place.path().join("elsewhere")).unwrap();
    let message = open(&saved, false, &LoadOptions::default())
        .map(|_| ())
        .unwrap_err();
    assert!(
        message.contains("no such folder") && message.contains("base"),
        "{message}"
    );
}

/// An adapter made elsewhere names its base by a name that does not exist here. After it is loaded on a local
/// base, its checkpoint names that local folder and resumes from it.
#[test]
fn l1_what_others_made_is_resumed_from_where_it_stood() {
    let (place, dir) = base();
    let theirs = place.path().join("theirs");
    adapted(&dir, lora())
        .save(&theirs, &BTreeMap::new(), false)
        .unwrap();
    std::fs::remove_file(theirs.join("manifest.json")).unwrap();
    let file = theirs.join("adapter_config.json");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(dir.to_str().unwrap(), "somebody/base")).unwrap();
    let options = LoadOptions {
        adapter: Some(theirs.clone()),
        ..LoadOptions::default()
    };
    let mut model = open(&dir, false, &options).unwrap();
    train(&mut model, 1);
    let saved = place.path().join("step-1");
    model.save(&saved, &BTreeMap::new(), true).unwrap();
    let back = open(&saved, true, &LoadOptions::default()).unwrap();
    assert_eq!(logits(&back.backbone), logits(&model.backbone));
    // Loaded alone, the adapter names a folder that does not exist.
    let message = open(&theirs, false, &LoadOptions::default())
        .map(|_| ())
        .unwrap_err();
    assert!(
        message.contains("somebody/base, but there is no such folder"),
        "{message}"
    );
}

/// An adapter for modules or layers that the base lacks is refused by name, and the message says how many
/// more there are.
#[test]
fn modules_that_the_base_does_not_have_are_named() {
    let (place, dir) = base();
    let saved = place.path().join("adapter");
    adapted(&dir, lora())
        .save(&saved, &BTreeMap::new(), false)
        .unwrap();
    std::fs::remove_file(saved.join("manifest.json")).unwrap();
    let file = saved.join("adapter_model.safetensors");
    let tensors = safetensors::read(&file).unwrap();
    let says = |from: &str, to: &str, words: &str| {
        let renamed = tensors
            .iter()
            .map(|(name, tensor)| (name.replace(from, to), tensor.shallow_clone()))
            .collect();
        safetensors::write(&file, &renamed, None).unwrap();
        let options = LoadOptions {
            adapter: Some(saved.clone()),
            ..LoadOptions::default()
        };
        let message = open(&dir, false, &options).map(|_| ()).unwrap_err();
        assert!(message.contains(words), "{message} lacks {words}");
    };
    says(
        "blocks.1.q_proj",
        "blocks.1.o_proj",
        "adapts model.transformer.blocks.1.o_proj, which",
    );
    says(
        "blocks.1.",
        "blocks.2.",
        "and 6 more, which the base does not have",
    );
    says(
        "lora_",
        "ia3_",
        "it contains no adapted module, expected modules of model.transformer.blocks.0 to .1: q_proj",
    );
}
