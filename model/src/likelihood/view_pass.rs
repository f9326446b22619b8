//! Forward passes over views without gradient. Where our own CPU kernels apply, they use the samplers' path: packed
//! weights, and attention by our own kernels over rows that lie back to back.
//!
//! A pass takes few enough tokens that the activations of a transformer block stay in the processor's cache. The last
//! block computes its layers after attention for the counted positions only. All blocks share one block's memory for
//! keys and values, because none are read again after their block. Elsewhere (on a GPU, in other dtypes) the rows take
//! the training path. Legend: T tokens, N counted positions, D width.

#![allow(non_snake_case)]

use demask_api::BackboneConfig;
use tch::Tensor;

use crate::device::kernels::fused;
use crate::device::transfer::{Arrived, Packet};
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::network::chunk::Chunk;
use crate::network::kv_cache::KvCache;
use crate::training::loss::{Gathered, LossRow, alike, gather_with};

/// The bytes of activations in a pass. Twice the size of a core's L2 cache was the fastest where that has 2 MB.
const NEAR: usize = 4 << 20;
/// The least and the most tokens of a pass. The least keeps weights from being read for a few tokens only.
const TOKENS: (usize, usize) = (192, 2048);

/// The plan for the forward passes of some rows.
#[derive(Debug)]
pub(super) struct ViewPass<'a> {
    backbone: &'a Backbone,
    /// The keys and values of one transformer block; `None` if the rows take the training path.
    cache: Option<KvCache>,
    groups: Vec<Vec<usize>>,
}

impl<'a> ViewPass<'a> {
    /// Plans the passes of rows, each of which takes `halves` rows of the network. On the training path a pass has at
    /// most `most` tokens.
    ///
    /// # Errors
    /// Any error libtorch reports, including out of memory.
    pub fn new(backbone: &'a Backbone, rows: &[LossRow], halves: usize, most: usize) -> Result<Self> {
        let (config, place) = (backbone.config(), (backbone.device(), backbone.kind()));
        if !fused::applies_to(place.0, place.1) {
            return Ok(Self {
                backbone,
                cache: None,
                groups: alike(rows, most / halves),
            });
        }
        let groups = tiles(rows, near_tokens(config) / halves);
        let slots = groups.iter().map(|group| halves * group.len()).max().unwrap_or(0);
        let longest = rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        let one_block = BackboneConfig {
            n_layers: 1,
            ..config.clone()
        };
        let cache = KvCache::new(&one_block, slots, longest, place.0, place.1)?;
        Ok(Self {
            backbone,
            cache: Some(cache),
            groups,
        })
    }

    /// Returns the groups of rows that share a pass, as indices.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Computes the hidden states at the targets of some rows, which have no padding. The packet is sent to the device
    /// with them, with whatever it already holds.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn gather(&self, rows: &[LossRow], mut packet: Packet) -> Result<(Gathered, Arrived)> {
        let Some(cache) = &self.cache else {
            return gather_with(self.backbone, rows, packet);
        };
        let chunks: Vec<Chunk> = rows.iter().enumerate().map(whole_row).collect();
        let planned = self.backbone.plan_pass(cache, &chunks, &mut packet)?;
        let mut start = 0;
        let flat = rows.iter().flat_map(|row| {
            let first = start;
            start += row.ids.len();
            row.targets.iter().map(move |&(at, ..)| (first + at) as i64)
        });
        let index = packet.longs(flat);
        let targets = || rows.iter().flat_map(|row| &row.targets);
        let labels = packet.longs(targets().map(|&(_, label, _)| i64::from(label)));
        let weights = packet.floats(targets().map(|&(.., weight)| weight));
        let arrived = packet.send(self.backbone.device())?;
        let pass = planned.arrive(&arrived, self.backbone.rotary())?;
        let gathered = Gathered {
            x_ND: self.backbone.run(cache, &pass, Some(&arrived.get(index)))?,
            labels_N: arrived.get(labels),
            weights_N: arrived.get(weights),
            kept: None,
        };
        Ok((gathered, arrived))
    }

    /// Computes the logits of hidden states, [N, D].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn head(&self, x_ND: &Tensor) -> Result<Tensor> {
        match self.cache {
            Some(_) => self.backbone.sampled_head(x_ND, None),
            None => self.backbone.head(x_ND, None),
        }
    }
}

/// Returns the chunk that computes a whole row.
fn whole_row((slot, row): (usize, &LossRow)) -> Chunk {
    Chunk {
        slot,
        ids: row.ids.clone(),
        places: (0..row.ids.len()).collect(),
        offset: 0,
        keys: row.ids.len(),
        soft_pad: 0,
    }
}

/// Groups the rows in the order of their lengths, with at most `most` tokens and at least one row in each group.
fn tiles(rows: &[LossRow], most: usize) -> Vec<Vec<usize>> {
    let length = |at: usize| rows[at].ids.len();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| length(at));
    let (mut groups, mut tokens): (Vec<Vec<usize>>, usize) = (Vec::new(), 0);
    for at in order {
        tokens += length(at);
        match groups.last_mut().filter(|_| tokens <= most) {
            Some(group) => group.push(at),
            None => {
                groups.push(vec![at]);
                tokens = length(at);
            }
        }
    }
    groups
}

/// Returns the number of tokens whose activations in a block take [`NEAR`] bytes.
fn near_tokens(config: &BackboneConfig) -> usize {
    let attention = (config.n_heads + 2 * config.kv_heads()) * config.head_dim();
    let floats = 4 * config.d_model + attention + 3 * config.hidden();
    (NEAR / (4 * floats)).clamp(TOKENS.0, TOKENS.1)
}
