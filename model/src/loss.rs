//! The unified masked-denoising loss, at masked positions only, in chunks (`mmada.md` 3.3).
//!
//! The hidden states of masked positions are gathered first; the head then sees [`CHUNK`] of them at a time, and each
//! chunk's gradient is taken before the next one's logits exist, so that logits never reach positions x vocabulary.
//! Legend: B rows, L positions, N masked positions, D width, V vocabulary.

#![allow(non_snake_case)]

use demask_api::{LossNormalization, Task};
use tch::{Kind, Tensor};

use crate::attention_mask::AttentionMask;
use crate::backbone::Backbone;
use crate::error::Result;
use crate::fused;

/// Masked positions whose logits exist at one time.
pub const CHUNK: i64 = 4096;

/// One row of a loss: clean labels at masked positions, each with its weight.
#[derive(Clone, Debug)]
pub struct LossRow {
    /// Noised ids.
    pub ids: Vec<u32>,
    /// Leading padding.
    pub left_pad: usize,
    /// For each masked position: where, which token was there, its weight in the sum.
    pub targets: Vec<(usize, u32, f32)>,
}

/// Rows as tensors.
#[derive(Debug)]
pub struct Gathered {
    /// Hidden states at the targets, [N, D].
    pub x_ND: Tensor,
    /// Labels, [N].
    pub labels_N: Tensor,
    /// Weights, [N], f32.
    pub weights_N: Tensor,
}

/// Tokens that one forward pass with gradients takes at most (but always a row).
pub const FORWARD_TOKENS: usize = 16_384;

/// Rows that go through the backbone together, as indices: alike in length, so that little is computed on padding, and no
/// more than [`FORWARD_TOKENS`] tokens. A function of the rows' lengths alone (L7, L8).
#[must_use]
pub fn alike(rows: &[LossRow]) -> Vec<Vec<usize>> {
    let real = |at: usize| rows[at].ids.len() - rows[at].left_pad;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| real(at));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in order {
        let open = groups.last_mut().filter(|group| {
            2 * real(at) <= 3 * real(group[0]) && (group.len() + 1) * real(at) <= FORWARD_TOKENS
        });
        match open {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// Runs the backbone on rows, each cut or filled at its front to the longest one's real tokens, and gathers the hidden
/// states at the targets.
///
/// # Errors
/// libtorch's.
pub fn gather(backbone: &Backbone, rows: &[LossRow]) -> Result<Gathered> {
    let device = backbone.device();
    let real = |row: &LossRow| row.ids.len() - row.left_pad;
    let length = rows.iter().map(real).max().unwrap_or(0);
    let fill = i64::from(backbone.config().pad_token_id);
    let pads: Vec<usize> = rows.iter().map(|row| length - real(row)).collect();
    let ids: Vec<i64> = rows
        .iter()
        .zip(&pads)
        .flat_map(|(row, &pad)| {
            let real = row.ids[row.left_pad..].iter().map(|&id| i64::from(id));
            std::iter::repeat_n(fill, pad).chain(real)
        })
        .collect();
    let ids_BL = Tensor::f_from_slice(&ids)?
        .f_view([rows.len() as i64, length as i64])?
        .f_to_device(device)?;
    let hidden_BLD = backbone.hidden(&ids_BL, &AttentionMask::from_left_pads(&pads, length)?)?;
    let (mut flat, mut labels, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for (number, row) in rows.iter().enumerate() {
        for &(at, label, weight) in &row.targets {
            flat.push(((number + 1) * length + at - row.ids.len()) as i64);
            labels.push(i64::from(label));
            weights.push(weight);
        }
    }
    let index_N = Tensor::f_from_slice(&flat)?.f_to_device(device)?;
    let x_ND = hidden_BLD.f_flatten(0, 1)?.f_index_select(0, &index_N)?;
    let labels_N = Tensor::f_from_slice(&labels)?.f_to_device(device)?;
    let weights_N = Tensor::f_from_slice(&weights)?.f_to_device(device)?;
    Ok(Gathered {
        x_ND,
        labels_N,
        weights_N,
    })
}

/// Log-probability of each label, [N] f32, for a chunk of hidden states.
///
/// # Errors
/// libtorch's.
pub fn log_probs(backbone: &Backbone, x_ND: &Tensor, labels_N: &Tensor) -> Result<Tensor> {
    fused::label_log_prob(&backbone.head(x_ND, None)?, labels_N)
}

/// Adds the gradient of `sum(f(log p, chunk))` to the leaves, chunk by chunk, and returns the sum of what `f` gave.
///
/// `f` maps a chunk's log-probabilities (with gradient) and its range to a scalar loss.
///
/// # Errors
/// libtorch's.
pub fn backward_chunks(
    backbone: &Backbone,
    gathered: &Gathered,
    mut f: impl FnMut(&Tensor, i64, i64) -> Result<Tensor>,
) -> Result<f64> {
    let count = gathered.x_ND.size()[0];
    if count == 0 {
        return Ok(0.0);
    }
    if count <= CHUNK {
        let loss = f(
            &log_probs(backbone, &gathered.x_ND, &gathered.labels_N)?,
            0,
            count,
        )?;
        loss.f_backward()?;
        return Ok(loss.f_double_value(&[])?);
    }
    let x_ND = gathered.x_ND.f_detach()?.f_set_requires_grad(true)?;
    let (mut total, mut at) = (0.0, 0);
    while at < count {
        let length = CHUNK.min(count - at);
        let labels_N = gathered.labels_N.f_narrow(0, at, length)?;
        let loss = f(
            &log_probs(backbone, &x_ND.f_narrow(0, at, length)?, &labels_N)?,
            at,
            length,
        )?;
        loss.f_backward()?;
        total += loss.f_double_value(&[])?;
        at += length;
    }
    let carried = gathered.x_ND.f_mul(&x_ND.f_grad()?)?.f_sum(Kind::Float)?;
    carried.f_backward()?;
    Ok(total)
}

/// The weight of one masked position: what makes the sum over targets the published loss of the task.
///
/// `masked`: masked positions of the task in the micro-batch (pictures are a plain mean over them); `p`: the row's mask
/// probability; `answers`: what the answers of the task are divided by, from [`answer_divisor`].
#[must_use]
pub fn position_weight(task: Task, masked: usize, p: f64, answers: f64) -> f64 {
    match task {
        Task::TextToImage => 1.0 / masked.max(1) as f64,
        Task::Text | Task::Understand | Task::ThinkThenDraw => 1.0 / (p * answers.max(1.0)),
    }
}

/// What a row's loss is divided by: the number of `rows` times its own `answer` length, or the length of `all` the
/// task's answers together.
#[must_use]
pub fn answer_divisor(normalization: LossNormalization, rows: usize, answer: usize, all: usize) -> f64 {
    match normalization {
        LossNormalization::Sequence => rows as f64 * answer as f64,
        LossNormalization::Token => all as f64,
    }
}
