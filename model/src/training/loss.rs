//! The unified masked-denoising loss, at masked positions only, in chunks (`mmada.md` 3.3).
//!
//! The hidden states of masked positions are gathered first; the head then sees a chunk of them at a time (`network/room.rs`), and each
//! chunk's gradient is taken before the next one's logits exist, so that logits never reach positions x vocabulary.
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
    /// What blocks are computed again from in the backward pass, where that is done.
    pub kept: Option<KeptInputs>,
}

/// Rows that go through the backbone together, as indices: alike in length, so that little is computed on padding, and no
/// more than `most` tokens. A function of the rows' lengths and `most` alone (L7, L8).
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

/// Runs the backbone on rows, each cut or filled at its front to the longest one's real tokens, and gathers the hidden
/// states at the targets.
///
/// # Errors
/// libtorch's.
pub fn gather(backbone: &Backbone, rows: &[LossRow]) -> Result<Gathered> {
    Ok(gather_with(backbone, rows, Packet::new())?.0)
}

/// Gathers as [`gather`] does; what the packet holds already crosses to the device with the rows, in one copy before the forward pass.
///
/// # Errors
/// libtorch's.
pub fn gather_with(backbone: &Backbone, rows: &[LossRow], packet: Packet) -> Result<(Gathered, Arrived)> {
    gather_keeping(backbone, rows, packet, false)
}

/// Gathers as [`gather_with`] does for rows whose gradient [`descend`] is to take: where the backbone's room says so, blocks are
/// computed again in the backward pass.
///
/// # Errors
/// libtorch's.
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
    let (pass, places) = plan(backbone, rows, packet)?;
    let (hidden, kept) = if recomputes {
        let (hidden, kept) = recompute::forward(backbone, pass)?;
        (hidden, Some(kept))
    } else {
        (backbone.whole(&pass)?, None)
    };
    places.gather(&hidden, kept)
}

/// Where a pass's targets stand, and what they are.
#[derive(Debug)]
pub(crate) struct TargetPlaces {
    index_N: Tensor,
    labels_N: Tensor,
    weights_N: Tensor,
    arrived: Arrived,
}

impl TargetPlaces {
    /// What a pass's hidden states are at the targets.
    ///
    /// # Errors
    /// libtorch's.
    pub fn gather(self, hidden: &Tensor, kept: Option<KeptInputs>) -> Result<(Gathered, Arrived)> {
        let gathered = Gathered {
            x_ND: hidden.f_flatten(0, 1)?.f_index_select(0, &self.index_N)?,
            labels_N: self.labels_N,
            weights_N: self.weights_N,
            kept,
        };
        Ok((gathered, self.arrived))
    }
}

/// A pass over rows, each cut or filled at its front to the longest one's real tokens, with what the packet holds besides on the device.
///
/// # Errors
/// libtorch's.
pub(crate) fn plan(
    backbone: &Backbone,
    rows: &[LossRow],
    mut packet: Packet,
) -> Result<(FullPass, TargetPlaces)> {
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
    // Where each target stands among the tokens that are computed.
    let mut end = 0;
    let flat = rows.iter().zip(&pads).flat_map(|(row, &pad)| {
        end += real(row) + if fill.is_some() { pad } else { 0 };
        row.targets
            .iter()
            .map(move |&(at, ..)| (end + at - row.ids.len()) as i64)
    });
    let index = packet.longs(flat);
    let targets = || rows.iter().flat_map(|row| &row.targets);
    let labels = packet.longs(targets().map(|&(_, label, _)| i64::from(label)));
    let weights = packet.floats(targets().map(|&(.., weight)| weight));
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
    let places = TargetPlaces {
        index_N: arrived.get(index),
        labels_N: arrived.get(labels),
        weights_N: arrived.get(weights),
        arrived,
    };
    Ok((pass, places))
}

/// The real tokens of each row, behind its padding where that is filled in.
fn ids(rows: &[LossRow], pads: &[usize], fill: Option<u32>) -> impl Iterator<Item = i64> {
    rows.iter().zip(pads).flat_map(move |(row, &pad)| {
        let filled = fill.map(|fill| std::iter::repeat_n(fill, pad));
        let real = row.ids[row.left_pad..].iter().copied();
        filled.into_iter().flatten().chain(real).map(i64::from)
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

/// Takes the gradient as [`backward_chunks`] does and reads nothing from the device.
///
/// # Errors
/// libtorch's.
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
    // Where the embedding is the head and one backward pass takes both gradients, they are added to one another before they are to
    // what was accumulated: so that the sum is the same here, that is set aside.
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

/// Takes the gradient down to the backbone's hidden states, or on to the leaves where nothing is computed again.
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
