//! Keys and values that are kept between the passes of a sampler, and attention over them.
//!
//! A *slot* holds one row: its keys and values at every block. A pass computes some *places* of some rows (a [`Chunk`]
//! each), writes their keys and values, and lets them attend to all that the slot holds. What is not computed anew is as
//! old as the pass that wrote it: reading it is exact while no token of the row has changed since, or where the network has a
//! single block (a key then depends on its own token alone); else it is an approximation.
//!
//! Legend: T computed places, R chunks, S slots, C places of a slot, H query heads, K key and value heads, E head width.

#![allow(non_snake_case)]

use demask_api::BackboneConfig;
use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::fused;

/// Places of a slot come in multiples of this: what the CPU kernel works on at a time.
const PLACES: usize = 32;
/// The CPU kernel's values have rows of a multiple of this.
const LANE: i64 = 16;

/// The keys and values of a number of rows at every block.
#[derive(Debug)]
pub struct KvCache {
    /// For each block. The CPU kernel's: f32, keys [S, K, E, C] and values [S, K, C, E rounded up]. Else both
    /// [S, K, C, E] in the compute dtype.
    blocks: Vec<(Tensor, Tensor)>,
    kernel: bool,
    slots: usize,
    capacity: usize,
}

/// What a pass computes of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where the row's keys and values are kept.
    pub slot: usize,
    /// Tokens of the computed places.
    pub ids: Vec<u32>,
    /// The computed places, ascending; place 0 is the row's first real token.
    pub places: Vec<usize>,
    /// Position of place 0: padding consumes positions.
    pub offset: usize,
    /// How many places the row has, all of them keys.
    pub keys: usize,
    /// How many of them, from the first on, are padding that is merely weaker: pairs of two others have 1 added to their
    /// score (`mmada.md` 1.5, what the published trainer did).
    pub weak: usize,
}

/// The chunks of a pass as tensors.
#[derive(Debug)]
pub struct Pass {
    /// Token ids, [T].
    pub ids_T: Tensor,
    /// Slot, place and position of each, [T, 3].
    places_T3: Tensor,
    /// Slot, first of T, how many, keys, weak ones, of each chunk, [R, 5].
    lanes_R5: Tensor,
    chunks: Vec<[i64; 5]>,
    /// Place of each of T.
    places: Vec<i64>,
}

impl Pass {
    /// Packs chunks one behind the other.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(chunks: &[Chunk], device: Device) -> Result<Self> {
        let (mut ids, mut places, mut lanes) = (Vec::new(), Vec::new(), Vec::new());
        for chunk in chunks {
            let slot = chunk.slot as i64;
            let counts = [ids.len(), chunk.ids.len(), chunk.keys, chunk.weak].map(|count| count as i64);
            lanes.push([slot, counts[0], counts[1], counts[2], counts[3]]);
            ids.extend(chunk.ids.iter().map(|&id| i64::from(id)));
            places.extend(
                chunk
                    .places
                    .iter()
                    .flat_map(|&place| [slot, place as i64, (chunk.offset + place) as i64]),
            );
        }
        let tensor = |values: &[i64], width: i64| -> Result<Tensor> {
            let tensor = Tensor::f_from_slice(values)?.f_view([-1, width])?;
            Ok(tensor.f_to_device(device)?)
        };
        Ok(Self {
            ids_T: tensor(&ids, 1)?.f_view([-1])?,
            places_T3: tensor(&places, 3)?,
            lanes_R5: tensor(lanes.as_flattened(), 5)?,
            chunks: lanes,
            places: places.iter().skip(1).step_by(3).copied().collect(),
        })
    }
}

/// RMS norms of all queries and of all keys of a place.
#[derive(Clone, Copy, Debug)]
pub struct Norms<'a> {
    /// Gain of the queries, [H E].
    pub q: &'a Tensor,
    /// Gain of the keys, [K E].
    pub k: &'a Tensor,
    /// What is added to queries and keys after that, of the same shapes.
    pub biases: Option<(&'a Tensor, &'a Tensor)>,
    /// Added to the mean square.
    pub eps: f64,
}

impl Norms<'_> {
    /// The stacked projection [.., (H + 2K) E] with queries and keys normalised.
    ///
    /// # Errors
    /// libtorch's.
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
    /// Room for `slots` rows of at most `longest` places.
    ///
    /// # Errors
    /// libtorch's, out of memory among them.
    pub fn new(
        config: &BackboneConfig,
        slots: usize,
        longest: usize,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        let capacity = Self::places(longest);
        let kernel = fused::applies_to(device, kind);
        let (heads, width) = (config.kv_heads() as i64, config.head_dim() as i64);
        let (rows, places) = (slots as i64, capacity as i64);
        let shapes = if kernel {
            let wide = (width + LANE - 1) / LANE * LANE;
            [[rows, heads, width, places], [rows, heads, places, wide]]
        } else {
            [[rows, heads, places, width]; 2]
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
            kernel,
            slots,
            capacity,
        })
    }

    /// Places that a slot has which has room for so many.
    #[must_use]
    pub fn places(longest: usize) -> usize {
        longest.next_multiple_of(PLACES)
    }

    /// How many rows it has room for.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Copies all that a smaller cache of the same network holds.
    ///
    /// # Errors
    /// libtorch's.
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

    /// Places that a slot has room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Splits the stacked projection [T, (H + 2K) E] into heads, normalises queries and keys where there are `norms`, turns
    /// them by the f32 `tables` [L, E], keeps keys and values of block `block`, and attends: [T, H E].
    ///
    /// # Errors
    /// libtorch's.
    pub fn attend(
        &self,
        block: usize,
        joined: &Tensor,
        norms: Option<Norms<'_>>,
        tables: (&Tensor, &Tensor),
        heads: i64,
        pass: &Pass,
    ) -> Result<Tensor> {
        let (keys, values) = &self.blocks[block];
        #[cfg(fused)]
        if self.kernel && norms.is_none_or(|norms| norms.biases.is_none()) {
            return kernel::attend(joined, norms, tables, pass, (keys, values), heads);
        }
        let joined = match norms {
            Some(norms) => &norms.apply(joined)?,
            None => joined,
        };
        #[cfg(fused)]
        if self.kernel {
            return kernel::attend(joined, None, tables, pass, (keys, values), heads);
        }
        composed(joined, tables, pass, (keys, values), heads)
    }
}

/// The same composed of libtorch's operators.
fn composed(
    joined: &Tensor,
    tables: (&Tensor, &Tensor),
    pass: &Pass,
    (keys, values): (&Tensor, &Tensor),
    heads: i64,
) -> Result<Tensor> {
    let (kv_heads, width) = (keys.size()[1], keys.size()[3]);
    let column = |number: i64| pass.places_T3.f_select(1, number);
    let (slot, place, position) = (column(0)?, column(1)?, column(2)?);
    let [cos, sin] = [tables.0, tables.1].map(|table| table.f_index_select(0, &position));
    let [cos, sin] = [cos?, sin?].map(|table| table.f_view([-1, 1, 1, width]));
    let joined = joined.f_unsqueeze(1)?;
    let parts = fused::split_turn_composed(&joined, (&cos?, &sin?), heads, kv_heads, width)?;
    let [q_THE, k_TKE, v_TKE] = parts.map(|part| part.squeeze_dim(2));
    let at = [Some(&slot), None, Some(&place)];
    for (kept, new) in [(keys, &k_TKE), (values, &v_TKE)] {
        let _ = kept.shallow_clone().f_index_put_(&at, new, false)?;
    }
    let (longest, most) = (
        pass.chunks.iter().map(|lane| lane[3]).max().unwrap_or(0),
        pass.chunks.iter().map(|lane| lane[2]).max().unwrap_or(0),
    );
    let (device, kind) = (joined.device(), joined.kind());
    let slots: Vec<i64> = pass.chunks.iter().map(|lane| lane[0]).collect();
    // Slots side by side are read where they are; others are brought together.
    let together = slots.windows(2).all(|pair| pair[0] + 1 == pair[1]);
    let apart = if together {
        None
    } else {
        Some(Tensor::f_from_slice(&slots)?.f_to_device(device)?)
    };
    let of = |kept: &Tensor| -> Result<Tensor> {
        let first = slots.first().copied().unwrap_or(0);
        let rows = match &apart {
            Some(index) => kept.f_index_select(0, index)?,
            None => kept.f_narrow(0, first, slots.len() as i64)?,
        };
        let rows = rows.f_narrow(2, 0, longest)?;
        Ok(if kv_heads == heads {
            rows
        } else {
            rows.f_repeat_interleave_self_int(heads / kv_heads, 1, None)?
        })
    };
    // Chunks of unlike lengths are padded to the longest; what lies beyond a row's own places is shut out.
    let rows = pass.chunks.len() as i64;
    let index: Vec<i64> = pass
        .chunks
        .iter()
        .enumerate()
        .flat_map(|(row, lane)| (0..lane[2]).map(move |at| row as i64 * most + at))
        .collect();
    let index_T = Tensor::f_from_slice(&index)?.f_to_device(device)?;
    let even = index.len() as i64 == rows * most;
    let flat_q = q_THE.f_flatten(1, 2)?;
    let q_padded = if even {
        flat_q
    } else {
        Tensor::f_zeros([rows * most, heads * width], (kind, device))?.f_index_copy(0, &index_T, &flat_q)?
    };
    let q_RHQE = q_padded.f_view([rows, most, heads, width])?.f_transpose(1, 2)?;
    let bias = bias(pass, longest, most, (kind, device))?;
    let mixed = Tensor::f_scaled_dot_product_attention(
        &q_RHQE,
        &of(keys)?,
        &of(values)?,
        bias.as_ref(),
        0.0,
        false,
        None,
        false,
    )?;
    let mixed = mixed.f_transpose(1, 2)?.f_reshape([rows * most, heads * width])?;
    Ok(if even {
        mixed
    } else {
        mixed.f_index_select(0, &index_T)?
    })
}

/// What is added to the scores, [R, 1, `most` queries, `longest` keys]: 1 for pairs of which neither is weak, minus infinity for
/// places that a row does not have. None where all rows have the same places and nothing is weak.
fn bias(pass: &Pass, longest: i64, most: i64, (kind, device): (Kind, Device)) -> Result<Option<Tensor>> {
    let rows = pass.chunks.len() as i64;
    let weak = pass.chunks.iter().any(|lane| lane[4] > 0);
    if !weak && pass.chunks.iter().all(|lane| lane[3] == longest) {
        return Ok(None);
    }
    let of =
        |number: i64| -> Result<Tensor> { Ok(pass.lanes_R5.f_select(1, number)?.f_view([rows, 1, 1, 1])?) };
    let keys = Tensor::f_arange(longest, (Kind::Int64, device))?;
    let bias = if weak {
        let mut strong = vec![0i64; (rows * most) as usize];
        for (row, lane) in pass.chunks.iter().enumerate() {
            let first = row * most as usize;
            for (at, place) in pass.places[lane[1] as usize..][..lane[2] as usize]
                .iter()
                .enumerate()
            {
                strong[first + at] = i64::from(lane[4] > 0 && *place >= lane[4]);
            }
        }
        let queries = Tensor::f_from_slice(&strong)?.f_to_device(device)?;
        let keys = keys.f_ge_tensor(&of(4)?)?.f_to_kind(kind)?;
        keys.f_mul(&queries.f_view([rows, 1, most, 1])?.f_to_kind(kind)?)?
    } else {
        Tensor::f_zeros([rows, 1, most, longest], (kind, device))?
    };
    Ok(Some(
        bias.f_masked_fill(&keys.f_ge_tensor(&of(3)?)?, f64::NEG_INFINITY)?,
    ))
}

#[cfg(fused)]
mod kernel {
    use std::ffi::c_int;
    use std::ptr::null_mut;

    use tch::Tensor;

    use super::{Norms, Pass};
    use crate::error::Result;
    use crate::fused::kernels::{Handle, check, handle, take};

    unsafe extern "C" {
        fn demask_cached_attend(
            joined: Handle,
            cos: Handle,
            sin: Handle,
            lanes: Handle,
            places: Handle,
            keys: Handle,
            values: Handle,
            q_gain: Handle,
            k_gain: Handle,
            eps: f64,
            heads: i64,
            width: i64,
            scale: f64,
            y: *mut Handle,
        ) -> c_int;
    }

    pub(super) fn attend(
        joined: &Tensor,
        norms: Option<Norms<'_>>,
        (cos, sin): (&Tensor, &Tensor),
        pass: &Pass,
        (keys, values): (&Tensor, &Tensor),
        heads: i64,
    ) -> Result<Tensor> {
        let width = keys.size()[2];
        let mut y = null_mut();
        // SAFETY: the handles are live tensors, or null for what is not there; slots and places lie within the cache, which was made for these rows; the tables
        // are contiguous f32 and cover every position, which the backbone checked.
        check(unsafe {
            demask_cached_attend(
                handle(joined),
                handle(cos),
                handle(sin),
                handle(&pass.lanes_R5),
                handle(&pass.places_T3),
                handle(keys),
                handle(values),
                norms.map_or(null_mut(), |norms| handle(norms.q)),
                norms.map_or(null_mut(), |norms| handle(norms.k)),
                norms.map_or(0.0, |norms| norms.eps),
                heads,
                width,
                1.0 / (width as f64).sqrt(),
                &mut y,
            )
        })?;
        Ok(take(y))
    }
}
