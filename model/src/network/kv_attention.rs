//! Attention over the cache, composed of libtorch's operators. CUDA and all dtypes without a CPU kernel use it.
//!
//! All rows of a pass attend in one call over the slots in place ([`crate::device::kernels::ragged`]). The tables of a
//! pass are sent to the device once, before its first block. Legend: T computed places, S slots, C places of a slot, H
//! query heads, K key and value heads, E head width.

#![allow(non_snake_case)]

use tch::Tensor;

use crate::device::kernels::fused;
use crate::device::kernels::ragged::{self, RaggedRow, RaggedRows};
use crate::device::kernels::rotary::{Rotary, Turns};
use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::Result;
use crate::network::chunk::Chunk;

/// The tables for the attention of a pass, which are the same at every block.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The index in the cache of each computed place, among [S C].
    kept_T: Tensor,
    /// The rotary tables of each computed place, [T, 1, E].
    turns: Turns,
    rows: RaggedRows,
}

/// A plan whose tables are in a packet that has not been sent yet.
#[derive(Debug)]
pub(crate) struct PlannedAttention {
    kept: PacketPlace,
    positions: PacketPlace,
    rows: ragged::PlannedRagged,
}

impl PlannedAttention {
    /// Plans the attention of chunks, for a cache with `capacity` places in each slot.
    pub fn new(chunks: &[Chunk], capacity: usize, packet: &mut Packet) -> Self {
        let kept = chunks.iter().flat_map(|chunk| {
            let first = chunk.slot * capacity;
            chunk.places.iter().map(move |place| (first + place) as i64)
        });
        let positions = chunks
            .iter()
            .flat_map(|chunk| chunk.places.iter().map(|place| (chunk.offset + place) as i64));
        let rows = chunks.iter().map(|chunk| RaggedRow {
            queries: chunk.places.len(),
            first_key: chunk.slot * capacity,
            keys: chunk.keys,
            soft_pad_keys: chunk.soft_pad,
            soft_pad_queries: chunk.places.partition_point(|&place| place < chunk.soft_pad),
        });
        Self {
            kept: packet.longs(kept),
            positions: packet.longs(positions),
            rows: ragged::PlannedRagged::anywhere(rows.collect(), capacity, packet),
        }
    }

    /// Returns the plan, once the packet has arrived.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn arrive(self, arrived: &Arrived, rotary: &Rotary) -> Result<Plan> {
        let positions_T = arrived.get(self.positions);
        Ok(Plan {
            kept_T: arrived.get(self.kept),
            turns: rotary.all().of(&positions_T)?.for_heads()?,
            rows: self.rows.arrive(arrived),
        })
    }
}

impl Plan {
    /// Copies the tables of another plan into the tensors of this one, if a CUDA graph that was recorded with this plan
    /// then computes the other ([`RaggedRows::refill`]). Returns whether it did.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn refill(&mut self, other: &Self, in_tables: bool) -> Result<bool> {
        if self.kept_T.size() != other.kept_T.size() || !self.rows.refill(&other.rows, in_tables)? {
            return Ok(false);
        }
        self.kept_T.f_copy_(&other.kept_T)?;
        self.turns.refill(&other.turns)?;
        Ok(true)
    }

    /// Splits the stacked projection, [T, (H + 2K) E], rotates queries and keys, writes keys and values to the cache,
    /// [S, C, K, E] each, and attends: [T, H E].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn attend(&self, joined: &Tensor, (keys, values): (&Tensor, &Tensor), heads: i64) -> Result<Tensor> {
        let (slots, places, kv_heads, width) = keys.size4()?;
        let [q_THE, k_TKE, v_TKE] = fused::split_turn_composed(joined, &self.turns, heads, kv_heads, width)?;
        let kept = |all: &Tensor, new: &Tensor| -> Result<Tensor> {
            let mut flat = all.f_view([slots * places, kv_heads, width])?;
            let _ = flat.f_index_copy_(0, &self.kept_T, new)?;
            Ok(flat)
        };
        let (keys, values) = (kept(keys, &k_TKE)?, kept(values, &v_TKE)?);
        self.rows.attend(&q_THE, &keys, &values)
    }
}
