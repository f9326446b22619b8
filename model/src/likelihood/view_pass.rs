//! Views through the network without a gradient, on a CPU: what samplers use (weights packed once, attention of our own kernels)
//! over rows back to back, few enough at one time that what a block makes of them stays in the processor's cache.
//!
//! The last block's products behind attention are made for the counted positions alone; each block's keys and values lie where
//! those of the block before lay, for nobody reads them again. Elsewhere (a GPU, other dtypes) rows go the way of training.
//! Legend: T tokens, N counted positions, D width.

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

/// Bytes of activations that are computed on together: twice a core's second cache did best where it has two megabytes.
const NEAR: usize = 4 << 20;
/// Tokens that go through together at least, so that a weight is not read for a few, and at most.
const TOKENS: (usize, usize) = (192, 2048);

/// How some rows go through the network.
#[derive(Debug)]
pub(super) struct ViewPass<'a> {
    backbone: &'a Backbone,
    /// Keys and values of one block; none where rows go the way of training.
    cache: Option<KvCache>,
    groups: Vec<Vec<usize>>,
}

impl<'a> ViewPass<'a> {
    /// Plans rows, each of which takes `halves` rows of the network; of training's way no more than `most` tokens together.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
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

    /// The rows that go through together, as indices.
    pub fn groups(&self) -> &[Vec<usize>] {
        &self.groups
    }

    /// Hidden states at the targets of some rows, which have no padding. What the packet holds already crosses to the device with them.
    ///
    /// # Errors
    /// libtorch's.
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

    /// Logits of hidden states [N, D].
    ///
    /// # Errors
    /// libtorch's.
    pub fn head(&self, x_ND: &Tensor) -> Result<Tensor> {
        match self.cache {
            Some(_) => self.backbone.sampled_head(x_ND, None),
            None => self.backbone.head(x_ND, None),
        }
    }
}

/// A row that is computed from its first place to its last.
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

/// Rows by their length, as many together as have so many tokens, but always one.
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

/// Tokens whose activations are near while a block computes on them.
fn near_tokens(config: &BackboneConfig) -> usize {
    let attention = (config.n_heads + 2 * config.kv_heads()) * config.head_dim();
    let floats = 4 * config.d_model + attention + 3 * config.hidden();
    (NEAR / (4 * floats)).clamp(TOKENS.0, TOKENS.1)
}
