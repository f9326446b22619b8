//! The KV cache: keys and values that are kept between a sampler's forward passes, and the attention over them.
//!
//! A *slot* holds the keys and values of one row at every transformer block. A pass computes some *places* of some rows
//! (one [`Chunk`] per row), writes their keys and values to the slots, and lets them attend to everything in their
//! slot.
//!
//! The other keys and values date from the pass that wrote them. They are exact as long as no token of the row has
//! changed since, or if the network has a single block, where a key depends on its own token only. Otherwise they are
//! an approximation.
//!
//! Legend: T computed places, R chunks, S slots, C places of a slot, H query heads, K key and value heads, E head
//! width.

#![allow(non_snake_case)]

use demask_api::BackboneConfig;
use tch::{Device, Kind, Tensor};

use crate::device::kernels::columns::{ChunkRow, PlaceRow};
use crate::device::kernels::fused;
use crate::device::kernels::kernel_set::KernelSet;
use crate::device::kernels::rotary::{Rotary, Turns};
#[cfg(fused)]
use crate::device::kernels::sampling_blocks::{PassTables, SamplingBlocks};
use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::{ModelError, Result};
use crate::network::chunk::Chunk;
use crate::network::kv_attention::{self, Plan};

/// The number of places of a slot is a multiple of this, the tile of the CPU kernel.
const PLACES: usize = 32;
/// The rows of values are padded to a multiple of this for the CPU kernel.
const LANE: i64 = 16;

/// The keys and values of several rows at every block.
#[derive(Debug)]
pub struct KvCache {
    /// The keys and the values of each block. For the CPU kernel they are f32, keys [S, K, E, C] and values
    /// [S, K, C, E rounded up]. Otherwise both are [S, C, K, E] in the compute dtype.
    blocks: Vec<(Tensor, Tensor)>,
    /// The CPU kernel; `None` if libtorch's operators attend.
    kernel: Option<KernelSet>,
    slots: usize,
    capacity: usize,
}

/// Rounds a number of rows up to one of sixteen values between two powers of two. oneDNN compiles a matrix product
/// again for each number of rows that it has not seen recently (`tests/benches/LOG.md`), so fewer distinct numbers save
/// time.
#[must_use]
pub fn rounded(rows: usize) -> usize {
    rows.next_multiple_of((rows.next_power_of_two() / 32).max(1))
}

/// The chunks of a pass as tensors, one after the other.
#[derive(Debug)]
pub struct Pass {
    /// The token ids, [T]. With the CPU kernel, unused ids follow up to a [`rounded`] length.
    pub ids_T: Tensor,
    way: Way,
}

/// The tables for the attention of a pass.
#[derive(Debug)]
enum Way {
    /// For the CPU kernel: a [`PlaceRow`] for each of T, [T, 3], and a [`ChunkRow`] for each chunk, [R, 5].
    #[cfg_attr(not(fused), allow(dead_code))]
    Kernel { places_T3: Tensor, chunks_R5: Tensor },
    /// For libtorch's operators.
    Composed(Plan),
}

impl Pass {
    /// Copies the tokens and tables of another pass into the tensors of this one, if a CUDA graph that was recorded
    /// with this pass then computes the other ([`crate::device::kernels::ragged::RaggedRows::refill`]). Returns whether
    /// it did.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub(crate) fn refill(&mut self, other: &Self, in_tables: bool) -> Result<bool> {
        let (Way::Composed(mine), Way::Composed(theirs)) = (&mut self.way, &other.way) else {
            return Ok(false);
        };
        let same = self.ids_T.size() == other.ids_T.size() && mine.refill(theirs, in_tables)?;
        if same {
            self.ids_T.f_copy_(&other.ids_T)?;
        }
        Ok(same)
    }
}

/// A pass whose tables are in a packet that has not been sent yet.
#[derive(Debug)]
pub struct PlannedPass {
    ids: PacketPlace,
    way: PlannedWay,
}

/// The tables of a [`Way`] in a packet that has not been sent yet.
#[derive(Debug)]
enum PlannedWay {
    Kernel {
        places: PacketPlace,
        chunks: PacketPlace,
    },
    Composed(kv_attention::PlannedAttention),
}

impl PlannedWay {
    fn kernel(chunks: &[Chunk], packet: &mut Packet) -> Self {
        let (mut places, mut rows) = (Vec::new(), Vec::new());
        let mut first = 0;
        for chunk in chunks {
            let (slot, count) = (chunk.slot, chunk.places.len());
            let row = ChunkRow {
                slot,
                first,
                count,
                keys: chunk.keys,
                soft_pad: chunk.soft_pad,
            };
            rows.extend(row.columns());
            let place = |&in_slot: &usize| PlaceRow {
                slot,
                in_slot,
                position: chunk.offset + in_slot,
            };
            places.extend(chunk.places.iter().map(place).flat_map(PlaceRow::columns));
            first += count;
        }
        Self::Kernel {
            places: packet.longs(places),
            chunks: packet.longs(rows),
        }
    }
}

impl PlannedPass {
    /// Returns the pass, once the packet has arrived. The `rotary` tables rotate its queries and keys.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn arrive(self, arrived: &Arrived, rotary: &Rotary) -> Result<Pass> {
        let way = match self.way {
            PlannedWay::Kernel { places, chunks } => Way::Kernel {
                places_T3: arrived.get(places).f_view([-1, PlaceRow::COLUMNS])?,
                chunks_R5: arrived.get(chunks).f_view([-1, ChunkRow::COLUMNS])?,
            },
            PlannedWay::Composed(planned) => Way::Composed(planned.arrive(arrived, rotary)?),
        };
        Ok(Pass {
            ids_T: arrived.get(self.ids),
            way,
        })
    }
}

/// The RMS norms of queries and keys. Each normalises all heads of a place together.
#[derive(Clone, Copy, Debug)]
pub struct Norms<'a> {
    /// The gain of the queries, [H E].
    pub q: &'a Tensor,
    /// The gain of the keys, [K E].
    pub k: &'a Tensor,
    /// The biases that are added to queries and keys after the norm, of the same shapes.
    pub biases: Option<(&'a Tensor, &'a Tensor)>,
    /// The epsilon that is added to the mean square.
    pub eps: f64,
}

impl Norms<'_> {
    /// Normalises the queries and keys of the stacked projection, [.., (H + 2K) E].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn apply(&self, joined: &Tensor) -> Result<Tensor> {
        let [q, k] = [self.q, self.k].map(|gain| gain.numel() as i64);
        let parts = joined.f_split_with_sizes([q, k, k], -1)?;
        let normed = |part: &Tensor, gain| fused::sum_norm(part.shallow_clone(), None, gain, self.eps);
        let (mut q, mut k) = (normed(&parts[0], self.q)?.1, normed(&parts[1], self.k)?.1);
        if let Some(biases) = self.biases {
            (q, k) = (q.f_add(biases.0)?, k.f_add(biases.1)?);
        }
        Ok(Tensor::f_cat(&[&q, &k, &parts[2]], -1)?)
    }
}

impl KvCache {
    /// Allocates a cache for `slots` rows of at most `longest` places.
    ///
    /// # Errors
    /// Any error libtorch reports, including out of memory.
    pub fn new(
        config: &BackboneConfig,
        slots: usize,
        longest: usize,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let capacity = Self::places(longest);
        let set = KernelSet::chosen().filter(|_| fused::applies_to(device, kind));
        let kernel = set.is_some();
        let (heads, width) = (config.kv_heads() as i64, config.head_dim() as i64);
        let (rows, places) = (slots as i64, capacity as i64);
        let shapes = if kernel {
            let wide = (width + LANE - 1) / LANE * LANE;
            [[rows, heads, width, places], [rows, heads, places, wide]]
        } else {
            [[rows, places, heads, width]; 2]
        };
        let kind = if kernel { Kind::Float } else { kind };
        let blocks = (0..config.n_layers)
            .map(|_| {
                let [keys, values] = shapes.map(|shape| Tensor::f_zeros(shape, (kind, device)));
                Ok((keys?, values?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            blocks,
            kernel: set,
            slots,
            capacity,
        })
    }

    /// Sets the instruction set of the CPU kernel, if the cache uses it.
    #[must_use]
    pub fn with_kernels(mut self, set: KernelSet) -> Self {
        self.kernel = self.kernel.map(|_| set);
        self
    }

    /// Returns the number of places of a slot for rows of at most `longest` places.
    #[must_use]
    pub fn places(longest: usize) -> usize {
        longest.next_multiple_of(PLACES)
    }

    /// Returns the number of rows that fit.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Copies the contents of a smaller cache of the same network.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn take_over(&self, old: &Self) -> Result<()> {
        let pairs = self.blocks.iter().zip(&old.blocks);
        for (to, from) in pairs.flat_map(|(to, from)| [(&to.0, &from.0), (&to.1, &from.1)]) {
            let mut room = to.shallow_clone();
            for (dim, side) in from.size().into_iter().enumerate() {
                room = room.f_narrow(dim as i64, 0, side)?;
            }
            room.f_copy_(from)?;
        }
        Ok(())
    }

    /// Returns the size of the cache in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tensors = self.blocks.iter().flat_map(|(keys, values)| [keys, values]);
        tensors
            .map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64)
            .sum()
    }

    /// Returns the number of places of a slot.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Plans a pass over chunks of the rows in this cache, and adds its tables to the packet.
    pub fn plan(&self, chunks: &[Chunk], packet: &mut Packet) -> PlannedPass {
        let ids = chunks.iter().flat_map(|chunk| &chunk.ids);
        let mut ids: Vec<i64> = ids.map(|&id| i64::from(id)).collect();
        let way = if self.kernel.is_some() {
            ids.resize(rounded(ids.len()), 0);
            PlannedWay::kernel(chunks, packet)
        } else {
            PlannedWay::Composed(kv_attention::PlannedAttention::new(chunks, self.capacity, packet))
        };
        PlannedPass {
            ids: packet.longs(ids),
            way,
        }
    }

    /// Splits the stacked projection, [T, (H + 2K) E], into heads, normalises queries and keys if there are `norms`,
    /// rotates them, writes the keys and values of block `block` to the cache, and attends: [T, H E].
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn attend(
        &self,
        block: usize,
        joined: &Tensor,
        norms: Option<Norms<'_>>,
        turns: &Turns,
        heads: i64,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (keys, values) = &self.blocks[block % self.blocks.len()];
        #[cfg(fused)]
        if let (Way::Kernel { places_T3, chunks_R5 }, Some(set)) = (&pass.way, self.kernel) {
            let chunks = (places_T3, chunks_R5);
            return match norms {
                Some(norms) if norms.biases.is_some() => kernel::attend(
                    &norms.apply(joined)?,
                    None,
                    turns,
                    chunks,
                    (keys, values),
                    heads,
                    set,
                ),
                norms => kernel::attend(joined, norms, turns, chunks, (keys, values), heads, set),
            };
        }
        match &pass.way {
            Way::Composed(plan) => match norms {
                Some(norms) => plan.attend(&norms.apply(joined)?, (keys, values), heads),
                None => plan.attend(joined, (keys, values), heads),
            },
            Way::Kernel { .. } => Err(ModelError::Refused("this build has no CPU kernels".into())),
        }
    }
}

#[cfg(fused)]
impl KvCache {
    /// Runs a pass through all blocks in one call. Returns the hidden states of the wanted positions, [N, D], or `None`
    /// if the cache or the pass are not those of the CPU kernel.
    ///
    /// # Errors
    /// Any error of [`SamplingBlocks::run`].
    pub(crate) fn run_blocks(
        &self,
        blocks: &SamplingBlocks,
        turns: &Turns,
        pass: &Pass,
        wanted_N: &Tensor,
    ) -> Result<Option<Tensor>> {
        let (Way::Kernel { places_T3, chunks_R5 }, Some(set)) = (&pass.way, self.kernel) else {
            return Ok(None);
        };
        let tables = PassTables {
            ids_T: &pass.ids_T,
            chunks_R5,
            places_T3,
            kept: &self.blocks,
            turns,
            set,
        };
        blocks.run(&tables, wanted_N).map(Some)
    }
}

#[cfg(fused)]
mod kernel {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use super::Norms;
    use crate::device::kernels::ffi::{Handle, check, handle, take};
    use crate::device::kernels::kernel_set::KernelSet;
    use crate::device::kernels::rotary::Turns;
    use crate::error::Result;

    unsafe extern "C" {
        fn demask_cached_attend(
            joined: Handle,
            cos: Handle,
            sin: Handle,
            chunks: Handle,
            places: Handle,
            keys: Handle,
            values: Handle,
            q_gain: Handle,
            k_gain: Handle,
            eps: f64,
            heads: i64,
            width: i64,
            scale: f64,
            set: i64,
            y: *mut Handle,
        ) -> c_int;
    }

    pub(super) fn attend(
        joined: &Tensor,
        norms: Option<Norms<'_>>,
        turns: &Turns,
        (places_T3, chunks_R5): (&Tensor, &Tensor),
        (keys, values): (&Tensor, &Tensor),
        heads: i64,
        set: KernelSet,
    ) -> Result<Tensor> {
        let width = keys.size()[2];
        let mut y = null_mut();
        // SAFETY: the handles are live tensors, or null for an absent norm; slots and places lie within the cache,
        // which was made for these rows; the rotary tables are contiguous f32 and cover every position, which the
        // backbone checked.
        check(unsafe {
            demask_cached_attend(
                handle(joined),
                handle(&turns.cos),
                handle(&turns.sin),
                handle(chunks_R5),
                handle(places_T3),
                handle(keys),
                handle(values),
                norms.map_or(null_mut(), |norms| handle(norms.q)),
                norms.map_or(null_mut(), |norms| handle(norms.k)),
                norms.map_or(0.0, |norms| norms.eps),
                heads,
                width,
                1.0 / (width as f64).sqrt(),
                set as i64,
                &mut y,
            )
        })?;
        Ok(take(y))
    }
}
