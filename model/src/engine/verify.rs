//! Compares a checkpoint with a file of recorded tensors, number by number (`demask verify`).
//!
//! For a backbone the file may hold `forward.*`, `padded.*`, `generate.*`, `generate_cfg.tokens`,
//! `generate_padded.*`, `loss.*` and `grad.*`. Recordings of Fast-dLLM's samplers are `generate.plain.*`,
//! `generate.threshold.*`, and the same with `_with_prefix_cache` or `_with_dual_cache` after `generate`;
//! each holds the tokens and the number of forward passes.
//!
//! Every recorded tensor that has a counterpart is checked. In f32 tokens must be equal, and numbers must
//! agree within [`TOLERANCE`](crate::weights::compare::TOLERANCE) of the largest recorded magnitude. In bf16
//! a backbone's logits and gradients must agree within [`BF16_TOLERANCE`] and its losses within
//! [`BF16_LOSS_TOLERANCE`]; tokens are not compared, because rounding may change them. Image tokenizers, CLIP
//! and ImageReward compute in f32, whatever dtype is requested.

use std::collections::BTreeMap;
use std::path::Path;

use demask_api::{
    Commit, Purpose, Quirks, SampleRequest, Sampler, Span, TensorCheck, TextCache, TextSampler, bounded_file,
    bounded_json, limits,
};
use tch::{Device, Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::image_tokenizer::{self, ImageTokenizer};
use crate::network::attention_mask::AttentionMask;
use crate::network::backbone::Backbone;
use crate::reward_networks::{
    Clip, ImageRewardNetwork, MED_CONFIG, RewardKind, verify_clip, verify_image_reward,
};
use crate::sampler::sample;
use crate::training::loss::{LossRow, backward_chunks, gather};
use crate::training::optimizer::AdamW;
use crate::weights::compare::{compare, compare_tokens};
use crate::weights::safetensors;

/// The input of the recorded losses and gradients. A file without it has neither.
const LOSS_INPUT: &str = "loss.input_ids";

/// Recorded tensors by name.
type Recorded = BTreeMap<String, Tensor>;

/// The largest allowed difference of a backbone's logits and gradients in bf16, relative to the largest
/// recorded magnitude of the tensor. It is about twice the difference that the CPU reaches on the recordings.
pub const BF16_TOLERANCE: f64 = 0.25;
/// The largest allowed relative difference of a loss in bf16. It is smaller than [`BF16_TOLERANCE`] because a
/// loss is a mean of many numbers.
pub const BF16_LOSS_TOLERANCE: f64 = 1e-2;

/// Compares the model in a folder (a backbone, an image tokenizer, CLIP or ImageReward) with a recorded file,
/// in f32.
///
/// # Errors
/// Returns an error if the folder or file cannot be read, or if a recorded tensor lacks the inputs that it
/// needs.
pub fn verify(checkpoint: &Path, reference: &Path, device: Device) -> Result<Vec<TensorCheck>> {
    verify_in(checkpoint, reference, device, Kind::Float)
}

/// Compares like [`verify`], with a backbone that computes in f32 or bf16.
///
/// # Errors
/// Returns the errors of [`verify`].
pub fn verify_in(
    checkpoint: &Path,
    reference: &Path,
    device: Device,
    kind: Kind,
) -> Result<Vec<TensorCheck>> {
    let recorded = safetensors::read(reference)?;
    let config = configuration(checkpoint)?;
    match RewardKind::of(&config) {
        Some(RewardKind::Clip) => return verify_clip(&Clip::load(checkpoint, device)?, &recorded),
        Some(RewardKind::ImageReward) => {
            return verify_image_reward(&ImageRewardNetwork::load(checkpoint, device)?, &recorded);
        }
        None => {}
    }
    let class = config.get("_class_name").and_then(serde_json::Value::as_str);
    if config.get("encoder").is_some() || class.is_some_and(|class| class.starts_with("MAGVIT")) {
        let tokenizer = ImageTokenizer::load_for(checkpoint, device, Purpose::Sample)?;
        return image_tokenizer::verify(&tokenizer, &recorded);
    }
    // Recorded losses are compared together with their gradients, which need trainable weights.
    let purpose = if recorded.contains_key(LOSS_INPUT) {
        Purpose::Train
    } else {
        Purpose::Sample
    };
    let mut backbone = Backbone::load_for(checkpoint, device, kind, purpose)?;
    let mut checks = Vec::new();
    forward(&backbone, &recorded, &mut checks)?;
    if kind == Kind::Float {
        generate(&backbone, &recorded, &mut checks)?;
        fast_decoding(&backbone, &recorded, &mut checks)?;
    }
    losses(&mut backbone, &recorded, &mut checks)?;
    if kind != Kind::Float {
        for check in &mut checks {
            let loss = check.name.starts_with("loss.");
            let tolerance = if loss { BF16_LOSS_TOLERANCE } else { BF16_TOLERANCE };
            check.passed = check.max_rel <= tolerance;
        }
    }
    Ok(checks)
}

/// Reads `config.json`. Where ImageReward's published files take its place, returns a configuration that
/// identifies ImageReward.
fn configuration(checkpoint: &Path) -> Result<serde_json::Value> {
    let path = checkpoint.join(demask_api::checkpoint::CONFIG);
    if !path.exists() && checkpoint.join(MED_CONFIG).exists() {
        return Ok(serde_json::json!({ "vision": {}, "text": {} }));
    }
    let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(&path, source))?;
    bounded_json::parse(&text, limits::MOST_CONFIG_VALUES)
        .map_err(|error| ModelError::checkpoint(&path, error.to_string()))
}

fn need<'a>(recorded: &'a Recorded, name: &str) -> Result<&'a Tensor> {
    recorded.get(name).ok_or_else(|| {
        ModelError::Refused(format!(
            "the reference file lacks {name}, which other tensors in it need"
        ))
    })
}

fn logits(backbone: &Backbone, ids: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
    tch::no_grad(|| {
        let hidden = backbone.hidden(&ids.f_to_device(backbone.device())?, mask)?;
        backbone.head(&hidden, None)
    })
}

fn forward(backbone: &Backbone, recorded: &Recorded, checks: &mut Vec<TensorCheck>) -> Result<()> {
    if let Some(expected) = recorded.get("forward.logits") {
        let found = logits(
            backbone,
            need(recorded, "forward.input_ids")?,
            &AttentionMask::None,
        )?;
        checks.push(compare("forward.logits", &found, expected)?);
    }
    if let Some(expected) = recorded.get("padded.logits") {
        let real = need(recorded, "padded.attention_mask")?;
        let mask = AttentionMask::Hard(real.f_to_kind(Kind::Float)?);
        let found = logits(backbone, need(recorded, "padded.input_ids")?, &mask)?;
        // Padded positions attend to no key, so their logits are meaningless in both tensors.
        let keep = real.f_unsqueeze(-1)?.f_to_kind(Kind::Float)?;
        checks.push(compare(
            "padded.logits",
            &found.f_mul(&keep)?,
            &expected.f_mul(&keep)?,
        )?);
    }
    Ok(())
}

/// Checks the samples of LLaDA's `generate`: without guidance, with guidance, and with left padding. The published code
/// may write every token of the vocabulary, so the quirk `whole_vocabulary` is on.
fn generate(backbone: &Backbone, recorded: &Recorded, checks: &mut Vec<TensorCheck>) -> Result<()> {
    let plain = TextSampler {
        steps: 16,
        block: 16,
        quirks: Quirks {
            whole_vocabulary: true,
            ..Quirks::default()
        },
        ..TextSampler::default()
    };
    let guided = TextSampler {
        steps: 8,
        block: 8,
        guidance: 1.5,
        ..plain.clone()
    };
    for (name, sampler, padded) in [
        ("generate.tokens", &plain, false),
        ("generate_cfg.tokens", &guided, false),
        ("generate_padded.tokens", &plain, true),
    ] {
        let Some(expected) = recorded.get(name) else {
            continue;
        };
        let prompt = rows_of(need(recorded, "generate.prompt")?)?;
        let pads: Vec<usize> = if padded {
            let mask = rows_of(need(recorded, "generate_padded.attention_mask")?)?;
            mask.iter()
                .map(|row| row.iter().take_while(|&&real| real == 0).count())
                .collect()
        } else {
            vec![0; prompt.len()]
        };
        let requests = prompt
            .iter()
            .zip(pads)
            .map(|(prompt, pad)| request(backbone, prompt, pad, sampler));
        let requests: Vec<SampleRequest> = requests.collect();
        let samples = sample(backbone, &requests, &mut |_, _, _| Ok(()))?;
        let found: Vec<i64> = samples
            .iter()
            .flat_map(|sample| sample.ids.iter().map(|&id| i64::from(id)))
            .collect();
        checks.push(compare_tokens(name, &found, expected)?);
    }
    Ok(())
}

/// Checks Fast-dLLM's samplers: 32 steps, blocks of 8, temperature 0, and a head weight that is multiplied by
/// `head_scale`.
fn fast_decoding(backbone: &Backbone, recorded: &Recorded, checks: &mut Vec<TensorCheck>) -> Result<()> {
    let dual = TextCache::Dual {
        refresh: 1,
        vicinity: 0,
    };
    let caches = [
        ("generate", TextCache::None),
        ("generate_with_prefix_cache", TextCache::Prefix),
        ("generate_with_dual_cache", dual),
    ];
    let commits = [
        ("plain", Commit::Schedule),
        ("threshold", Commit::Threshold { threshold: 0.9 }),
    ];
    let cases = caches
        .iter()
        .flat_map(|cache| commits.iter().map(move |commit| (cache, commit)));
    let cases: Vec<_> = cases
        .map(|((name, cache), (rule, commit))| (format!("{name}.{rule}"), *cache, *commit))
        .filter(|(name, _, _)| recorded.contains_key(&format!("{name}.tokens")))
        .collect();
    if cases.is_empty() {
        return Ok(());
    }
    let scaled = scaled_head(backbone, recorded)?;
    let prompt = rows_of(need(recorded, "prompt")?)?;
    for (name, cache, commit) in cases {
        let sampler = TextSampler {
            steps: NEW_TOKENS,
            block: 8,
            cache,
            commit,
            quirks: Quirks {
                whole_vocabulary: true,
                ..Quirks::default()
            },
            ..TextSampler::default()
        };
        let requests: Vec<_> = prompt
            .iter()
            .map(|row| request(backbone, row, 0, &sampler))
            .collect();
        let samples = sample(&scaled, &requests, &mut |_, _, _| Ok(()))?;
        let (tokens, forwards) = (format!("{name}.tokens"), format!("{name}.forwards"));
        let found: Vec<i64> = samples
            .iter()
            .flat_map(|sample| sample.ids.iter().map(|&id| i64::from(id)))
            .collect();
        checks.push(compare_tokens(&tokens, &found, need(recorded, &tokens)?)?);
        if let Some(expected) = recorded.get(&forwards) {
            let found = samples.iter().map(|sample| sample.forwards as i64).max();
            checks.push(compare_tokens(&forwards, &[found.unwrap_or(0)], expected)?);
        }
    }
    Ok(())
}

/// Copies the backbone with its head weight multiplied by the recorded `head_scale`.
fn scaled_head(backbone: &Backbone, recorded: &Recorded) -> Result<Backbone> {
    let copy = backbone.frozen_copy()?;
    if let Some(scale) = recorded.get("head_scale") {
        let scale = scale.f_double_value(&[])?;
        tch::no_grad(|| {
            copy.head_weight()?
                .f_mul_scalar_(scale)
                .map(|_| ())
                .map_err(ModelError::from)
        })?;
    }
    Ok(copy)
}

/// The number of tokens that the recorded runs generate.
const NEW_TOKENS: usize = 32;

fn request(backbone: &Backbone, prompt: &[i64], left_pad: usize, sampler: &TextSampler) -> SampleRequest {
    let mut ids: Vec<u32> = prompt.iter().map(|&id| u32::try_from(id).unwrap_or(0)).collect();
    let target = Span {
        start: ids.len(),
        end: ids.len() + NEW_TOKENS,
    };
    ids.resize(target.end, backbone.config().mask_token_id);
    SampleRequest {
        id: 0,
        ids,
        left_pad,
        target,
        sampler: Sampler::Text(sampler.clone()),
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: 0,
        watch: false,
    }
}

fn rows_of(tensor: &Tensor) -> Result<Vec<Vec<i64>>> {
    let (rows, width) = tensor.size2()?;
    let flat: Vec<i64> = Vec::<i64>::try_from(tensor.f_to_kind(Kind::Int64)?.f_reshape([-1])?)?;
    Ok(flat
        .chunks(usize::try_from(width).unwrap_or(1).max(1))
        .take(rows as usize)
        .map(<[i64]>::to_vec)
        .collect())
}

fn floats_of(tensor: &Tensor) -> Result<Vec<Vec<f64>>> {
    let (_, width) = tensor.size2()?;
    let flat: Vec<f64> = Vec::<f64>::try_from(tensor.f_to_kind(Kind::Double)?.f_reshape([-1])?)?;
    Ok(flat
        .chunks(usize::try_from(width).unwrap_or(1).max(1))
        .map(<[f64]>::to_vec)
        .collect())
}

/// The weights of the three losses in the recorded gradient.
const COEFFICIENTS: [(&str, f64); 3] = [("t2i", 1.0), ("lm", 0.1), ("mmu", 1.0)];
/// The number of rows per task in the recorded batch.
const ROWS: usize = 2;
/// The text length of the recorded batch; in text-to-image rows the picture follows it.
const TEXT: usize = 16;

fn losses(backbone: &mut Backbone, recorded: &Recorded, checks: &mut Vec<TensorCheck>) -> Result<()> {
    if !recorded.contains_key(LOSS_INPUT) {
        return Ok(());
    }
    let (ids, labels) = (need(recorded, LOSS_INPUT)?, need(recorded, "loss.labels")?);
    let (count, length) = ((ROWS * COEFFICIENTS.len()) as i64, ids.size2()?.1.max(1));
    for (name, tensor) in [(LOSS_INPUT, ids), ("loss.labels", labels)] {
        let (rows, width) = tensor.size2()?;
        if rows < count || width != length {
            return Err(ModelError::Refused(format!(
                "{name} is [{rows}, {width}], expected at least {count} rows of {length} tokens"
            )));
        }
    }
    let (ids, labels) = (rows_of(ids)?, rows_of(labels)?);
    // The optimizer accumulates the gradients of the three losses: the recorded gradient is that of their
    // weighted sum.
    let mut state = AdamW::new(backbone.parameters())?;
    for (number, (task, coefficient)) in COEFFICIENTS.into_iter().enumerate() {
        let range = number * ROWS..(number + 1) * ROWS;
        let weights = task_weights(
            backbone,
            recorded,
            task,
            &ids[range.clone()],
            &labels[range.clone()],
        )?;
        let rows: Vec<LossRow> = range
            .clone()
            .zip(weights)
            .map(|(row, targets)| LossRow {
                ids: ids[row]
                    .iter()
                    .map(|&id| u32::try_from(id).unwrap_or(0))
                    .collect(),
                left_pad: 0,
                targets,
            })
            .collect();
        let gathered = gather(backbone, &rows)?;
        let loss = backward_chunks(backbone, &gathered, |log_probs, at, length| {
            let weighted = log_probs.f_mul(&gathered.weights_N.f_narrow(0, at, length)?)?;
            Ok(weighted.f_sum(Kind::Float)?.f_mul_scalar(-coefficient)?)
        })?;
        if let Some(expected) = recorded.get(&format!("loss.{task}")) {
            let found = Tensor::f_from_slice(&[loss / coefficient])?.f_view([] as [i64; 0])?;
            checks.push(compare(&format!("loss.{task}"), &found, expected)?);
        }
    }
    state.accumulate(backbone.parameters_mut())?;
    let grads = state.named_grads(backbone.parameters())?;
    for (name, expected) in recorded {
        let Some(parameter) = name.strip_prefix("grad.") else {
            continue;
        };
        let found = grads.get(parameter).ok_or_else(|| {
            ModelError::Refused(format!("{name}: the backbone has no parameter {parameter}"))
        })?;
        checks.push(compare(name, found, expected)?);
    }
    Ok(())
}

/// Returns, for each row of a task, its masked positions with their labels and their weight in the published
/// loss.
fn task_weights(
    backbone: &Backbone,
    recorded: &Recorded,
    task: &str,
    ids: &[Vec<i64>],
    labels: &[Vec<i64>],
) -> Result<Vec<Vec<(usize, u32, f32)>>> {
    let mask_token = i64::from(backbone.config().mask_token_id);
    let chosen: Vec<Vec<usize>> = ids
        .iter()
        .zip(labels)
        .map(|(ids, labels)| {
            let wanted = |&at: &usize| match task {
                "t2i" => at > TEXT && labels[at] >= 0,
                _ => ids[at] == mask_token && labels[at] >= 0,
            };
            (0..ids.len()).filter(wanted).collect()
        })
        .collect();
    let counted: usize = chosen.iter().map(Vec::len).sum();
    let table = |name: &str| -> Result<Vec<Vec<f64>>> {
        let table = floats_of(need(recorded, name)?)?;
        if table.len() < ids.len() || ids.iter().zip(&table).any(|(ids, row)| row.len() < ids.len()) {
            return Err(ModelError::Refused(format!(
                "{name} has fewer elements than the rows of {LOSS_INPUT}"
            )));
        }
        Ok(table)
    };
    let p = match task {
        "t2i" => Vec::new(),
        _ => table(&format!("loss.p_mask_{task}"))?,
    };
    let lengths = match task {
        "mmu" => table("loss.answer_lengths_mmu")?,
        _ => Vec::new(),
    };
    // The published trainer's normalisation: t2i averages over masked codes; lm averages over all positions,
    // weighted by 1 / p; mmu weights by 1 / p and by 1 / answer length, and averages over rows.
    let weight = |row: usize, at: usize| match task {
        "t2i" => 1.0 / counted.max(1) as f64,
        "lm" => 1.0 / (p[row][at] * (ids.len() * ids[row].len()) as f64),
        _ => 1.0 / (p[row][at] * lengths[row][at] * ids.len() as f64),
    };
    #[allow(clippy::cast_possible_truncation)]
    let target = |row: usize, at: usize| {
        (
            at,
            u32::try_from(labels[row][at]).unwrap_or(0),
            weight(row, at) as f32,
        )
    };
    Ok(chosen
        .iter()
        .enumerate()
        .map(|(row, chosen)| chosen.iter().map(|&at| target(row, at)).collect())
        .collect())
}
