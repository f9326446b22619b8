//! Properties of the backbone's loss and of both samplers that hold for any weights.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_api::{
    BackboneConfig, ImageSampler, MaskSchedule, Remasking, Sample, SampleRequest, Sampler, Span, TextSampler,
};
use demask_model::sampler::sample;
use demask_model::sampler::schedule::mask_len;
use demask_model::training::loss::{LossRow, backward_chunks, gather, log_probs};
use demask_model::training::optimizer::AdamW;
use demask_model::weights::safetensors;
use demask_model::{AttentionMask, Backbone};
use tch::{Device, Kind, Tensor};

const MASK: u32 = 10;
const EOS: u32 = 11;

/// Returns a configuration of 12 text tokens followed by 8 image tokens.
fn config() -> BackboneConfig {
    BackboneConfig {
        d_model: 16,
        n_heads: 2,
        n_layers: 2,
        mlp_hidden_size: Some(24),
        max_sequence_length: 96,
        vocab_size: 20,
        mask_token_id: MASK,
        eos_token_id: EOS,
        pad_token_id: EOS,
        codebook_size: 8,
        ..BackboneConfig::default()
    }
}

fn backbone() -> Backbone {
    Backbone::fresh(&config(), 5, Device::Cpu, Kind::Float).unwrap()
}

fn loss_row(seed: u32, length: usize, left_pad: usize) -> LossRow {
    let clean = |at: usize| (seed * 7 + at as u32 * 5) % 10;
    let chosen = |at: &usize| *at >= left_pad && !(at + seed as usize).is_multiple_of(3);
    let targets: Vec<_> = (0..length)
        .filter(chosen)
        .map(|at| (at, clean(at), 0.1 + at as f32))
        .collect();
    let mut ids: Vec<u32> = (0..length).map(clean).collect();
    for &(at, ..) in &targets {
        ids[at] = MASK;
    }
    LossRow {
        ids,
        left_pad,
        targets,
    }
}

/// Returns the loss and its gradient as one flat tensor.
fn loss_and_gradient(backbone: &mut Backbone, rows: &[LossRow]) -> (f64, Tensor) {
    let gathered = gather(backbone, rows).unwrap();
    let loss = backward_chunks(backbone, &gathered, |logp, at, length| {
        Ok(-(logp * gathered.weights_N.narrow(0, at, length)).sum(Kind::Float))
    })
    .unwrap();
    let mut flat = backbone.parameters().master().zeros_like();
    backbone.parameters_mut().gather_grads(&mut flat).unwrap();
    (loss, flat)
}

/// A step along the whole gradient changes the loss at the rate of the gradient's norm, for three
/// configurations that cover the optional parts.
#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    for config in [
        config(),
        BackboneConfig {
            n_kv_heads: Some(1),
            include_bias: true,
            attention_layer_norm: true,
            ..config()
        },
        BackboneConfig {
            weight_tying: true,
            scale_logits: true,
            input_emb_norm: true,
            ..config()
        },
    ] {
        let mut backbone = Backbone::fresh(&config, 3, Device::Cpu, Kind::Float).unwrap();
        let rows = [loss_row(1, 12, 0), loss_row(2, 12, 4), loss_row(3, 10, 0)];
        let (_, gradient) = loss_and_gradient(&mut backbone, &rows);
        let start = backbone.parameters().master().copy();
        let norm = gradient.norm().double_value(&[]);
        let step = 5e-3;
        let mut at = |distance: f64| {
            backbone
                .parameters()
                .set(&(&start + &gradient * (distance / norm)))
                .unwrap();
            loss_and_gradient(&mut backbone, &rows).0
        };
        let slope = (at(step) - at(-step)) / (2.0 * step);
        assert!(
            (slope / norm - 1.0).abs() < 2e-3,
            "finite differences {slope}, gradient {norm}"
        );
    }
}

#[test]
fn chunks_of_the_head_change_no_gradient() {
    let mut backbone = backbone();
    let rows: Vec<_> = (0..90).map(|seed| loss_row(seed, 80, 0)).collect();
    assert!(
        rows.iter().map(|row| row.targets.len()).sum::<usize>() > demask_model::network::room::CHUNK as usize
    );
    let (whole_loss, whole) = loss_and_gradient(&mut backbone, &rows);
    let (mut loss, mut sum) = (0.0, whole.zeros_like());
    for part in rows.chunks(30) {
        let (part_loss, gradient) = loss_and_gradient(&mut backbone, part);
        loss += part_loss;
        sum += gradient;
    }
    assert!((loss / whole_loss - 1.0).abs() < 1e-5);
    let difference = (&sum - &whole).abs().max() / whole.abs().max();
    assert!(difference.double_value(&[]) < 1e-4, "{difference:?}");
}

#[test]
fn padding_changes_no_real_position() {
    let backbone = backbone();
    let logits = |ids: &[i64], mask: &AttentionMask| {
        let ids = Tensor::from_slice(ids).unsqueeze(0);
        backbone
            .head(&backbone.hidden(&ids, mask).unwrap(), None)
            .unwrap()
    };
    let hard = || AttentionMask::from_left_pads(&[2], 6).unwrap();
    let one = logits(&[EOS.into(), EOS.into(), 1, 2, 3, 4], &hard());
    let other = logits(&[7, 8, 1, 2, 3, 4], &hard());
    assert_eq!(one.narrow(1, 2, 4), other.narrow(1, 2, 4));
}

/// Packed rows give the hidden states of real positions and every gradient of the same rows under a dense
/// mask.
#[test]
fn packing_computes_what_the_dense_mask_computes() {
    let mut backbone = backbone();
    let pads = [3usize, 0, 5, 1];
    let ids: Vec<i64> = (0..32).map(|at| (at * 5) % 9 + 1).collect();
    let ids = Tensor::from_slice(&ids).view([4, 8]);
    let real: Vec<f32> = pads
        .iter()
        .flat_map(|&pad| (0..8).map(move |at| f32::from(u8::from(at >= pad))))
        .collect();
    let real = Tensor::from_slice(&real).view([4, 8]);
    let packed = AttentionMask::from_left_pads(&pads, 8).unwrap();
    assert!(matches!(packed, AttentionMask::LeftPads { .. }));
    let mut run = |mask: &AttentionMask| {
        let hidden = backbone.hidden(&ids, mask).unwrap() * real.unsqueeze(2);
        let wave = Tensor::arange(hidden.numel() as i64, (Kind::Float, Device::Cpu)).sin();
        (&hidden.flatten(0, 2) * wave).sum(Kind::Float).backward();
        let mut flat = backbone.parameters().master().zeros_like();
        backbone.parameters_mut().gather_grads(&mut flat).unwrap();
        (hidden.detach(), flat)
    };
    let (a, da) = run(&packed);
    let (b, db) = run(&AttentionMask::Hard(real.shallow_clone()));
    let off = |a: &Tensor, b: &Tensor| ((a - b).abs().max() / b.abs().max()).double_value(&[]);
    assert!(off(&a, &b) < 1e-5, "{}", off(&a, &b));
    assert!(off(&da, &db) < 1e-5, "{}", off(&da, &db));
}

fn request(id: u64, ids: &[u32], left_pad: usize, target: Span, sampler: &Sampler) -> SampleRequest {
    SampleRequest {
        id,
        ids: ids.to_vec(),
        left_pad,
        target,
        sampler: sampler.clone(),
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: id,
        watch: false,
    }
}

fn draw(backbone: &Backbone, requests: &[SampleRequest]) -> Vec<Sample> {
    sample(backbone, requests, &mut |_, _, _| Ok(())).unwrap()
}

/// Returns `count` rows of one length, each with its own prompt, padding and seed.
fn ragged(first: u32, sampler: &Sampler, count: u64) -> Vec<SampleRequest> {
    let row = |id: u64| {
        let pad = (id % 3) as usize;
        let mut ids = vec![EOS; pad];
        ids.extend((pad..4).map(|at| first + (at as u32 + id as u32) % 9));
        ids.extend([MASK; 8]);
        request(id, &ids, pad, Span { start: 4, end: 12 }, sampler)
    };
    (0..count).map(row).collect()
}

/// Each row of a batch has the tokens and commit steps that it has alone, with guidance and with random
/// remasking too (L8).
#[test]
fn l8_a_text_sample_does_not_depend_on_its_companions() {
    let backbone = backbone();
    for (guidance, remasking) in [(0.0, Remasking::LowConfidence), (1.5, Remasking::Random)] {
        let sampler = TextSampler {
            steps: 4,
            block: 4,
            temperature: 1.0,
            remasking,
            guidance,
            ..TextSampler::default()
        };
        let requests = ragged(0, &Sampler::Text(sampler.clone()), 7);
        let together = draw(&backbone, &requests);
        for (request, sample) in requests.iter().zip(&together) {
            let alone = draw(&backbone, std::slice::from_ref(request));
            assert_eq!(alone[0].ids, sample.ids);
            assert_eq!(alone[0].commit_step, sample.commit_step);
            assert!(
                sample.ids[4..].iter().all(|&id| id < 12 && id != MASK),
                "{:?}",
                sample.ids
            );
        }
    }
}

#[test]
fn l8_a_picture_does_not_depend_on_its_companions() {
    let backbone = backbone();
    let sampler = ImageSampler {
        steps: 4,
        ..ImageSampler::default()
    };
    let requests = ragged(0, &Sampler::Image(sampler.clone()), 6);
    let draw = |requests: &[SampleRequest]| draw(&backbone, requests);
    for (request, sample) in requests.iter().zip(draw(&requests)) {
        assert_eq!(draw(std::slice::from_ref(request))[0].ids, sample.ids);
        assert!(
            sample.ids[4..].iter().all(|id| (12..20).contains(id)),
            "{:?}",
            sample.ids
        );
        assert_eq!(sample.ids[..4], request.ids[..4]);
    }
}

/// Tokens are drawn from the softmax without the mask token: 6000 draws of one position, compared by a
/// chi-squared test at p = 0.001. The test fails if the mask token gets probability, or if the temperature
/// is applied twice.
#[test]
fn a_drawn_token_has_the_distribution_of_the_softmax() {
    let backbone = backbone();
    let sampler = TextSampler {
        steps: 1,
        block: 1,
        temperature: 1.0,
        ..TextSampler::default()
    };
    let ids = [1, 2, MASK, 3];
    let row = |id| {
        request(
            id,
            &ids,
            0,
            Span { start: 2, end: 3 },
            &Sampler::Text(sampler.clone()),
        )
    };
    let requests: Vec<_> = (0..6000).map(row).collect();
    let mut counts = [0.0; 12];
    for sample in draw(&backbone, &requests) {
        counts[sample.ids[2] as usize] += 1.0;
    }
    let ids = Tensor::from_slice(&ids.map(i64::from)).unsqueeze(0);
    let hidden = backbone.hidden(&ids, &AttentionMask::None).unwrap();
    let logits = backbone
        .head(&hidden.narrow(1, 2, 1), None)
        .unwrap()
        .reshape([-1]);
    let weights: Vec<f64> = (0..12)
        .map(|id| {
            if id == MASK as usize {
                0.0
            } else {
                logits.double_value(&[id as i64]).exp()
            }
        })
        .collect();
    let sum: f64 = weights.iter().sum();
    let expected = |id: usize| 6000.0 * weights[id] / sum;
    let allowed = (0..12).filter(|&id| id != MASK as usize);
    let chi2: f64 = allowed
        .map(|id| (counts[id] - expected(id)).powi(2) / expected(id))
        .sum();
    assert!(
        chi2 < 29.6,
        "chi-squared {chi2} with 10 degrees of freedom (p = 0.001)"
    );
}

/// The sampler's confidence of a token is the probability that the training code computes for it (L7).
#[test]
fn l7_confidence_is_the_probability_that_training_computes() {
    let backbone = backbone();
    let sampler = TextSampler {
        steps: 1,
        block: 8,
        ..TextSampler::default()
    };
    let requests = ragged(0, &Sampler::Text(sampler.clone()), 5);
    for (request, sample) in requests.iter().zip(draw(&backbone, &requests)) {
        let targets = (4..12).map(|at| (at, sample.ids[at], 1.0)).collect();
        let row = LossRow {
            ids: request.ids.clone(),
            left_pad: request.left_pad,
            targets,
        };
        let gathered = gather(&backbone, &[row]).unwrap();
        let logp =
            Vec::<f32>::try_from(log_probs(&backbone, &gathered.x_ND, &gathered.labels_N).unwrap()).unwrap();
        for (logp, confidence) in logp.iter().zip(&sample.confidence) {
            assert!(
                (logp.exp() - confidence).abs() < 1e-5,
                "{} and {confidence}",
                logp.exp()
            );
        }
    }
}

/// From frame to frame tokens are only filled in and never change. Only the watched request has frames, and
/// its last frame is its sample.
#[test]
fn frames_only_ever_fill_masks_in() {
    let backbone = backbone();
    let sampler = TextSampler {
        steps: 8,
        block: 4,
        temperature: 0.7,
        ..TextSampler::default()
    };
    let mut requests = ragged(0, &Sampler::Text(sampler.clone()), 2);
    requests[1].watch = true;
    let mut frames = Vec::new();
    let samples = sample(&backbone, &requests, &mut |_, frame, _| {
        frames.push(frame);
        Ok(())
    })
    .unwrap();
    assert_eq!(frames.len(), 8);
    for pair in frames.windows(2) {
        assert!(
            pair[0]
                .tokens
                .iter()
                .zip(&pair[1].tokens)
                .all(|(a, b)| *a == MASK || a == b)
        );
    }
    assert!(frames.iter().all(|frame| frame.id == 1));
    assert_eq!(frames[7].tokens, samples[1].ids[4..]);
}

#[test]
fn the_picture_schedule_is_the_published_table() {
    let table = [253, 247, 236, 221, 203, 181, 155, 128, 97, 66, 33];
    let ours: Vec<_> = (0..11)
        .map(|step| mask_len(MaskSchedule::Cosine, 256, step, 12))
        .collect();
    assert_eq!(ours, table);
    let table = [
        1018, 1001, 973, 935, 886, 828, 760, 685, 601, 512, 416, 316, 212, 107,
    ];
    let ours: Vec<_> = (0..14)
        .map(|step| mask_len(MaskSchedule::Cosine, 1024, step, 15))
        .collect();
    assert_eq!(ours, table);
}

#[test]
fn a_frozen_copy_stays_when_the_policy_moves() {
    let mut backbone = backbone();
    let frozen = backbone.frozen_copy().unwrap();
    let values = |backbone: &Backbone| -> Vec<Vec<f64>> {
        let named = backbone.parameters().named().unwrap();
        let numbers = |tensor: &Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).reshape([-1]));
        named.values().map(|tensor| numbers(tensor).unwrap()).collect()
    };
    let before = values(&frozen);
    let gathered = gather(&backbone, &[loss_row(1, 12, 0)]).unwrap();
    backward_chunks(&backbone, &gathered, |logp, _, _| Ok(-logp.mean(Kind::Float))).unwrap();
    let mut optimizer = AdamW::new(backbone.parameters()).unwrap();
    optimizer.accumulate(backbone.parameters_mut()).unwrap();
    let adam = demask_api::Adam::default();
    assert!(
        optimizer
            .step(backbone.parameters(), &adam, 1e-2, 1.0, 0.0)
            .unwrap()
            .finite
    );
    assert_eq!(values(&frozen), before);
    assert_ne!(values(&backbone), before);
}

/// A missing, misshapen or unexpected tensor and a truncated file are reported by name.
#[test]
fn broken_weights_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let backbone = backbone();
    std::fs::write(
        dir.path().join("config.json"),
        serde_json::to_string(backbone.config()).unwrap(),
    )
    .unwrap();
    let file = dir.path().join("model.safetensors");
    let load = || {
        Backbone::load(dir.path(), Device::Cpu, Kind::Float)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    let mut tensors = backbone.parameters().named().unwrap();
    safetensors::write(&file, &tensors, None).unwrap();
    load().unwrap();
    let norm = tensors.remove("model.transformer.ln_f.weight").unwrap();
    safetensors::write(&file, &tensors, None).unwrap();
    assert!(load().unwrap_err().contains("ln_f.weight is missing"));
    tensors.insert("model.transformer.ln_f.weight".into(), norm.narrow(0, 0, 3));
    safetensors::write(&file, &tensors, None).unwrap();
    let error = load().unwrap_err();
    assert!(error.contains("[3]") && error.contains("[16]"), "{error}");
    tensors.insert("model.transformer.ln_f.weight".into(), norm.shallow_clone());
    tensors.insert("stranger".into(), norm);
    safetensors::write(&file, &tensors, None).unwrap();
    assert!(load().unwrap_err().contains("stranger"));
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert!(load().unwrap_err().contains("model.safetensors"));
}
