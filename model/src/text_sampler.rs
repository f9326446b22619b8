//! Text by semi-autoregressive blocks: draw every masked position, keep the surest (`mmada.md` 6.1).
//!
//! The head is computed for the masked positions of the active block only. A row's noise comes from its own seed, so
//! its sample does not depend on its companions in the batch. Legend: B rows, L positions, N drawn positions, V vocabulary.

#![allow(non_snake_case)]

use demask_api::{Remasking, Sample, SampleFrame, SampleRequest, TextSampler};
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::attention_mask::AttentionMask;
use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::noise::row_rng;

/// Where ours and the published sampler differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// The mask token and picture codes are never written; a row whose block ends in nothing but end-of-text is done.
    #[default]
    Ours,
    /// The arg-max runs over the whole vocabulary and every block is computed.
    Published,
}

/// One row on its way.
struct Row {
    ids: Vec<u32>,
    rng: ChaCha8Rng,
    commit_step: Vec<u16>,
    confidence: Vec<f32>,
    guess: Vec<f32>,
    forwards: usize,
    done: bool,
}

/// What was drawn at one position.
struct Draw {
    row: usize,
    at: usize,
    token: u32,
    probability: f64,
    rank: f64,
}

/// Completes rows of one length whose targets have one length.
///
/// # Errors
/// A target that is not a multiple of the block, steps that are not a multiple of the blocks; libtorch's.
pub fn sample_text(
    backbone: &Backbone,
    requests: &[SampleRequest],
    sampler: &TextSampler,
    rules: Rules,
    on_frame: &mut dyn FnMut(SampleFrame),
) -> Result<Vec<Sample>> {
    let length = requests.first().map_or(0, |request| request.target.len());
    let (blocks, steps) = plan(length, sampler)?;
    let mut rows: Vec<Row> = requests.iter().map(|request| Row::new(request, length)).collect();
    for block in 0..blocks {
        let window = block * sampler.block..(block + 1) * sampler.block;
        let counts: Vec<Vec<usize>> = rows
            .iter()
            .zip(requests)
            .map(|(row, request)| transfer_counts(row.masked(backbone, request, &window).len(), steps))
            .collect();
        for step in 0..steps {
            let number = block * steps + step;
            let draws = draw(backbone, requests, &mut rows, sampler, rules, &window)?;
            if draws.is_empty() {
                break;
            }
            commit(&mut rows, requests, draws, &counts, step, number);
            for (row, request) in rows.iter().zip(requests).filter(|(_, request)| request.watch) {
                on_frame(row.frame(request, number, blocks * steps));
            }
        }
        if rules == Rules::Ours {
            finish_early(backbone, &mut rows, requests, &window, (block + 1) * steps - 1);
        }
    }
    Ok(rows
        .into_iter()
        .zip(requests)
        .map(|(row, request)| row.finish(request))
        .collect())
}

/// Blocks and steps a block.
fn plan(length: usize, sampler: &TextSampler) -> Result<(usize, usize)> {
    if sampler.block == 0 || length == 0 || !length.is_multiple_of(sampler.block) {
        let message = format!(
            "a length of {length} tokens is not a multiple of the block length {}",
            sampler.block
        );
        return Err(ModelError::Refused(message));
    }
    let blocks = length / sampler.block;
    if sampler.steps == 0 || !sampler.steps.is_multiple_of(blocks) {
        let message = format!(
            "{} steps cannot be divided among {blocks} blocks evenly",
            sampler.steps
        );
        return Err(ModelError::Refused(message));
    }
    Ok((blocks, sampler.steps / blocks))
}

/// How many positions are kept at each step: the remainder goes to the first steps.
#[must_use]
pub fn transfer_counts(masked: usize, steps: usize) -> Vec<usize> {
    (0..steps)
        .map(|step| masked / steps + usize::from(step < masked % steps))
        .collect()
}

impl Row {
    fn new(request: &SampleRequest, length: usize) -> Self {
        Self {
            ids: request.ids.clone(),
            rng: row_rng(request.seed, 0),
            commit_step: vec![0; length],
            confidence: vec![0.0; length],
            guess: vec![0.0; length],
            forwards: 0,
            done: false,
        }
    }

    /// The masked positions of a window of the target, counted from the target's start.
    fn masked(
        &self,
        backbone: &Backbone,
        request: &SampleRequest,
        window: &std::ops::Range<usize>,
    ) -> Vec<usize> {
        let mask_token = backbone.config().mask_token_id;
        window
            .clone()
            .filter(|at| !self.done && self.ids[request.target.start + at] == mask_token)
            .collect()
    }

    fn frame(&self, request: &SampleRequest, step: usize, steps: usize) -> SampleFrame {
        SampleFrame {
            id: request.id,
            step,
            steps,
            tokens: self.ids[request.target.start..request.target.end].to_vec(),
            confidence: self.guess.iter().map(|&value| byte(value)).collect(),
            picture: None,
        }
    }

    fn finish(self, request: &SampleRequest) -> Sample {
        let Self {
            ids,
            commit_step,
            confidence,
            forwards,
            ..
        } = self;
        Sample {
            id: request.id,
            ids,
            commit_step,
            confidence,
            forwards,
            picture: None,
        }
    }
}

/// A probability as a byte.
#[must_use]
pub fn byte(value: f32) -> u8 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let byte = (value.clamp(0.0, 1.0) * 255.0).round() as u8;
    byte
}

fn draw(
    backbone: &Backbone,
    requests: &[SampleRequest],
    rows: &mut [Row],
    sampler: &TextSampler,
    rules: Rules,
    window: &std::ops::Range<usize>,
) -> Result<Vec<Draw>> {
    let wanted: Vec<(usize, usize)> = rows
        .iter()
        .zip(requests)
        .enumerate()
        .flat_map(|(number, (row, request))| {
            row.masked(backbone, request, window)
                .into_iter()
                .map(move |at| (number, at))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let active: Vec<usize> = unique_rows(&wanted);
    for &number in &active {
        rows[number].forwards += 1;
    }
    let logits_NV = logits(backbone, requests, rows, &active, &wanted, sampler.guidance)?;
    let width = logits_NV.size()[1] as usize;
    let values: Vec<f32> = Vec::<f32>::try_from(logits_NV.f_flatten(0, 1)?)?;
    let allowed = Allowed::new(backbone, rules);
    wanted
        .into_iter()
        .zip(values.chunks_exact(width))
        .map(|((row, at), logits)| {
            let rng = &mut rows[row].rng;
            let (token, probability) = choose(logits, &allowed, sampler.temperature, rng);
            finite(probability)?;
            rows[row].guess[at] = probability as f32;
            let rank = match sampler.remasking {
                Remasking::LowConfidence => probability,
                Remasking::Random => rows[row].rng.random(),
            };
            Ok(Draw {
                row,
                at,
                token,
                probability,
                rank,
            })
        })
        .collect()
}

/// Refuses to go on with logits that are no numbers: one of them makes every probability of its position none.
///
/// # Errors
/// [`ModelError::Refused`].
pub fn finite(probability: f64) -> Result<()> {
    if probability.is_finite() {
        return Ok(());
    }
    Err(ModelError::Refused(
        "the model's logits are not finite: its weights are broken; go back to a checkpoint".into(),
    ))
}

fn unique_rows(wanted: &[(usize, usize)]) -> Vec<usize> {
    let mut rows: Vec<usize> = wanted.iter().map(|&(row, _)| row).collect();
    rows.dedup();
    rows
}

/// Logits at the wanted positions, [N, V] f32 on the CPU, with guidance where asked.
fn logits(
    backbone: &Backbone,
    requests: &[SampleRequest],
    rows: &[Row],
    active: &[usize],
    wanted: &[(usize, usize)],
    guidance: f64,
) -> Result<Tensor> {
    let mut ids: Vec<Vec<u32>> = active.iter().map(|&number| rows[number].ids.clone()).collect();
    let mut pads: Vec<usize> = active.iter().map(|&number| requests[number].left_pad).collect();
    if guidance != 0.0 {
        for &number in active {
            ids.push(unconditional(backbone, &requests[number], &rows[number].ids));
            pads.push(requests[number].unconditional_left_pad);
        }
    }
    let length = ids.first().map_or(0, Vec::len);
    let place = |half: usize| -> Vec<i64> {
        wanted
            .iter()
            .map(|&(row, at)| {
                let line = active.iter().position(|&number| number == row).unwrap_or(0) + half * active.len();
                (line * length + requests[row].target.start + at) as i64
            })
            .collect()
    };
    tch::no_grad(|| {
        let flat: Vec<i64> = ids.iter().flatten().map(|&id| i64::from(id)).collect();
        let ids_BL = Tensor::f_from_slice(&flat)?.f_view([ids.len() as i64, length as i64])?;
        let mask = AttentionMask::from_left_pads(&pads, length)?;
        let hidden = backbone
            .hidden(&ids_BL.f_to_device(backbone.device())?, &mask)?
            .f_flatten(0, 1)?;
        let head = |half: usize| -> Result<Tensor> {
            let index_N = Tensor::f_from_slice(&place(half))?.f_to_device(backbone.device())?;
            let logits = backbone.head(&hidden.f_index_select(0, &index_N)?, None)?;
            Ok(logits.f_to_kind(Kind::Float)?.f_to_device(tch::Device::Cpu)?)
        };
        let conditional = head(0)?;
        if guidance == 0.0 {
            return Ok(conditional);
        }
        let unconditional = head(1)?;
        let towards = conditional.f_sub(&unconditional)?.f_mul_scalar(guidance + 1.0)?;
        Ok(unconditional.f_add(&towards)?)
    })
}

/// The unconditional row: the caller's with the present target, or the present one with its prompt masked.
fn unconditional(backbone: &Backbone, request: &SampleRequest, ids: &[u32]) -> Vec<u32> {
    let target = request.target.start..request.target.end;
    match &request.unconditional {
        Some(given) => {
            let mut line = given.clone();
            line[target.clone()].copy_from_slice(&ids[target]);
            line
        }
        None => {
            let mask_token = backbone.config().mask_token_id;
            ids.iter()
                .enumerate()
                .map(|(at, &id)| if target.contains(&at) { id } else { mask_token })
                .collect()
        }
    }
}

/// Which token ids may be written.
struct Allowed {
    mask_token: usize,
    end: usize,
    all: bool,
}

impl Allowed {
    fn new(backbone: &Backbone, rules: Rules) -> Self {
        let config = backbone.config();
        let end = if config.codebook_size > 0 {
            config.image_offset() as usize
        } else {
            config.rows()
        };
        Self {
            mask_token: config.mask_token_id as usize,
            end,
            all: rules == Rules::Published,
        }
    }

    fn has(&self, id: usize) -> bool {
        self.all || (id < self.end && id != self.mask_token)
    }
}

/// Draws a token: the arg-max at temperature 0, else from softmax(logits / T), which is what the arg-max of logits plus
/// T times Gumbel noise draws. Its confidence is its probability without temperature over the whole vocabulary.
fn choose(logits: &[f32], allowed: &Allowed, temperature: f64, rng: &mut ChaCha8Rng) -> (u32, f64) {
    let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let token = if temperature <= 0.0 {
        let mut best = (0, f32::NEG_INFINITY);
        for (id, &value) in logits.iter().enumerate() {
            if value > best.1 && allowed.has(id) {
                best = (id, value);
            }
        }
        best.0
    } else {
        let kept = || logits.iter().enumerate().filter(|(id, _)| allowed.has(*id));
        // Measured from the best that may be written, so that a cold draw does not vanish below one that may not.
        let best = kept().map(|(_, &value)| value).fold(f32::NEG_INFINITY, f32::max);
        let weight = |value: f32| (f64::from(value - best) / temperature).exp();
        let sum: f64 = kept().map(|(_, &value)| weight(value)).sum();
        let mut left = rng.random::<f64>() * sum;
        let mut chosen = 0;
        for (id, &value) in kept() {
            chosen = id;
            left -= weight(value);
            if left < 0.0 {
                break;
            }
        }
        chosen
    };
    let sum: f64 = logits.iter().map(|&value| f64::from(value - top).exp()).sum();
    (token as u32, f64::from(logits[token] - top).exp() / sum)
}

/// Keeps the best-ranked draws of each row; ties go to the earlier position.
fn commit(
    rows: &mut [Row],
    requests: &[SampleRequest],
    mut draws: Vec<Draw>,
    counts: &[Vec<usize>],
    step: usize,
    number: usize,
) {
    draws.sort_by(|a, b| {
        a.row
            .cmp(&b.row)
            .then(b.rank.total_cmp(&a.rank))
            .then(a.at.cmp(&b.at))
    });
    let mut kept = vec![0; rows.len()];
    for draw in draws {
        if kept[draw.row] == counts[draw.row][step] {
            continue;
        }
        kept[draw.row] += 1;
        let row = &mut rows[draw.row];
        row.ids[requests[draw.row].target.start + draw.at] = draw.token;
        row.commit_step[draw.at] = u16::try_from(number).unwrap_or(u16::MAX);
        row.confidence[draw.at] = draw.probability as f32;
    }
}

/// A row whose whole last block is end-of-text or padding has nothing more to say: what is still masked is filled with it.
fn finish_early(
    backbone: &Backbone,
    rows: &mut [Row],
    requests: &[SampleRequest],
    window: &std::ops::Range<usize>,
    number: usize,
) {
    let (eos, mask_token) = (backbone.config().eos_token_id, backbone.config().mask_token_id);
    for (row, request) in rows.iter_mut().zip(requests) {
        let target = &mut row.ids[request.target.start..request.target.end];
        if row.done || target[window.clone()].iter().any(|&id| id != eos) {
            continue;
        }
        for (at, id) in target.iter_mut().enumerate().skip(window.end) {
            if *id == mask_token {
                *id = eos;
                row.confidence[at] = 1.0;
                row.commit_step[at] = u16::try_from(number).unwrap_or(u16::MAX);
            }
        }
        row.done = true;
    }
}
