//! Attention over rows of any lengths in one call: libtorch's flash attention, which takes the start and the number of
//! each row's queries and keys. Nothing is padded, copied or sorted.
//!
//! Flash attention computes in bf16 or f16 on a GPU. Otherwise (f32 on a GPU, a CPU, rows with soft padding) libtorch's
//! dense attention computes the rows one by one, with the same numbers up to rounding. The tests compare both ways with
//! a dense mask.
//!
//! Legend: R rows, T queries of all rows, S places that keys and values lie in, H query heads, K key and value heads, E
//! head width.

#![allow(non_snake_case)]

use std::sync::atomic::{AtomicBool, Ordering};

use tch::{Device, Kind, Tensor};

use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::Result;

/// The queries and keys of one row. Its queries follow those of the previous row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaggedRow {
    /// The number of its queries among T.
    pub queries: usize,
    /// The index of its first key in S.
    pub first_key: usize,
    /// The number of its keys.
    pub keys: usize,
    /// The number of leading keys that are soft padding: pairs without soft padding get +1 on their score (`mmada.md`
    /// 1.5).
    pub soft_pad_keys: usize,
    /// The number of leading queries that are soft padding.
    pub soft_pad_queries: usize,
}

/// The tables of rows that attend together, which are the same at every block.
#[derive(Debug)]
pub struct RaggedRows {
    rows: Vec<RaggedRow>,
    /// The first query of each row, and T at the end: [R + 1], i32.
    first_query_R: Tensor,
    /// The first key of each row, and the end of the last row's keys: [R + 1], i32.
    first_key_R: Tensor,
    /// The number of keys of each row, [R], i32. Absent if the keys of a row end where those of the next begin.
    keys_R: Option<Tensor>,
    /// The most queries of a row.
    longest_queries: i64,
    /// The most keys of a row, of these rows or of those that may replace them ([`Self::refill`]).
    longest_keys: i64,
}

/// Rows whose tables are in a packet that has not been sent yet.
#[derive(Debug)]
pub struct PlannedRagged {
    rows: Vec<RaggedRow>,
    places: (PacketPlace, PacketPlace, Option<PacketPlace>),
    longest_keys: usize,
}

/// Converts to the integer type of flash attention.
fn int(value: usize) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

impl PlannedRagged {
    /// Plans rows whose keys may lie anywhere in S. `longest_keys` bounds their keys, and those of rows that may
    /// replace them.
    pub fn anywhere(rows: Vec<RaggedRow>, longest_keys: usize, packet: &mut Packet) -> Self {
        let first_key = rows.iter().map(|row| int(row.first_key));
        let end = rows.last().map_or(0, |row| int(row.first_key + row.keys));
        let places = (
            packet.ints(first_queries(&rows)),
            packet.ints(first_key.chain([end])),
            Some(packet.ints(rows.iter().map(|row| int(row.keys)))),
        );
        Self {
            rows,
            places,
            longest_keys,
        }
    }

    /// Plans packed rows of the given lengths, each of which attends to itself.
    pub fn of_themselves(lengths: &[usize], packet: &mut Packet) -> Self {
        let mut first = 0;
        let rows: Vec<RaggedRow> = lengths
            .iter()
            .map(|&length| {
                let row = RaggedRow {
                    queries: length,
                    first_key: first,
                    keys: length,
                    soft_pad_keys: 0,
                    soft_pad_queries: 0,
                };
                first += length;
                row
            })
            .collect();
        let firsts = packet.ints(first_queries(&rows));
        Self {
            places: (firsts, firsts, None),
            longest_keys: lengths.iter().copied().max().unwrap_or(0),
            rows,
        }
    }

    /// Returns the rows, once the packet has arrived.
    #[must_use]
    pub fn arrive(self, arrived: &Arrived) -> RaggedRows {
        let (first_query, first_key, keys) = self.places;
        RaggedRows {
            first_query_R: arrived.get(first_query),
            first_key_R: arrived.get(first_key),
            keys_R: keys.map(|keys| arrived.get(keys)),
            longest_queries: self.rows.iter().map(|row| row.queries).max().unwrap_or(0) as i64,
            longest_keys: self.longest_keys as i64,
            rows: self.rows,
        }
    }
}

fn first_queries(rows: &[RaggedRow]) -> Vec<i32> {
    let mut first = 0;
    let ends = rows.iter().map(|row| {
        first += row.queries;
        int(first)
    });
    std::iter::once(0).chain(ends).collect()
}

impl RaggedRows {
    /// Computes `softmax(q kᵀ / sqrt(E)) v` of each row: q [T, H, E], k and v [S, K, E] to [T, H E]. It has gradients
    /// if the rows attend to themselves ([`PlannedRagged::of_themselves`]).
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn attend(&self, q_THE: &Tensor, k_SKE: &Tensor, v_SKE: &Tensor) -> Result<Tensor> {
        let (queries, heads, width) = q_THE.size3()?;
        if self.flash_applies(q_THE) {
            match self.flash(q_THE, k_SKE, v_SKE) {
                Ok(mixed_THE) => return Ok(mixed_THE.f_reshape([queries, heads * width])?),
                Err(error) if error.is_device_fault() || error.is_out_of_memory() => return Err(error),
                Err(error) => {
                    NO_FLASH.store(true, Ordering::Relaxed);
                    tracing::warn!(
                        "flash attention over packed rows failed: {error}; from now on attention is computed row by row, which is slower"
                    );
                }
            }
        }
        self.one_by_one(q_THE, k_SKE, v_SKE)
    }

    /// Copies the tables of other rows into the tensors of these, if a CUDA graph that was recorded with these rows
    /// then computes the others. Returns whether it did.
    ///
    /// `in_tables` says that flash attention computes ([`flash_takes`]), which reads the places and lengths of rows
    /// from the tables. Computed one by one, they are part of the recorded launches, and must be equal.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn refill(&mut self, other: &Self, in_tables: bool) -> Result<bool> {
        let alike = self.rows.len() == other.rows.len()
            && (self.longest_queries, self.longest_keys) == (other.longest_queries, other.longest_keys)
            && self.is_plain()
            && other.is_plain()
            && self.keys_R.is_some() == other.keys_R.is_some();
        if !alike || !(in_tables || self.rows == other.rows) {
            return Ok(false);
        }
        self.first_query_R.f_copy_(&other.first_query_R)?;
        self.first_key_R.f_copy_(&other.first_key_R)?;
        if let (Some(mine), Some(theirs)) = (&mut self.keys_R, &other.keys_R) {
            mine.f_copy_(theirs)?;
        }
        self.rows.clone_from(&other.rows);
        Ok(true)
    }

    fn is_plain(&self) -> bool {
        self.rows.iter().all(|row| row.soft_pad_keys == 0)
    }

    fn flash_applies(&self, q_THE: &Tensor) -> bool {
        let width = q_THE.size().last().copied().unwrap_or(0);
        flash_takes(q_THE.device(), q_THE.kind(), width) && self.is_plain()
    }

    /// Computes the rows one by one with dense attention.
    fn one_by_one(&self, q_THE: &Tensor, k_SKE: &Tensor, v_SKE: &Tensor) -> Result<Tensor> {
        let (_, heads, width) = q_THE.size3()?;
        let shared = heads / k_SKE.size()[1];
        let mut at = 0;
        let mut mixed = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            let (queries, keys) = (row.queries as i64, row.keys as i64);
            let in_heads = |x: &Tensor, first: i64, count: i64| -> Result<Tensor> {
                Ok(x.f_narrow(0, first, count)?.f_transpose(0, 1)?.f_unsqueeze(0)?)
            };
            let of_row = |x: &Tensor| -> Result<Tensor> {
                let x = in_heads(x, row.first_key as i64, keys)?;
                Ok(match shared {
                    1 => x,
                    _ => x.f_repeat_interleave_self_int(shared, 1, None)?,
                })
            };
            let q = in_heads(q_THE, at, queries)?;
            let bias = (row.soft_pad_keys > 0).then(|| weaker(row, &q)).transpose()?;
            let (k, v) = (of_row(k_SKE)?, of_row(v_SKE)?);
            let y = Tensor::f_scaled_dot_product_attention(&q, &k, &v, bias, 0.0, false, None, false)?;
            mixed.push(
                y.f_squeeze_dim(0)?
                    .f_transpose(0, 1)?
                    .f_reshape([queries, heads * width])?,
            );
            at += queries;
        }
        Ok(match mixed.as_slice() {
            [only] => only.shallow_clone(),
            several => Tensor::f_cat(several, 0)?,
        })
    }

    #[cfg(fused)]
    fn flash(&self, q_THE: &Tensor, k_SKE: &Tensor, v_SKE: &Tensor) -> Result<Tensor> {
        use crate::device::kernels::ffi::{check, handle, take};
        let scale = 1.0 / (q_THE.size()[2] as f64).sqrt();
        let mut y = std::ptr::null_mut();
        // SAFETY: the handles are live tensors, or null for absent ones; the rows lie within T and S, as planned.
        check(unsafe {
            shim::demask_flash_rows(
                handle(q_THE),
                handle(k_SKE),
                handle(v_SKE),
                handle(&self.first_query_R),
                handle(&self.first_key_R),
                self.keys_R.as_ref().map_or(std::ptr::null_mut(), handle),
                self.longest_queries,
                self.longest_keys,
                scale,
                &mut y,
            )
        })?;
        Ok(take(y))
    }

    #[cfg(not(fused))]
    fn flash(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Tensor> {
        Err(crate::error::ModelError::Refused(
            "this build has no C++ code".into(),
        ))
    }
}

/// Set when a call of flash attention has failed. It is then not tried again.
static NO_FLASH: AtomicBool = AtomicBool::new(false);

/// Returns whether flash attention supports tensors of this device, dtype and head width.
pub(crate) fn flash_takes(device: Device, kind: Kind, width: i64) -> bool {
    cfg!(fused)
        && device.is_cuda()
        && matches!(kind, Kind::BFloat16 | Kind::Half)
        && width % 8 == 0
        && width <= 256
        && !NO_FLASH.load(Ordering::Relaxed)
}

/// Builds the bias of a row with soft padding, [1, 1, Q, keys]: 1 for pairs without soft padding, 0 for others. It has
/// the device and dtype of `like`.
fn weaker(row: &RaggedRow, like: &Tensor) -> Result<Tensor> {
    let strong = |count: usize, weak: usize| -> Result<Tensor> {
        let number = Tensor::f_arange(count as i64, (Kind::Int64, like.device()))?;
        Ok(number.f_ge(weak as i64)?.f_to_kind(like.kind())?)
    };
    let queries = strong(row.queries, row.soft_pad_queries)?.f_unsqueeze(1)?;
    let keys = strong(row.keys, row.soft_pad_keys)?.f_unsqueeze(0)?;
    Ok(queries.f_mul(&keys)?.f_unsqueeze(0)?.f_unsqueeze(0)?)
}

#[cfg(fused)]
mod shim {
    use std::ffi::c_int;

    use crate::device::kernels::ffi::Handle;

    unsafe extern "C" {
        pub(super) fn demask_flash_rows(
            q: Handle,
            k: Handle,
            v: Handle,
            first_query: Handle,
            first_key: Handle,
            keys: Handle,
            longest_queries: i64,
            longest_keys: i64,
            scale: f64,
            y: *mut Handle,
        ) -> c_int;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const HEADS: i64 = 4;
    const KEY_HEADS: i64 = 2;
    const WIDTH: i64 = 8;
    /// The number of places of a slot.
    const CAPACITY: usize = 12;

    fn numbers(count: i64, heads: i64, salt: f64) -> Tensor {
        let wave = (Tensor::arange(count * heads * WIDTH, (Kind::Double, Device::Cpu)) * (0.7 + salt)).sin();
        wave.view([count, heads, WIDTH])
    }

    fn sent(plan: impl FnOnce(&mut Packet) -> PlannedRagged) -> RaggedRows {
        let mut packet = Packet::new();
        let planned = plan(&mut packet);
        planned.arrive(&packet.send(Device::Cpu).unwrap())
    }

    fn table(tensor: &Tensor) -> Vec<i64> {
        Vec::<i64>::try_from(tensor.to_kind(Kind::Int64)).unwrap()
    }

    /// Computes what flash attention does from the tables alone, by its published rule: the queries of row r are
    /// `first_query[r]..first_query[r + 1]`. Its keys begin at `first_key[r]`; there are `keys[r]` of them, or without
    /// `keys` they end where those of the next row begin.
    fn by_tables(rows: &RaggedRows, q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
        let (queries, keys) = (table(&rows.first_query_R), table(&rows.first_key_R));
        let used = rows.keys_R.as_ref().map(table);
        let shared = HEADS / KEY_HEADS;
        let row = |r: usize| {
            let count = used.as_ref().map_or(keys[r + 1] - keys[r], |used| used[r]);
            assert!(count <= rows.longest_keys && queries[r + 1] - queries[r] <= rows.longest_queries);
            let q = q
                .narrow(0, queries[r], queries[r + 1] - queries[r])
                .transpose(0, 1);
            let of = |x: &Tensor| {
                x.narrow(0, keys[r], count)
                    .transpose(0, 1)
                    .repeat_interleave_self_int(shared, 0, None)
            };
            let scores = q.matmul(&of(k).transpose(1, 2)) / (WIDTH as f64).sqrt();
            let mixed = scores.softmax(-1, Kind::Double).matmul(&of(v));
            mixed.transpose(0, 1).reshape([-1, HEADS * WIDTH])
        };
        let rows: Vec<Tensor> = (0..queries.len() - 1).map(row).collect();
        Tensor::cat(&rows, 0)
    }

    fn far(one: &Tensor, other: &Tensor) -> f64 {
        (one - other).abs().max().double_value(&[])
    }

    proptest! {
        /// The rows lie in any slots and have a few queries each.
        #[test]
        fn rows_in_slots_attend_as_their_tables_say(
            chunks in proptest::collection::vec((1usize..5, 1usize..=CAPACITY), 1..7),
            turn in 0usize..7,
        ) {
            let slots = chunks.len() + 1;
            let rows: Vec<RaggedRow> = chunks.iter().enumerate().map(|(number, &(queries, keys))| RaggedRow {
                queries,
                first_key: (number + turn) % slots * CAPACITY,
                keys,
                soft_pad_keys: 0,
                soft_pad_queries: 0,
            }).collect();
            let count = rows.iter().map(|row| row.queries as i64).sum();
            let (q, k, v) = (
                numbers(count, HEADS, 0.0),
                numbers((slots * CAPACITY) as i64, KEY_HEADS, 0.1),
                numbers((slots * CAPACITY) as i64, KEY_HEADS, 0.2),
            );
            let rows = sent(|packet| PlannedRagged::anywhere(rows, CAPACITY, packet));
            let found = rows.attend(&q, &k, &v).unwrap();
            prop_assert!(far(&found, &by_tables(&rows, &q, &k, &v)) < 1e-12);
        }

        /// The rows are packed and attend to themselves, with gradients.
        #[test]
        fn packed_rows_attend_as_their_tables_say(lengths in proptest::collection::vec(1usize..9, 1..6)) {
            let count = lengths.iter().sum::<usize>() as i64;
            let rows = sent(|packet| PlannedRagged::of_themselves(&lengths, packet));
            let of = |salt, heads| numbers(count, heads, salt).set_requires_grad(true);
            let inputs = [of(0.0, HEADS), of(0.1, KEY_HEADS), of(0.2, KEY_HEADS)];
            let weights = numbers(count, HEADS, 0.3).view([count, HEADS * WIDTH]);
            let gradients = |mixed: &Tensor| {
                Tensor::run_backward(&[(mixed * &weights).sum(Kind::Double)], &inputs, false, false)
            };
            let [q, k, v] = &inputs;
            let found = rows.attend(q, k, v).unwrap();
            let expected = by_tables(&rows, q, k, v);
            prop_assert!(far(&found, &expected) < 1e-12);
            for (one, other) in gradients(&found).iter().zip(&gradients(&expected)) {
                prop_assert!(far(one, other) < 1e-11);
            }
        }
    }

    /// Only flash attention reads all lengths from the tables. Otherwise, rows of other lengths need other launches.
    #[test]
    fn other_lengths_are_not_taken_over_where_they_are_launched_one_by_one() {
        let of = |keys: usize| {
            let row = RaggedRow {
                queries: 2,
                first_key: CAPACITY,
                keys,
                soft_pad_keys: 0,
                soft_pad_queries: 0,
            };
            sent(|packet| PlannedRagged::anywhere(vec![row], CAPACITY, packet))
        };
        let mut rows = of(7);
        assert!(rows.refill(&of(7), false).unwrap());
        assert!(!rows.refill(&of(8), false).unwrap());
        assert!(rows.refill(&of(8), true).unwrap());
        assert_eq!(table(rows.keys_R.as_ref().unwrap()), [8]);
    }
}
