//! Asserts that a GPU computes what the CPU computes: forward passes, gradients, every sampler and cache, and
//! image codes. A result must not depend on what else is in the batch (law L8), nor on the stepping mode.
//! Without a GPU the tests print that they were skipped (`common/device.rs`).
//!
//! In f32, numbers agree to 1e-4 of the largest magnitude and tokens are equal. In bf16, numbers agree to
//! [`HALF`].
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use common::device::{CPU, Tested, tested};
use common::rows::{draw, one, row, sharp};
use common::{EOS, MASK, config, numbers, ragged, settings};
use demask_api::{
    Adam, Attention, BackboneConfig, BaseDtype, Commit, Credit, End, EstimatorConfig, FeatureCache,
    FrozenBase, ImageMethod, ImageSampler, LoraConfig, MomentKind, ObjectiveConfig, Picture, Purpose,
    Remasking, Sample, SampleRequest, Sampler, Spacing, StepSettings, TextCache, TextSampler, UniGrpo,
};
use demask_model::device::cuda::graph::CudaGraph;
use demask_model::image_tokenizer::ImageTokenizer;
use demask_model::network::lora::Lora;
use demask_model::sampler::{Batch, Limits, Stepping};
use demask_model::training::optimizer::AdamW;
use demask_model::{AttentionMask, Backbone, policy, training};
use tch::{Device, Kind, Tensor};

/// Tolerance in f32, relative to the largest magnitude.
const EXACT: f64 = 1e-4;
/// Tolerance in bf16, relative to the L2 norm of all numbers together.
const HALF: f64 = 5e-2;

/// Returns a configuration with a head dimension of 64, as published models have, and rows longer than one
/// tile of an attention kernel.
fn wide() -> BackboneConfig {
    BackboneConfig {
        d_model: 128,
        mlp_hidden_size: Some(192),
        max_sequence_length: 256,
        ..config()
    }
}

/// Returns the largest absolute difference, divided by the largest expected magnitude.
fn worst(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    let away = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    assert!(found.iter().all(|value| value.is_finite()));
    away.fold(0.0, f64::max) / largest.max(1e-9)
}

/// Returns the L2 norm of the difference, divided by the L2 norm of `expected`.
fn apart(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let length =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let away = length(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    assert!(away.is_finite());
    away / length(&mut expected.iter().copied()).max(1e-9)
}

/// Returns the logits of the unpadded positions of a batch whose rows have `pads` tokens of left padding.
fn logits(backbone: &Backbone, pads: &[usize], length: usize) -> Vec<f64> {
    let mut numbers_of = Vec::new();
    tch::no_grad(|| {
        let token = |at: usize| (at * 7 % 10) as i64;
        let ids: Vec<i64> = (0..pads.len() * length).map(token).collect();
        let shape = [pads.len() as i64, length as i64];
        let ids = Tensor::from_slice(&ids).view(shape).to_device(backbone.device());
        let mask = AttentionMask::from_left_pads(pads, length).unwrap();
        let hidden = backbone.hidden(&ids, &mask).unwrap();
        let logits = backbone.head(&hidden, None).unwrap().to_device(Device::Cpu);
        for (row, &pad) in pads.iter().enumerate() {
            let real = logits
                .get(row as i64)
                .narrow(0, pad as i64, (length - pad) as i64);
            numbers_of.extend(numbers(&real));
        }
    });
    numbers_of
}

/// Logits agree with the CPU's for three configurations, with and without padding, from one token to the
/// longest row.
#[test]
fn a_forward_pass_is_the_cpus() {
    let Some(tested) = tested() else { return };
    let normed = BackboneConfig {
        attention_layer_norm: true,
        include_qkv_bias: Some(true),
        n_kv_heads: None,
        ..wide()
    };
    for config in [config(), wide(), normed] {
        let longest = config.max_sequence_length;
        for (pads, length) in [
            (vec![0], 1),
            (vec![0, 0], 17),
            (vec![0, 5, 2], 24),
            (vec![3, 0], longest),
        ] {
            let on = |place: (Device, Kind)| {
                logits(
                    &Backbone::fresh(&config, 3, place.0, place.1).unwrap(),
                    &pads,
                    length,
                )
            };
            let expected = on(CPU);
            let away = worst(&on(tested.exact()), &expected);
            assert!(away < EXACT, "{away} with {pads:?} of {length}");
            let away = apart(&on(tested.half()), &expected);
            assert!(away < HALF, "bf16: {away} with {pads:?} of {length}");
        }
    }
}

/// Losses, the gradient norm, and the gradient of each parameter.
struct Learnt {
    losses: Vec<f64>,
    norm: f64,
    gradient: BTreeMap<String, Vec<f64>>,
}

/// Returns the gradients by parameter name, up to a constant factor: after one step Adam's first moment is
/// proportional to the gradient, and after two steps to a weighted sum of both gradients.
fn gradient(backbone: &Backbone, optimizer: &AdamW) -> BTreeMap<String, Vec<f64>> {
    let first = &optimizer.state("state").unwrap()["state.first"];
    let named = backbone.trained().named_like(first).unwrap();
    named
        .into_iter()
        .map(|(name, tensor)| (name, numbers(&tensor)))
        .collect()
}

/// Returns settings without clipping, with a learning rate so small that the second step's gradient is close
/// to the first one's.
fn gentle(seed: u64) -> StepSettings {
    StepSettings {
        learning_rate: 1e-5,
        clip_norm: 0.0,
        ..settings(seed)
    }
}

/// Returns the backbone of seed 5. A quantized base is written to a folder and loaded from it, as the base of
/// an adapter is.
fn base(config: &BackboneConfig, (device, kind): (Device, Kind), form: FrozenBase) -> Backbone {
    if !form.is_quantized() {
        return Backbone::fresh(config, 5, device, kind).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = Backbone::fresh(config, 5, Device::Cpu, Kind::Float).unwrap();
    common::shards::write(folder.path(), config, &whole.parameters().named().unwrap(), 1);
    Backbone::load_frozen(folder.path(), (device, kind), form, None).unwrap()
}

fn trained(config: &BackboneConfig, (device, kind): (Device, Kind), lora: Option<&LoraConfig>) -> Learnt {
    let form = lora.map_or_else(FrozenBase::default, LoraConfig::frozen_base);
    let mut backbone = base(config, (device, kind), form);
    if let Some(lora) = lora {
        let adapter = Lora::fresh(lora, config, Path::new("base"), (device, kind), Purpose::Train);
        backbone = backbone.adapted(adapter.unwrap());
    }
    let mut optimizer = AdamW::new(backbone.trained()).unwrap();
    let mut losses = Vec::new();
    let mut norm = 0.0;
    // B is zero at an adapter's first step and therefore so is the gradient of A, so an adapter takes a
    // second step.
    for step in 0..1 + u64::from(lora.is_some()) {
        let report = training::train(
            &mut backbone,
            &mut optimizer,
            &[ragged(), ragged()],
            &gentle(step),
        );
        let report = report.unwrap();
        assert!(report.finite);
        losses.push(report.loss);
        norm = report.grad_norm;
    }
    let gradient = gradient(&backbone, &optimizer);
    Learnt {
        losses,
        norm,
        gradient,
    }
}

fn aligned(config: &BackboneConfig, (device, kind): (Device, Kind)) -> Learnt {
    let mut backbone = Backbone::fresh(config, 5, device, kind).unwrap();
    let reference = Backbone::fresh(config, 6, device, kind).unwrap();
    let mut optimizer = AdamW::new(backbone.trained()).unwrap();
    let groups = [common::group(&[1.0, -0.5, 0.0, 0.5, -1.0])];
    let estimator = EstimatorConfig::from(UniGrpo {
        spacing: Spacing::Cyclic,
    });
    let objective = ObjectiveConfig {
        inner_steps: 1,
        ..ObjectiveConfig::default()
    };
    let report = policy::train(
        &mut backbone,
        &mut optimizer,
        Some(&reference),
        &groups,
        &estimator,
        &objective,
        &gentle(9),
    );
    let gradient = gradient(&backbone, &optimizer);
    Learnt {
        losses: report.unwrap().losses,
        norm: 0.0,
        gradient,
    }
}

fn same_lesson(tested: &Tested, lesson: &dyn Fn((Device, Kind)) -> Learnt) {
    let expected = lesson(CPU);
    let close = |found: &Learnt, tolerance: f64| {
        for (a, b) in found.losses.iter().zip(&expected.losses) {
            assert!((a - b).abs() < tolerance * b.abs().max(1.0), "losses {a} and {b}");
        }
        let (a, b) = (found.norm, expected.norm);
        assert!((a - b).abs() <= tolerance * b, "norms {a} and {b}");
        assert!(found.gradient.keys().eq(expected.gradient.keys()));
    };
    let found = lesson(tested.exact());
    close(&found, EXACT);
    let flat = |learnt: &Learnt| learnt.gradient.values().flatten().copied().collect::<Vec<f64>>();
    let largest = flat(&expected)
        .into_iter()
        .fold(0.0f64, |most, value| most.max(value.abs()));
    for (name, expected) in &expected.gradient {
        let found = &found.gradient[name];
        let away = found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        let own = expected.iter().fold(0.0f64, |most, value| most.max(value.abs()));
        // A tensor whose gradient is close to zero is compared relative to the largest gradient of all
        // tensors.
        assert!(away <= EXACT * own.max(1e-2 * largest), "{name}: {away} of {own}");
    }
    let half = lesson(tested.half());
    close(&half, HALF);
    let away = apart(&flat(&half), &flat(&expected));
    assert!(away < HALF, "bf16 gradients: {away}");
}

#[test]
fn a_training_step_has_the_cpus_loss_and_gradient() {
    let Some(tested) = tested() else { return };
    for config in [config(), wide()] {
        same_lesson(&tested, &|place| trained(&config, place, None));
    }
}

#[test]
fn an_adapter_learns_what_it_learns_on_the_cpu() {
    let Some(tested) = tested() else { return };
    let lora = LoraConfig::default();
    same_lesson(&tested, &|place| trained(&wide(), place, Some(&lora)));
}

#[test]
fn so_does_one_over_a_quantised_base() {
    let Some(tested) = tested() else { return };
    for (base, double_quantization) in [
        (BaseDtype::Int8, false),
        (BaseDtype::Nf4, false),
        (BaseDtype::Nf4, true),
    ] {
        let lora = LoraConfig {
            base,
            double_quantization,
            ..LoraConfig::default()
        };
        same_lesson(&tested, &|place| trained(&wide(), place, Some(&lora)));
    }
}

/// Moments that are offloaded to host memory give the same bits as moments that stay on the device.
#[test]
fn l8_moments_in_host_memory_come_to_the_same_bits() {
    let Some(tested) = tested() else { return };
    for (moments, muon) in [
        (MomentKind::F32, false),
        (MomentKind::Bf16, false),
        (MomentKind::F32, true),
    ] {
        let learnt = |offload| {
            let mut backbone = Backbone::fresh(&wide(), 5, tested.device, Kind::BFloat16).unwrap();
            let mut optimizer = AdamW::new(backbone.trained()).unwrap();
            for seed in 0..4 {
                let adam = Adam {
                    moments,
                    muon,
                    offload,
                    ..Adam::default()
                };
                let settings = StepSettings {
                    adam,
                    ema: 0.9,
                    ..settings(seed)
                };
                training::train(&mut backbone, &mut optimizer, &[ragged()], &settings).unwrap();
            }
            let state = optimizer.state("o").unwrap();
            let home = state["o.first"].device();
            assert_eq!(home, if offload { Device::Cpu } else { tested.device });
            common::state(backbone.parameters(), &optimizer)
        };
        assert!(learnt(true) == learnt(false), "{moments:?}, muon {muon}");
    }
}

#[test]
fn a_policy_step_has_the_cpus_loss_and_gradient() {
    let Some(tested) = tested() else { return };
    same_lesson(&tested, &|place| aligned(&wide(), place));
}

/// The same seed gives the same bits, unless `DEMASK_DETERMINISTIC=0` allows a GPU to use nondeterministic
/// kernels. The comparison is then to [`EXACT`].
#[test]
fn l8_the_same_seed_gives_the_same_bits() {
    let Some(tested) = tested() else { return };
    let strict = std::env::var("DEMASK_DETERMINISTIC").map_or(true, |value| value.trim() != "0");
    for place in [tested.exact(), tested.half()] {
        let [a, b] = [(); 2].map(|()| trained(&wide(), place, None));
        for (name, a) in &a.gradient {
            let b = &b.gradient[name];
            let away = worst(a, b);
            assert!(if strict { a == b } else { away < EXACT }, "{name}: {away}");
        }
        let backbone = sharp(&config(), 3, place);
        let requests = &every_sampler()[..8];
        let [a, b] = [(); 2].map(|()| draw(&backbone, requests));
        assert!(a.iter().zip(&b).all(|(a, b)| a.ids == b.ids));
    }
}

const DUAL: TextCache = TextCache::Dual {
    refresh: 1,
    vicinity: 0,
};

fn text(change: impl FnOnce(&mut TextSampler)) -> Sampler {
    let mut sampler = TextSampler {
        steps: 12,
        block: 4,
        ..TextSampler::default()
    };
    change(&mut sampler);
    Sampler::Text(sampler)
}

fn texts() -> Vec<Sampler> {
    let far = TextCache::Dual {
        refresh: 3,
        vicinity: 2,
    };
    let commits = [
        Commit::Schedule,
        Commit::Threshold { threshold: 0.4 },
        Commit::Factor { factor: 0.7 },
        Commit::Hierarchical { high: 0.6, low: 0.2 },
    ];
    let mut all = Vec::new();
    for cache in [TextCache::None, TextCache::Prefix, DUAL, far] {
        for commit in commits {
            all.push(text(|text| (text.cache, text.commit) = (cache, commit)));
        }
        all.push(text(|text| {
            (text.cache, text.credit) = (cache, Some(Credit::default()));
            text.commit = Commit::Threshold { threshold: 0.4 };
        }));
        all.push(text(|text| (text.cache, text.guidance) = (cache, 0.8)));
        all.push(text(|text| (text.cache, text.temperature) = (cache, 0.7)));
        all.push(text(|text| {
            (text.cache, text.horizon, text.end) = (cache, Some(5), End::Token { threshold: 0.2 });
        }));
    }
    for remasking in [Remasking::Margin, Remasking::Entropy, Remasking::Random] {
        all.push(text(|text| (text.remasking, text.end) = (remasking, End::Never)));
    }
    all.push(text(|text| text.quirks.attention = Attention::Additive));
    all
}

fn pictures() -> Vec<Sampler> {
    let picture = |change: &dyn Fn(&mut ImageSampler)| {
        let mut sampler = ImageSampler {
            steps: 5,
            guidance: 0.0,
            ..ImageSampler::default()
        };
        change(&mut sampler);
        Sampler::Image(sampler)
    };
    let cache = FeatureCache {
        interval: 2,
        ratio: 0.4,
        ..FeatureCache::default()
    };
    vec![
        picture(&|_| ()),
        picture(&|picture| picture.guidance = 1.0),
        picture(&|picture| picture.method = ImageMethod::Emerge),
        picture(&|picture| picture.accept = 0.4),
        picture(&|picture| picture.surprise = 0.1),
        picture(&|picture| (picture.cache, picture.guidance) = (Some(cache), 1.0)),
    ]
}

/// Returns one request per sampler, with different lengths and paddings.
fn every_sampler() -> Vec<SampleRequest> {
    let samplers = texts().into_iter().chain(pictures());
    let ragged =
        |(id, sampler): (usize, Sampler)| row(id as u64, id % 4, 1 + id * 5 % 8, 12 - id % 3, &sampler);
    samplers.enumerate().map(ragged).collect()
}

/// Asserts that tokens, commit steps and numbers of forward passes are equal, and that confidences agree to
/// 1e-3.
fn same_samples(found: &[Sample], expected: &[Sample], requests: &[SampleRequest]) {
    assert_eq!(found.len(), expected.len());
    for ((found, expected), request) in found.iter().zip(expected).zip(requests) {
        let sampler = &request.sampler;
        assert_eq!(found.ids, expected.ids, "{sampler:?}");
        assert_eq!(found.commit_step, expected.commit_step, "{sampler:?}");
        assert_eq!(found.forwards, expected.forwards, "{sampler:?}");
        for (a, b) in found.confidence.iter().zip(&expected.confidence) {
            assert!((a - b).abs() < 1e-3, "{a} and {b}: {sampler:?}");
        }
    }
}

#[test]
fn every_sampler_and_cache_gives_the_cpus_tokens() {
    let Some(tested) = tested() else { return };
    let requests = every_sampler();
    for config in [config(), wide()] {
        let expected = draw(&sharp(&config, 3, CPU), &requests);
        let found = draw(&sharp(&config, 3, tested.exact()), &requests);
        same_samples(&found, &expected, &requests);
    }
}

/// Every row of a ragged batch has the tokens that it has alone, also in a batch that is limited to 4 rows
/// and 200 tokens.
#[test]
fn l8_a_row_is_the_same_in_any_company() {
    let Some(tested) = tested() else { return };
    let requests = every_sampler();
    let backbone = sharp(&config(), 3, tested.exact());
    let alone: Vec<Sample> = requests.iter().map(|request| one(&backbone, request)).collect();
    same_samples(&draw(&backbone, &requests), &alone, &requests);
    let limits = Limits { rows: 4, tokens: 200 };
    let mut batch = Batch::new(&backbone, limits);
    same_samples(&run(&mut batch, &requests), &alone, &requests);
}

/// In bf16, rounding may change a token whose probability is close to another's. Tokens that a single forward
/// pass is confident of must not change, and no mask token may be left.
#[test]
fn bf16_samples_what_f32_is_sure_of() {
    let Some(tested) = tested() else { return };
    let (exact, half) = (sharp(&wide(), 3, CPU), sharp(&wide(), 3, tested.half()));
    for sample in draw(&half, &every_sampler()) {
        let start = sample.ids.len() - sample.commit_step.len();
        assert!(!sample.ids[start..].contains(&MASK), "{:?}", sample.ids);
    }
    for cache in [TextCache::None, TextCache::Prefix, DUAL] {
        let once = text(|text| (text.cache, text.steps, text.block, text.end) = (cache, 1, 12, End::Never));
        let requests: Vec<_> = (0..16)
            .map(|id| row(id, id as usize % 4, 2 + id as usize % 7, 12, &once))
            .collect();
        let (expected, found) = (draw(&exact, &requests), draw(&half, &requests));
        let (mut same, mut all) = (0, 0);
        for (expected, found) in expected.iter().zip(&found) {
            let tokens = expected.ids.iter().zip(&found.ids).skip(expected.ids.len() - 12);
            let sure = expected.confidence.iter().zip(&found.confidence);
            for ((a, b), (sure, half)) in tokens.zip(sure) {
                all += 1;
                same += usize::from(a == b);
                assert!(a != b || (sure - half).abs() < HALF as f32, "{sure} and {half}");
            }
        }
        assert!(same * 10 >= all * 9, "{same} of {all} tokens");
    }
}

fn run(batch: &mut Batch<'_>, requests: &[SampleRequest]) -> Vec<Sample> {
    let tickets = batch.submit(requests.to_vec()).unwrap();
    let mut done = Vec::new();
    while !batch.is_empty() {
        done.extend(batch.step(&mut |_, _, _| Ok(())).unwrap());
    }
    done.sort_by_key(|(ticket, _)| *ticket);
    assert!(done.iter().map(|(ticket, _)| *ticket).eq(tickets));
    done.into_iter().map(|(_, sample)| sample).collect()
}

/// The device loop and CUDA graphs give the tokens of host-driven stepping. An answer has three or four
/// blocks, and the last block may be shorter. Requests run one after another in one batch, so that a captured
/// graph is replayed or captured again. Where capture is impossible (always on a CPU), steps run as separate
/// kernel launches.
#[test]
fn a_device_that_steps_by_itself_gives_the_same_tokens() {
    let Some(tested) = tested() else { return };
    for kind in [tested.exact, Kind::BFloat16] {
        let backbone = sharp(&config(), 3, (tested.device, kind));
        let ways = [Stepping::HostDriven, Stepping::DeviceLoop, Stepping::Graph];
        let mut batches = ways.map(|stepping| Batch::new(&backbone, Limits::default()).stepping(stepping));
        for (number, (cache, commit)) in [
            (TextCache::Prefix, Commit::Schedule),
            (DUAL, Commit::Threshold { threshold: 0.4 }),
            (DUAL, Commit::Schedule),
            (TextCache::Prefix, Commit::Threshold { threshold: 0.4 }),
        ]
        .into_iter()
        .enumerate()
        {
            let sampler = text(|text| (text.cache, text.commit, text.end) = (cache, commit, End::Never));
            // Answers as long as the one before, and longer; one row, and two rows at a time.
            for (answer, rows) in [(12, 1), (12, 1), (11, 2), (16, 2)] {
                let id = number as u64 * 4;
                let requests: Vec<_> = (id..id + rows)
                    .map(|id| row(id, 1, 5, answer, &sampler))
                    .collect();
                let [asking, resident, graph] = batches.each_mut().map(|batch| run(batch, &requests));
                for found in [&resident, &graph] {
                    same_samples(found, &asking, &requests);
                }
            }
        }
    }
}

const CAPTURE: &str = "DEMASK_TEST_CAPTURE";

/// A capture that fails is reported, no other capture is tried, and steps go on as separate kernel launches.
/// The capture fails because it reads from the device, which is forbidden during capture. The test runs in a
/// process of its own, because libtorch's allocator may afterwards believe for good that a capture is in
/// progress.
#[test]
fn a_failed_capture_falls_back() {
    if std::env::var_os(CAPTURE).is_none() {
        let Some(tested) = tested() else { return };
        if tested.device == Device::Cpu {
            return println!("skipped: nothing is recorded on a CPU");
        }
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_failed_capture_falls_back", "--nocapture"])
            .env(CAPTURE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout).into_owned();
        let erred = String::from_utf8_lossy(&child.stderr).into_owned();
        return assert!(child.status.success(), "{said}\n{erred}");
    }
    let Some(tested) = tested() else { return };
    let Device::Cuda(number) = tested.device else {
        return;
    };
    let ones = Tensor::ones([4], (Kind::Float, tested.device));
    let recorded = CudaGraph::record(number, || {
        Vec::<f32>::try_from((&ones + 1.0).f_to_device(Device::Cpu)?)?;
        Ok(())
    });
    assert!(recorded.is_err());
    let backbone = sharp(&config(), 3, (tested.device, Kind::BFloat16));
    let sampler = text(|text| (text.cache, text.end) = (TextCache::Prefix, End::Never));
    let requests = [row(1, 1, 5, 12, &sampler)];
    let [asking, graph] = [Stepping::HostDriven, Stepping::Graph].map(|stepping| {
        run(
            &mut Batch::new(&backbone, Limits::default()).stepping(stepping),
            &requests,
        )
    });
    same_samples(&graph, &asking, &requests);
}

/// The image tokenizer has the CPU's codes, and pixels that differ by at most one step of 256. Latents that
/// differ by more than f32 rounding point to TF32 convolutions.
#[test]
fn pictures_have_the_cpus_codes() {
    let Some(tested) = tested() else { return };
    let config = common::tokenizer_config();
    let [cpu, device] =
        [Device::Cpu, tested.device].map(|device| ImageTokenizer::fresh(&config, 7, device).unwrap());
    let picture = |seed: usize| Picture {
        width: 8,
        height: 8,
        rgb: (0..192).map(|at| (at * 37 * (seed + 1) % 251) as u8).collect(),
    };
    let pictures: Vec<Picture> = (0..6).map(picture).collect();
    let codes = cpu.encode(&pictures).unwrap();
    assert_eq!(device.encode(&pictures).unwrap(), codes);
    let (expected, found) = (
        cpu.decode(&codes, None).unwrap(),
        device.decode(&codes, None).unwrap(),
    );
    for (a, b) in expected.iter().zip(&found) {
        let close = |(a, b): (&u8, &u8)| a.abs_diff(*b) <= 1;
        assert!(a.rgb.iter().zip(&b.rgb).all(close), "beyond a step of 256");
    }
    let pixels = Tensor::randn([2, 3, 8, 8], (Kind::Float, Device::Cpu));
    let latents = |tokenizer: &ImageTokenizer, on: Device| {
        tch::no_grad(|| numbers(&tokenizer.latents(&pixels.to_device(on)).unwrap()))
    };
    let away = worst(&latents(&device, tested.device), &latents(&cpu, Device::Cpu));
    assert!(away < EXACT, "{away}: convolutions in less than f32?");
}

/// A network and its samples stay on the device they were created on; only results are copied to the host.
#[test]
fn a_network_lies_where_it_was_put() {
    let Some(tested) = tested() else { return };
    let backbone = Backbone::fresh(&config(), 1, tested.device, tested.exact).unwrap();
    for tensor in backbone.parameters().named().unwrap().values() {
        assert_eq!(tensor.device(), tested.device);
    }
    let sample = one(&backbone, &row(1, 0, 3, 4, &text(|_| ())));
    assert!(sample.ids[3..].iter().all(|&id| id != MASK && id <= EOS));
}
