//! Pictures by MaskGIT: draw every unknown code, keep the surest, with a cosine schedule and guidance (`mmada.md` 6.2).
//!
//! The head is computed for the picture's positions and the code columns only. Probabilities are f32 whatever the compute
//! dtype. The temperature falls as T (1 - progress); the published code multiplies it up, see `mmada.md` 6.2 item 5.
//! Legend: B rows, L positions, N code positions, K codes.

#![allow(non_snake_case)]

use demask_api::{ImageSampler, MaskSchedule, Sample, SampleFrame, SampleRequest};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::attention_mask::AttentionMask;
use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::noise::row_rng;
use crate::text_sampler::{byte, finite};

/// How many of `unknown` codes stay masked after step `step` (from 0) of `steps`.
#[must_use]
pub fn mask_len(schedule: MaskSchedule, unknown: usize, step: usize, steps: usize) -> usize {
    let progress = (step + 1) as f64 / steps.max(1) as f64;
    let ratio = match schedule {
        MaskSchedule::Cosine => (std::f64::consts::FRAC_PI_2 * progress).cos(),
        MaskSchedule::Linear => 1.0 - progress,
    };
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let count = (unknown as f64 * ratio).floor().max(0.0) as usize;
    count
}

struct Row {
    ids: Vec<u32>,
    rng: ChaCha8Rng,
    unknown_at_start: usize,
    /// Every position filled with the present guess.
    guess: Vec<u32>,
    commit_step: Vec<u16>,
    confidence: Vec<f32>,
}

/// Completes rows of one length whose targets have one length. Frames carry the present guess of every code in
/// `guess_of`, so that the caller can decode it.
///
/// # Errors
/// No steps, a model without picture codes; libtorch's.
pub fn sample_image(
    backbone: &Backbone,
    requests: &[SampleRequest],
    sampler: &ImageSampler,
    on_frame: &mut dyn FnMut(SampleFrame, &[u32]) -> Result<()>,
) -> Result<Vec<Sample>> {
    let config = backbone.config();
    if sampler.steps == 0 || config.codebook_size == 0 {
        let message = format!(
            "{} steps over {} picture codes: both must be at least 1",
            sampler.steps, config.codebook_size
        );
        return Err(ModelError::Refused(message));
    }
    let length = requests.first().map_or(0, |request| request.target.len());
    let mut rows: Vec<Row> = requests
        .iter()
        .map(|request| Row::new(backbone, request))
        .collect();
    for step in 0..sampler.steps {
        let logits_BNK = logits(backbone, requests, &rows, length, sampler.guidance)?;
        let codes = logits_BNK.size()[2] as usize;
        let values: Vec<f32> = Vec::<f32>::try_from(logits_BNK.f_flatten(0, 2)?)?;
        for (number, (row, request)) in rows.iter_mut().zip(requests).enumerate() {
            let logits = &values[number * length * codes..(number + 1) * length * codes];
            advance(backbone, row, request, logits, codes, sampler, step)?;
            if request.watch {
                on_frame(row.frame(request, step, sampler.steps), &row.guess)?;
            }
        }
    }
    Ok(rows
        .into_iter()
        .zip(requests)
        .map(|(row, request)| row.finish(request, sampler.steps))
        .collect())
}

impl Row {
    fn new(backbone: &Backbone, request: &SampleRequest) -> Self {
        let target = &request.ids[request.target.start..request.target.end];
        let mask_token = backbone.config().mask_token_id;
        Self {
            ids: request.ids.clone(),
            rng: row_rng(request.seed, 0),
            unknown_at_start: target.iter().filter(|&&id| id == mask_token).count(),
            guess: target.to_vec(),
            commit_step: vec![0; target.len()],
            confidence: vec![1.0; target.len()],
        }
    }

    fn frame(&self, request: &SampleRequest, step: usize, steps: usize) -> SampleFrame {
        SampleFrame {
            id: request.id,
            step,
            steps,
            tokens: self.ids[request.target.start..request.target.end].to_vec(),
            confidence: self.confidence.iter().map(|&value| byte(value)).collect(),
            picture: None,
        }
    }

    fn finish(mut self, request: &SampleRequest, steps: usize) -> Sample {
        self.ids[request.target.start..request.target.end].copy_from_slice(&self.guess);
        Sample {
            id: request.id,
            ids: self.ids,
            commit_step: self.commit_step,
            confidence: self.confidence,
            forwards: steps,
            picture: None,
        }
    }
}

/// Code logits at every target position, [B, N, K] f32 on the CPU.
fn logits(
    backbone: &Backbone,
    requests: &[SampleRequest],
    rows: &[Row],
    length: usize,
    guidance: f64,
) -> Result<Tensor> {
    let mut ids: Vec<Vec<u32>> = rows.iter().map(|row| row.ids.clone()).collect();
    let mut pads: Vec<usize> = requests.iter().map(|request| request.left_pad).collect();
    if guidance != 0.0 {
        for (row, request) in rows.iter().zip(requests) {
            let target = request.target.start..request.target.end;
            let mut line = request.unconditional.clone().unwrap_or_else(|| row.ids.clone());
            line[target.clone()].copy_from_slice(&row.ids[target]);
            ids.push(line);
            pads.push(request.unconditional_left_pad);
        }
    }
    let total = ids.first().map_or(0, Vec::len);
    let index: Vec<i64> = (0..ids.len())
        .flat_map(|line| {
            let start = requests[line % requests.len()].target.start;
            (start..start + length).map(move |at| (line * total + at) as i64)
        })
        .collect();
    let config = backbone.config();
    let first = i64::from(config.image_offset());
    tch::no_grad(|| {
        let flat: Vec<i64> = ids.iter().flatten().map(|&id| i64::from(id)).collect();
        let ids_BL = Tensor::f_from_slice(&flat)?.f_view([ids.len() as i64, total as i64])?;
        let mask = AttentionMask::from_left_pads(&pads, total)?;
        let hidden = backbone
            .hidden(&ids_BL.f_to_device(backbone.device())?, &mask)?
            .f_flatten(0, 1)?;
        let index = Tensor::f_from_slice(&index)?.f_to_device(backbone.device())?;
        let columns = Some((first, first + config.codebook_size as i64));
        let logits = backbone
            .head(&hidden.f_index_select(0, &index)?, columns)?
            .f_to_kind(Kind::Float)?;
        let logits = logits
            .f_to_device(tch::Device::Cpu)?
            .f_view([ids.len() as i64, length as i64, -1])?;
        if guidance == 0.0 {
            return Ok(logits);
        }
        let half = requests.len() as i64;
        let conditional = logits.f_narrow(0, 0, half)?.f_mul_scalar(1.0 + guidance)?;
        Ok(conditional.f_sub(&logits.f_narrow(0, half, half)?.f_mul_scalar(guidance)?)?)
    })
}

/// One step of one row: draw the unknown, keep the surest.
fn advance(
    backbone: &Backbone,
    row: &mut Row,
    request: &SampleRequest,
    logits: &[f32],
    codes: usize,
    sampler: &ImageSampler,
    step: usize,
) -> Result<()> {
    let config = backbone.config();
    let target = request.target.start..request.target.end;
    let progress = (step + 1) as f64 / sampler.steps as f64;
    let temperature = sampler.temperature * (1.0 - progress);
    let mut scores: Vec<(f64, usize)> = Vec::new();
    for (at, logits) in logits.chunks_exact(codes).enumerate() {
        if row.ids[target.start + at] != config.mask_token_id {
            continue;
        }
        let (code, probability) = multinomial(logits, &mut row.rng);
        finite(probability)?;
        row.guess[at] = config.image_offset() + code;
        row.confidence[at] = probability as f32;
        let (u, v): (f64, f64) = (row.rng.random::<f64>().max(1e-20), 1e-20);
        let gumbel = -(-u.ln()).max(v).ln();
        scores.push((probability.max(1e-20).ln() + temperature * gumbel, at));
    }
    if scores.is_empty() {
        return Ok(());
    }
    let wanted = mask_len(sampler.schedule, row.unknown_at_start, step, sampler.steps);
    let stay = wanted.max(1).min(scores.len() - 1);
    scores.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
    for &(_, at) in scores.iter().skip(stay) {
        row.ids[target.start + at] = row.guess[at];
        row.commit_step[at] = u16::try_from(step).unwrap_or(u16::MAX);
    }
    if step + 1 == sampler.steps {
        for &(_, at) in scores.iter().take(stay) {
            row.commit_step[at] = u16::try_from(step).unwrap_or(u16::MAX);
        }
    }
    Ok(())
}

/// Draws a code from softmax(logits); returns it and its probability.
fn multinomial(logits: &[f32], rng: &mut ChaCha8Rng) -> (u32, f64) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weight = |value: f32| f64::from(value - top).exp();
    let sum: f64 = logits.iter().map(|&value| weight(value)).sum();
    let mut left = rng.random::<f64>() * sum;
    let mut chosen = logits.len() - 1;
    for (code, &value) in logits.iter().enumerate() {
        left -= weight(value);
        if left < 0.0 {
            chosen = code;
            break;
        }
    }
    (chosen as u32, weight(logits[chosen]) / sum)
}
