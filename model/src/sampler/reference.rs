//! The two sampling loops as the papers write them: one row, a full forward pass per step, no cache. Read this file
//! first.
//!
//! [`text`] is LLaDA's `generate` (arXiv 2502.09992, algorithms 4 and 5): semi-autoregressive blocks with
//! low-confidence remasking. [`image`] is MaskGIT's decoding (arXiv 2202.04200) in MMaDA's form (`mmada.md` 6.2).
//!
//! No request is served from here, because every logit is copied to the host. The samplers that serve (`text.rs`,
//! `image.rs`, `batching/`) compute the same with caches, further rules and other rows in the batch.
//! `tests/model/sampling/samplers.rs` compares them with these loops token for token, from the same noise.

use std::ops::Range;

use demask_api::{ImageSampler, SampleRequest, TextSampler};
use rand::Rng as _;
use tch::Tensor;

use super::draw::LARGEST_UNIFORM;
use super::schedule::{mask_len, transfer_counts};
use crate::device::transfer;
use crate::error::Result;
use crate::network::attention_mask::AttentionMask;
use crate::network::backbone::Backbone;
use crate::training::mask_sampling::row_rng;

/// Samples a text and returns the whole row with its target filled.
///
/// It follows the settings `steps` (divided evenly among blocks), `block`, `temperature` and `guidance`. All other
/// settings count as their defaults.
///
/// # Errors
/// An error if the row has padding but no token after it, or any error libtorch reports.
pub fn text(backbone: &Backbone, request: &SampleRequest, sampler: &TextSampler) -> Result<Vec<u32>> {
    let config = backbone.config();
    let (mask_token, eos) = (config.mask_token_id, config.eos_token_id);
    // The sampler writes text tokens only, never the mask token.
    let is_word = |token: u32| token < config.image_offset() && token != mask_token;
    let mut rng = row_rng(request.seed, 0);
    let mut ids = request.ids.clone();
    let target = request.target.start..request.target.end;
    let blocks = target.len().div_ceil(sampler.block);
    let steps = sampler.steps / blocks;
    for block in 0..blocks {
        let start = target.start + block * sampler.block;
        let window = start..target.end.min(start + sampler.block);
        let transfer = transfer_counts(masked(&ids, &window, mask_token).len(), steps);
        for transfer_tokens in transfer {
            let mask_index = masked(&ids, &window, mask_token);
            if mask_index.is_empty() {
                break;
            }
            let logits = guided_logits(backbone, request, &ids, sampler.guidance)?;
            let mut drawn: Vec<(usize, u32, f64)> = Vec::new();
            for at in mask_index {
                // The confidence is the probability over the whole vocabulary, without temperature.
                let all = 0..logits[at].len();
                let p = softmax(&logits[at], all.clone(), 1.0);
                let words = |p: Vec<f64>| -> Vec<f64> {
                    let only_words = p
                        .into_iter()
                        .zip(0..)
                        .map(|(p, token)| if is_word(token) { p } else { 0.0 });
                    only_words.collect()
                };
                let token = if sampler.temperature > 0.0 {
                    let warm = words(softmax(&logits[at], all, sampler.temperature));
                    categorical(&warm, uniform(&mut rng))
                } else {
                    argmax(&words(p.clone()))
                };
                drawn.push((at, token as u32, p[token]));
            }
            // Low-confidence remasking: the most confident tokens stay, all others remain masked.
            drawn.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
            for &(at, token, _) in drawn.iter().take(transfer_tokens) {
                ids[at] = token;
            }
        }
        if ids[window.clone()].iter().all(|&id| id == eos) {
            // If a whole block is end-of-text, so is the rest of the target.
            for at in masked(&ids, &(window.end..target.end), mask_token) {
                ids[at] = eos;
            }
            break;
        }
    }
    Ok(ids)
}

/// Samples the codes of a picture and returns the whole row with its target filled.
///
/// It follows the settings `steps`, `temperature`, `guidance` and `schedule`. All other settings count as their
/// defaults.
///
/// # Errors
/// An error if the row has padding but no token after it, or any error libtorch reports.
pub fn image(backbone: &Backbone, request: &SampleRequest, sampler: &ImageSampler) -> Result<Vec<u32>> {
    let config = backbone.config();
    let mask_token = config.mask_token_id;
    let first_code = config.image_offset() as usize;
    let codes = first_code..first_code + config.codebook_size;
    let mut rng = row_rng(request.seed, 0);
    let mut ids = request.ids.clone();
    let target = request.target.start..request.target.end;
    let unknown = masked(&ids, &target, mask_token).len();
    for step in 0..sampler.steps {
        let mask_index = masked(&ids, &target, mask_token);
        if mask_index.is_empty() {
            break;
        }
        let logits = guided_logits(backbone, request, &ids, sampler.guidance)?;
        let progress = (step + 1) as f64 / sampler.steps as f64;
        let temperature = sampler.temperature * (1.0 - progress);
        let mut drawn: Vec<(usize, u32, f64)> = Vec::new();
        for at in mask_index {
            // The codes are drawn at temperature 1. The temperature applies to the noise on the ranking only.
            let p = softmax(&logits[at], codes.clone(), 1.0);
            let code = categorical(&p, uniform(&mut rng));
            let gumbel = -(-rng.random::<f64>().max(1e-20).ln()).max(1e-20).ln();
            let confidence = p[code].max(1e-20).ln() + temperature * gumbel;
            drawn.push((at, (first_code + code) as u32, confidence));
        }
        // The schedule says how many of the least confident codes stay masked: at least one, and never all.
        let mask_len = mask_len(sampler.schedule, unknown, step, sampler.steps);
        let stay_masked = mask_len.max(1).min(drawn.len() - 1);
        drawn.sort_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
        // The last step commits every code that it drew.
        let last = step + 1 == sampler.steps;
        for &(at, code, _) in drawn.iter().skip(if last { 0 } else { stay_masked }) {
            ids[at] = code;
        }
    }
    Ok(ids)
}

/// Returns the masked positions in a window of the row.
fn masked(ids: &[u32], window: &Range<usize>, mask_token: u32) -> Vec<usize> {
    window.clone().filter(|&at| ids[at] == mask_token).collect()
}

/// Computes the logits of every position with classifier-free guidance: `u + (w + 1)(c - u)`, where c are the
/// conditional logits, u the unconditional ones and w the guidance scale. With w = 0 they are c.
fn guided_logits(
    backbone: &Backbone,
    request: &SampleRequest,
    ids: &[u32],
    guidance: f64,
) -> Result<Vec<Vec<f64>>> {
    let mut conditional = logits(backbone, ids, request.left_pad)?;
    if guidance == 0.0 {
        return Ok(conditional);
    }
    // The unconditional row is the given one, or one whose prompt is masked; its target is the current one.
    let target = request.target.start..request.target.end;
    let no_prompt = || vec![backbone.config().mask_token_id; ids.len()];
    let mut other = request.unconditional.clone().unwrap_or_else(no_prompt);
    other[target.clone()].copy_from_slice(&ids[target]);
    let unconditional = logits(backbone, &other, request.unconditional_left_pad)?;
    for (c, u) in conditional
        .iter_mut()
        .flatten()
        .zip(unconditional.iter().flatten())
    {
        *c = u + (guidance + 1.0) * (*c - u);
    }
    Ok(conditional)
}

/// Computes the logits of every position of a row, over the whole vocabulary.
fn logits(backbone: &Backbone, ids: &[u32], left_pad: usize) -> Result<Vec<Vec<f64>>> {
    let line: Vec<i64> = ids.iter().map(|&id| i64::from(id)).collect();
    let ids_bl = Tensor::f_from_slice(&line)?
        .f_unsqueeze(0)?
        .f_to_device(backbone.device())?;
    let mask = AttentionMask::from_left_pads(&[left_pad], ids.len())?;
    let logits = tch::no_grad(|| backbone.head(&backbone.hidden(&ids_bl, &mask)?, None))?;
    let rows = backbone.config().rows();
    Ok(transfer::read(&logits)?
        .chunks(rows)
        .map(<[f64]>::to_vec)
        .collect())
}

/// Computes the softmax over some columns at a temperature.
fn softmax(logits: &[f64], columns: Range<usize>, temperature: f64) -> Vec<f64> {
    let highest = logits[columns.clone()]
        .iter()
        .copied()
        .fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits[columns]
        .iter()
        .map(|logit| ((logit - highest) / temperature).exp())
        .collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Draws a uniform number below 1, rounded to f32 because the samplers pass it to a device in f32.
fn uniform(rng: &mut impl rand::Rng) -> f64 {
    #[allow(clippy::cast_possible_truncation)]
    let single = rng.random::<f64>() as f32;
    f64::from(single.min(LARGEST_UNIFORM))
}

/// Draws a column by inverse-transform sampling: the first one where the cumulative sum exceeds the uniform share of
/// the total. The distribution is that of the arg-max of log-weights plus Gumbel noise, from one random number.
fn categorical(weights: &[f64], uniform: f64) -> usize {
    let stop = uniform * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let passes = |weight: &f64| {
        sum += weight;
        sum > stop
    };
    weights.iter().position(passes).unwrap_or(weights.len() - 1)
}

/// Returns the index of the largest weight, the first one among equals.
fn argmax(weights: &[f64]) -> usize {
    let larger = |best: usize, at: usize| if weights[at] > weights[best] { at } else { best };
    (0..weights.len()).fold(0, larger)
}
