//! The unified masked-denoising loss (`mmada.md` 3.3), computed in chunks of the masked positions.
//!
//! The hidden states of all masked positions are gathered first. The head is then applied to one chunk of
//! them at a time (`network/room.rs` sets its size), and the backward pass of a chunk runs before the logits
//! of the next chunk exist. The logits of all positions therefore never exist together.
//!
//! Legend: B rows, L positions, N masked positions, D width, V vocabulary.

#![allow(non_snake_case)]

use demask_api::{LossNormalization, Task};
use tch::{Kind, Tensor};

use crate::device::kernels::fused;
use crate::device::transfer::{self, Arrived, Packet};
use crate::error::Result;
use crate::network::attention_mask::AttentionMask;
use crate::network::backbone::Backbone;
use crate::network::full_forward::FullPass;
use crate::training::recompute::{self, KeptInputs};

/// One row of a loss: a noised sequence, with the label and the weight of each masked position.
#[derive(Clone, Debug)]
pub struct LossRow {
    /// The noised token ids.
    pub ids: Vec<u32>,
    /// The number of leading positions that are padding.
    pub left_pad: usize,
    /// For each masked position: the position, the clean token and its weight in the sum.
    pub targets: Vec<(usize, u32, f32)>,
}

/// The targets of some rows as tensors.
#[derive(Debug)]
pub struct Gathered {
    /// The hidden states at the targets, [N, D].
    pub x_ND: Tensor,
    /// The labels, [N].
    pub labels_N: Tensor,
    /// The weights, [N], f32.
    pub weights_N: Tensor,
    /// The inputs from which the backward pass computes the blocks again, if it recomputes.
    pub kept: Option<KeptInputs>,
}

/// Groups rows for shared passes through the backbone, as indices.
///
/// The rows of a group have similar lengths, so that little is computed on padding, and at most `most` tokens
/// together. The groups depend on nothing but the lengths of the rows and `most` (L7, L8).
#[must_use]
pub fn alike(rows: &[LossRow], most: usize) -> Vec<Vec<usize>> {
    let real = |at: usize| rows[at].ids.len() - rows[at].left_pad;
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| real(at));
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for at in order {
        let open = groups
            .last_mut()
            .filter(|group| 2 * real(at) <= 3 * real(group[0]) && (group.len() + 1) * real(at) <= most);
        match open {
            Some(group) => group.push(at),
            None => groups.push(vec![at]),
        }
    }
    groups
}

/// Runs the backbone on rows and gathers the hidden states at the targets. Where rows are not packed, the
/// left padding of each is set so that all have the length of the longest row without padding.
///
/// # Errors
/// Any error libtorch reports.
pub fn gather(backbone: &Backbone, rows: &[LossRow]) -> Result<Gathered> {
    Ok(gather_with(backbone, rows, Packet::new())?.0)
}

/// Gathers as [`gather`] does. The rows are added to the packet, which is sent to the device in one copy
/// before the forward pass, with whatever it already holds.
///
/// # Errors
/// Any error libtorch reports.
pub fn gather_with(backbone: &Backbone, rows: &[LossRow], packet: Packet) -> Result<(Gathered, Arrived)> {
    gather_keeping(backbone, rows, packet, false)
}

/// Gathers as [`gather_with`] does, for a later backward pass by [`descend`]. If the backbone's
/// [`Room`](crate::network::room::Room) requires it, the backward pass computes the blocks again.
///
/// # Errors
/// Any error libtorch reports.
pub fn gather_to_descend(
    backbone: &Backbone,
    rows: &[LossRow],
    packet: Packet,
) -> Result<(Gathered, Arrived)> {
    gather_keeping(backbone, rows, packet, backbone.room().recomputes())
}

fn gather_keeping(
    backbone: &Backbone,
    rows: &[LossRow],
    packet: Packet,
    recomputes: bool,
) -> Result<(Gathered, Arrived)> {
    let (pass, targets) = plan(backbone, rows, packet)?;
    let (hidden, kept) = if recomputes {
        let (hidden, kept) = recompute::forward(backbone, pass)?;
        (hidden, Some(kept))
    } else {
        (backbone.whole(&pass)?, None)
    };
    targets.gather(&hidden, kept)
}

/// The targets of a pass.
#[derive(Debug)]
pub(crate) struct Targets {
    labels_N: Tensor,
    weights_N: Tensor,
    arrived: Arrived,
}

impl Targets {
    /// Combines the targets with the hidden states of a pass that reads only the targets.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn gather(self, hidden_1ND: &Tensor, kept: Option<KeptInputs>) -> Result<(Gathered, Arrived)> {
        let gathered = Gathered {
            x_ND: hidden_1ND.f_squeeze_dim(0)?,
            labels_N: self.labels_N,
            weights_N: self.weights_N,
            kept,
        };
        Ok((gathered, self.arrived))
    }
}

/// Plans a pass over rows and sends its data to the device, with whatever the packet already holds. Where
/// rows are not packed, the left padding of each is set so that all have the length of the longest row
/// without padding.
///
/// # Errors
/// Any error libtorch reports.
pub(crate) fn plan(backbone: &Backbone, rows: &[LossRow], mut packet: Packet) -> Result<(FullPass, Targets)> {
    let real = |row: &LossRow| row.ids.len() - row.left_pad;
    let length = rows.iter().map(real).max().unwrap_or(0);
    let pads: Vec<usize> = rows.iter().map(|row| length - real(row)).collect();
    backbone.room().admit(rows.len() * length)?;
    let packing = backbone.plan_packing(&pads, length, &mut packet);
    let fill = if packing.is_some() {
        None
    } else {
        Some(backbone.config().pad_token_id)
    };
    let ids = packet.longs(ids(rows, &pads, fill));
    // The index of each target among the computed tokens.
    let mut end = 0;
    let flat = rows.iter().zip(&pads).flat_map(|(row, &pad)| {
        end += real(row) + if fill.is_some() { pad } else { 0 };
        row.targets
            .iter()
            .map(move |&(at, ..)| (end + at - row.ids.len()) as i64)
    });
    let index = packet.longs(flat);
    let each = || rows.iter().flat_map(|row| &row.targets);
    let labels = packet.longs(each().map(|&(_, label, _)| i64::from(label)));
    let weights = packet.floats(each().map(|&(.., weight)| weight));
    let arrived = packet.send(backbone.device())?;
    let ids = arrived.get(ids);
    let pass = match packing {
        Some(packing) => FullPass::of_packed(backbone, &ids, packing.arrive(&arrived, backbone.rotary())?)?,
        None => {
            let ids_BL = ids.f_view([rows.len() as i64, length as i64])?;
            let mask = AttentionMask::from_left_pads(&pads, length)?;
            FullPass::of_rows(backbone, ids_BL, &mask)?
        }
    };
    let pass = pass.reading(arrived.get(index));
    let targets = Targets {
        labels_N: arrived.get(labels),
        weights_N: arrived.get(weights),
        arrived,
    };
    Ok((pass, targets))
}

/// Returns the real tokens of each row. With `fill`, `pads` padding tokens come before them.
fn ids(rows: &[LossRow], pads: &[usize], fill: Option<u32>) -> impl Iterator<Item = i64> {
    rows.iter().zip(pads).flat_map(move |(row, &pad)| {
        let filled = fill.map(|fill| std::iter::repeat_n(fill, pad));
        let real = row.ids[row.left_pad..].iter().copied();
        filled.into_iter().flatten().chain(real).map(i64::from)
    })
}

/// Computes the log-probability of each label, [N] f32, for a chunk of hidden states.
///
/// # Errors
/// Any error libtorch reports.
pub fn log_probs(backbone: &Backbone, x_ND: &Tensor, labels_N: &Tensor) -> Result<Tensor> {
    fused::label_log_prob(&backbone.head(x_ND, None)?, labels_N)
}

/// Adds the gradient of the sum of `f` over all chunks to the leaves, chunk by chunk, and returns that sum.
///
/// `f` maps the log-probabilities of a chunk (with gradient), its start and its length to a scalar loss.
///
/// # Errors
/// Any error libtorch reports.
pub fn backward_chunks(
    backbone: &Backbone,
    gathered: &Gathered,
    mut f: impl FnMut(&Tensor, i64, i64) -> Result<Tensor>,
) -> Result<f64> {
    let mut losses = Vec::new();
    descend(backbone, gathered, |log_probs, at, length| {
        let loss = f(log_probs, at, length)?;
        losses.push(loss.f_detach()?.f_reshape([1])?.f_to_kind(Kind::Double)?);
        Ok(loss)
    })?;
    if losses.is_empty() {
        return Ok(0.0);
    }
    Ok(transfer::read(&Tensor::f_cat(&losses, 0)?)?.into_iter().sum())
}

/// Adds the gradient as [`backward_chunks`] does, without reading anything from the device.
///
/// # Errors
/// Any error libtorch reports.
pub fn descend(
    backbone: &Backbone,
    gathered: &Gathered,
    f: impl FnMut(&Tensor, i64, i64) -> Result<Tensor>,
) -> Result<()> {
    let (count, chunk) = (gathered.x_ND.size()[0], backbone.room().chunk());
    if count == 0 {
        return Ok(());
    }
    let Some(kept) = &gathered.kept else {
        return descend_from_hidden(backbone, gathered, chunk, f);
    };
    // With tied weights, a single backward pass adds the gradients of the head and of the embedding to each
    // other first, and their sum to the accumulated gradient. Here they come from two backward passes. To get
    // the same bits, the accumulated gradient is taken out before the first pass and added after the second.
    let shared = backbone.parameters().leaf(&backbone.head_name())?;
    let shared = (backbone.config().weight_tying && count <= chunk).then(|| shared.grad());
    let aside = shared.filter(Tensor::defined).map(|mut sum| -> Result<_> {
        let before = sum.copy();
        let _ = sum.f_zero_()?;
        Ok((sum, before))
    });
    let aside = aside.transpose()?;
    descend_from_hidden(backbone, gathered, chunk, f)?;
    kept.backward(backbone)?;
    if let Some((mut sum, before)) = aside {
        let _ = sum.f_add_(&before)?;
    }
    Ok(())
}

/// Runs the backward pass down to the hidden states, and on to the leaves if nothing is recomputed.
///
/// With several chunks, the gradient of the hidden states is first collected over all chunks, so that the backward pass
/// through the backbone runs once.
fn descend_from_hidden(
    backbone: &Backbone,
    gathered: &Gathered,
    chunk: i64,
    mut f: impl FnMut(&Tensor, i64, i64) -> Result<Tensor>,
) -> Result<()> {
    let count = gathered.x_ND.size()[0];
    if count <= chunk {
        let log_probs = log_probs(backbone, &gathered.x_ND, &gathered.labels_N)?;
        return Ok(f(&log_probs, 0, count)?.f_backward()?);
    }
    let x_ND = gathered.x_ND.f_detach()?.f_set_requires_grad(true)?;
    let mut at = 0;
    while at < count {
        let length = chunk.min(count - at);
        let labels_N = gathered.labels_N.f_narrow(0, at, length)?;
        let log_probs = log_probs(backbone, &x_ND.f_narrow(0, at, length)?, &labels_N)?;
        f(&log_probs, at, length)?.f_backward()?;
        at += length;
    }
    let carried = gathered.x_ND.f_mul(&x_ND.f_grad()?)?.f_sum(Kind::Float)?;
    Ok(carried.f_backward()?)
}

/// Computes the weight of one masked position, with which the sum over targets is the published loss of the
/// task.
///
/// `masked` is the number of masked positions of the task in the micro-batch; the loss of pictures is the
/// plain mean over them. `p` is the mask probability of the row. `answers` is the divisor from
/// [`answer_divisor`].
#[must_use]
pub fn position_weight(task: Task, masked: usize, p: f64, answers: f64) -> f64 {
    match task {
        Task::TextToImage => 1.0 / masked.max(1) as f64,
        Task::Text | Task::Understand | Task::ThinkThenDraw => 1.0 / (p * answers.max(1.0)),
    }
}

/// Computes the divisor of a row's loss: the number of `rows` times the length of its own `answer`, or `all`, the total
/// length of the task's answers.
#[must_use]
pub fn answer_divisor(normalization: LossNormalization, rows: usize, answer: usize, all: usize) -> f64 {
    match normalization {
        LossNormalization::Sequence => rows as f64 * answer as f64,
        LossNormalization::Token => all as f64,
    }
}
