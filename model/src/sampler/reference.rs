//! The two sampling loops as the papers write them: one row, a whole forward pass a step, no cache. Read this first.
//!
//! [`text`] is LLaDA's `generate` (arXiv 2502.09992, algorithms 4 and 5): semi-autoregressive blocks, low-confidence remasking.
//! [`image`] is MaskGIT's decoding (arXiv 2202.04200) as MMaDA has it (`mmada.md` 6.2). The samplers that serve
//! (`text.rs`, `image.rs`, `batching/`) do the same with caches, other rules and other rows beside; `tests/model/sampling/samplers.rs` holds them to
//! these token for token, from the same noise. Nothing serves from here: every logit goes to the host.

use std::ops::Range;

use demask_api::{ImageSampler, SampleRequest, TextSampler};
use rand::Rng as _;
use tch::Tensor;

use super::schedule::{mask_len, transfer_counts};
use crate::device::transfer;
use crate::error::Result;
use crate::network::attention_mask::AttentionMask;
use crate::network::backbone::Backbone;
use crate::training::mask_sampling::row_rng;

/// Text: the whole row with its target filled. Of the settings it knows `steps` (divided evenly among blocks), `block`,
/// `temperature` and `guidance`; the others are taken as their defaults.
///
/// # Errors
/// Padding without a token behind it; libtorch's.
pub fn text(backbone: &Backbone, request: &SampleRequest, sampler: &TextSampler) -> Result<Vec<u32>> {
    let config = backbone.config();
    let (mask_token, eos) = (config.mask_token_id, config.eos_token_id);
    // Only text may be written, and no mask token.
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
                // The confidence is the model's probability over the whole vocabulary, whatever the temperature.
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
            // Low-confidence remasking: the surest stay, all others are masked again.
            drawn.sort_by(|a, b| b.2.total_cmp(&a.2).then(a.0.cmp(&b.0)));
            for &(at, token, _) in drawn.iter().take(transfer_tokens) {
                ids[at] = token;
            }
        }
        if ids[window.clone()].iter().all(|&id| id == eos) {
            // A block of nothing but end-of-text has nothing behind it.
            for at in masked(&ids, &(window.end..target.end), mask_token) {
                ids[at] = eos;
            }
            break;
        }
    }
    Ok(ids)
}

/// A picture's codes: the whole row with its target filled. Of the settings it knows `steps`, `temperature`, `guidance` and
/// `schedule`; the others are taken as their defaults.
///
/// # Errors
/// Padding without a token behind it; libtorch's.
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
            // Codes are drawn from their probabilities as they are; the temperature is that of the order alone.
            let p = softmax(&logits[at], codes.clone(), 1.0);
            let code = categorical(&p, uniform(&mut rng));
            let gumbel = -(-rng.random::<f64>().max(1e-20).ln()).max(1e-20).ln();
            let confidence = p[code].max(1e-20).ln() + temperature * gumbel;
            drawn.push((at, (first_code + code) as u32, confidence));
        }
        // As many as the schedule says are masked again, the least sure: one at least, and never all.
        let mask_len = mask_len(sampler.schedule, unknown, step, sampler.steps);
        let stay_masked = mask_len.max(1).min(drawn.len() - 1);
        drawn.sort_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)));
        // After the last step nothing does: what it drew is the picture's.
        let last = step + 1 == sampler.steps;
        for &(at, code, _) in drawn.iter().skip(if last { 0 } else { stay_masked }) {
            ids[at] = code;
        }
    }
    Ok(ids)
}

/// The masked positions of a part of the row.
fn masked(ids: &[u32], window: &Range<usize>, mask_token: u32) -> Vec<usize> {
    window.clone().filter(|&at| ids[at] == mask_token).collect()
}

/// Logits of every position: `u + (w + 1)(c - u)` with the conditional ones c and, if the guidance scale w is not 0, the
/// unconditional ones u.
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
    // The unconditional row: the given one, or one whose prompt is masked, with the present target.
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

/// Logits of every position of a row, over the whole vocabulary.
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

/// Probabilities of some columns at a temperature.
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

/// A uniform number, in f32 as the samplers hand it to a device.
fn uniform(rng: &mut impl rand::Rng) -> f64 {
    #[allow(clippy::cast_possible_truncation)]
    let single = rng.random::<f64>() as f32;
    f64::from(single)
}

/// The column at which the running sum passes the uniform share of the whole: what the arg-max of log-weights plus Gumbel noise
/// draws, from one number.
fn categorical(weights: &[f64], uniform: f64) -> usize {
    let stop = uniform * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let passes = |weight: &f64| {
        sum += weight;
        sum > stop
    };
    weights.iter().position(passes).unwrap_or(weights.len() - 1)
}

/// The first of the largest.
fn argmax(weights: &[f64]) -> usize {
    let larger = |best: usize, at: usize| if weights[at] > weights[best] { at } else { best };
    (0..weights.len()).fold(0, larger)
}
