//! Attention over kept keys and values, composed of libtorch's operators: CUDA's way.
//!
//! Rows that have as many places computed and as many keys are one call without a mask, so that flash attention applies; what
//! a pass needs on the device is brought there once, before its first block. Legend: T computed places, R rows of a group, Q
//! queries of a row, S slots, C places of a slot, H query heads, K key and value heads, E head width.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::chunk::Chunk;
use crate::error::Result;
use crate::fused;

/// How the chunks of a pass attend, the same at every block.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where each of T is kept, in [S C].
    kept_T: Tensor,
    /// Rotary tables at the position of each, [T, 1, 1, E].
    tables: (Tensor, Tensor),
    groups: Vec<Group>,
    /// Where each of T stands in what the groups give; absent where that is the order of T.
    order_T: Option<Tensor>,
}

/// What rows of one call have in common: queries, keys, whether some are weak.
type Shape = (usize, usize, bool);

/// Rows that are one call.
#[derive(Debug)]
struct Group {
    rows: i64,
    queries: i64,
    keys: i64,
    /// Which of T.
    at: Part,
    /// Which of S.
    slots: Part,
    /// Added to the scores, [R, 1, Q, keys].
    bias: Option<Tensor>,
}

/// Some of a dimension.
#[derive(Debug)]
enum Part {
    /// Side by side: a view of them. First and how many.
    Span(i64, i64),
    /// Anywhere: a copy.
    Index(Tensor),
}

impl Part {
    fn of(places: &[i64], device: Device) -> Result<Self> {
        let first = places.first().copied().unwrap_or(0);
        if places.windows(2).all(|pair| pair[0] + 1 == pair[1]) {
            return Ok(Self::Span(first, places.len() as i64));
        }
        Ok(Self::Index(Tensor::f_from_slice(places)?.f_to_device(device)?))
    }

    fn select(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Self::Span(first, count) => x.f_narrow(0, *first, *count)?,
            Self::Index(index) => x.f_index_select(0, index)?,
        })
    }
}

impl Plan {
    /// For chunks of rows in a cache of `capacity` places a slot, turned by the f32 `tables` [L, E].
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(
        chunks: &[Chunk],
        tables: (&Tensor, &Tensor),
        capacity: usize,
        (device, kind): (Device, Kind),
    ) -> Result<Self> {
        let on_device =
            |values: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(values)?.f_to_device(device)?) };
        let mut alike: BTreeMap<Shape, Vec<(i64, &Chunk)>> = BTreeMap::new();
        let (mut kept, mut positions) = (Vec::new(), Vec::new());
        for chunk in chunks {
            let key = (chunk.places.len(), chunk.keys, chunk.weak > 0);
            alike.entry(key).or_default().push((kept.len() as i64, chunk));
            kept.extend(
                chunk
                    .places
                    .iter()
                    .map(|place| (chunk.slot * capacity + place) as i64),
            );
            positions.extend(chunk.places.iter().map(|place| (chunk.offset + place) as i64));
        }
        let mut order = vec![0i64; kept.len()];
        let (mut groups, mut given) = (Vec::new(), 0);
        for ((queries, keys, weak), rows) in alike {
            let spans = rows.iter().map(|&(first, _)| first..first + queries as i64);
            let at: Vec<i64> = spans.flatten().collect();
            for &place in &at {
                order[place as usize] = given;
                given += 1;
            }
            let slots: Vec<i64> = rows.iter().map(|(_, chunk)| chunk.slot as i64).collect();
            groups.push(Group {
                rows: rows.len() as i64,
                queries: queries as i64,
                keys: keys as i64,
                at: Part::of(&at, device)?,
                slots: Part::of(&slots, device)?,
                bias: weak.then(|| bias(&rows, keys, (device, kind))).transpose()?,
            });
        }
        let position = on_device(&positions)?;
        let [cos, sin] = [tables.0, tables.1].map(|table| -> Result<Tensor> {
            Ok(table
                .f_index_select(0, &position)?
                .f_unsqueeze(1)?
                .f_unsqueeze(1)?)
        });
        let in_order = order.iter().enumerate().all(|(at, &place)| at as i64 == place);
        Ok(Self {
            kept_T: on_device(&kept)?,
            tables: (cos?, sin?),
            groups,
            order_T: (!in_order).then(|| on_device(&order)).transpose()?,
        })
    }

    /// Takes another's places and positions over, in the same tensors, if all else is the same: whether it is.
    ///
    /// # Errors
    /// libtorch's.
    pub fn refill(&mut self, other: &Self) -> Result<bool> {
        let in_order = self.order_T.is_none() && other.order_T.is_none();
        let same = in_order
            && self.groups.len() == other.groups.len()
            && self.groups.iter().zip(&other.groups).all(|(a, b)| a.is_like(b));
        if same {
            self.kept_T.f_copy_(&other.kept_T)?;
            self.tables.0.f_copy_(&other.tables.0)?;
            self.tables.1.f_copy_(&other.tables.1)?;
        }
        Ok(same)
    }

    /// Splits the stacked projection [T, (H + 2K) E], turns queries and keys, keeps keys and values [S, C, K, E], and attends:
    /// [T, H E].
    ///
    /// # Errors
    /// libtorch's.
    pub fn attend(&self, joined: &Tensor, (keys, values): (&Tensor, &Tensor), heads: i64) -> Result<Tensor> {
        let (slots, places, kv_heads, width) = keys.size4()?;
        let tables = (&self.tables.0, &self.tables.1);
        let parts = fused::split_turn_composed(&joined.f_unsqueeze(1)?, tables, heads, kv_heads, width)?;
        let [q_THE, k_TKE, v_TKE] = parts.map(|part| part.squeeze_dim(2));
        for (kept, new) in [(keys, &k_TKE), (values, &v_TKE)] {
            let mut flat = kept.f_view([slots * places, kv_heads, width])?;
            let _ = flat.f_index_copy_(0, &self.kept_T, new)?;
        }
        let mixed: Vec<Tensor> = self
            .groups
            .iter()
            .map(|group| group.attend(&q_THE, (keys, values), heads / kv_heads))
            .collect::<Result<_>>()?;
        let mixed = match mixed.as_slice() {
            [only] => only.shallow_clone(),
            several => Tensor::f_cat(several, 0)?,
        };
        Ok(match &self.order_T {
            Some(order) => mixed.f_index_select(0, order)?,
            None => mixed,
        })
    }
}

impl Group {
    fn is_like(&self, other: &Self) -> bool {
        let spans = |group: &Self| match (&group.at, &group.slots) {
            (Part::Span(at, _), Part::Span(slot, _)) => Some((*at, *slot)),
            _ => None,
        };
        let plain = self.bias.is_none() && other.bias.is_none();
        let counts = |group: &Self| (group.rows, group.queries, group.keys);
        plain && counts(self) == counts(other) && spans(self).is_some() && spans(self) == spans(other)
    }

    fn attend(&self, q_THE: &Tensor, (keys, values): (&Tensor, &Tensor), shared: i64) -> Result<Tensor> {
        let (_, heads, width) = q_THE.size3()?;
        let q_RHQE = self
            .at
            .select(q_THE)?
            .f_view([self.rows, self.queries, heads, width])?
            .f_transpose(1, 2)?;
        let of = |kept: &Tensor| -> Result<Tensor> {
            let rows = self
                .slots
                .select(&kept.f_narrow(1, 0, self.keys)?)?
                .f_transpose(1, 2)?;
            Ok(match shared {
                1 => rows,
                _ => rows.f_repeat_interleave_self_int(shared, 1, None)?,
            })
        };
        let mixed = Tensor::f_scaled_dot_product_attention(
            &q_RHQE,
            &of(keys)?,
            &of(values)?,
            self.bias.as_ref(),
            0.0,
            false,
            None,
            false,
        )?;
        Ok(mixed
            .f_transpose(1, 2)?
            .f_reshape([self.rows * self.queries, heads * width])?)
    }
}

/// 1 for pairs of which neither is weak, [R, 1, Q, keys].
fn bias(rows: &[(i64, &Chunk)], keys: usize, (device, kind): (Device, Kind)) -> Result<Tensor> {
    let mut bias: Vec<f32> = Vec::new();
    for (_, chunk) in rows {
        for &query in &chunk.places {
            bias.extend((0..keys).map(|key| f32::from(u8::from(query >= chunk.weak && key >= chunk.weak))));
        }
    }
    let queries = rows.first().map_or(0, |(_, chunk)| chunk.places.len());
    Ok(Tensor::f_from_slice(&bias)?
        .f_view([rows.len() as i64, 1, queries as i64, keys as i64])?
        .f_to_device(device)?
        .f_to_kind(kind)?)
}
