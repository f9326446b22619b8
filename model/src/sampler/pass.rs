//! One pass of the network over some rows of the running batch: what each needs is computed, drawn, and taken by it.
//!
//! Legend: T computed places, N drawn positions, G of them with guidance, V columns, D width.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::draw::{Noise, draw};
use super::lane::{Lane, Row};
use super::need::{Columns, Compute, Need};
use crate::backbone::Backbone;
use crate::chunk::Chunk;
use crate::error::{ModelError, Result};
use crate::kv_cache::{KvCache, rounded};

/// The likeliest token.
const COLD: Noise = Noise {
    temperature: 0.0,
    share: 0.0,
};

/// A row that takes part in a pass.
#[derive(Debug)]
pub(super) struct Turn<'r> {
    lane: &'r mut Lane,
    slot: usize,
    /// Where its unconditional half is kept.
    shadow: Option<usize>,
    need: Need,
}

impl<'r> Turn<'r> {
    /// Its part of the next pass; none of a row that is done.
    pub fn of(lane: &'r mut Lane, slot: usize, shadow: Option<usize>) -> Option<Self> {
        let need = lane.need()?;
        Some(Self {
            lane,
            slot,
            shadow,
            need,
        })
    }
}

/// Where a turn's wants stand among the hidden states.
struct Places {
    row: Vec<i64>,
    /// The same of the unconditional half; empty without guidance.
    shadow: Vec<i64>,
}

/// Does the pass.
///
/// # Errors
/// Logits that are no numbers, libtorch's.
pub(super) fn pass(backbone: &Backbone, cache: &KvCache, turns: &mut [Turn<'_>]) -> Result<()> {
    let (chunks, places) = chunks(turns)?;
    let hidden_TD = backbone.cached(cache, &chunks)?;
    let mut groups: BTreeMap<Columns, Vec<(&mut Turn<'_>, Places)>> = BTreeMap::new();
    for (turn, places) in turns.iter_mut().zip(places) {
        groups
            .entry(turn.lane.columns())
            .or_default()
            .push((turn, places));
    }
    // Those that write the same columns are drawn together.
    for (columns, mut group) in groups {
        let logits_NV = tch::no_grad(|| logits(backbone, columns, &group, &hidden_TD))?;
        let raises = raises(&mut group, &logits_NV, columns)?;
        let noise: Vec<Noise> = group
            .iter()
            .flat_map(|(turn, _)| turn.need.wants.iter().map(|want| want.noise))
            .collect();
        let mut drawn = draw(&raised(logits_NV, &raises)?, &noise, columns.writable)?.into_iter();
        for (turn, _) in group {
            let own: Vec<_> = drawn.by_ref().take(turn.need.wants.len()).collect();
            turn.lane.take(&own);
        }
    }
    Ok(())
}

/// What is computed of each row and its unconditional half, and where its wants stand in that.
fn chunks(turns: &[Turn<'_>]) -> Result<(Vec<Chunk>, Vec<Places>)> {
    let (mut chunks, mut at_T) = (Vec::new(), 0);
    let mut add = |row: &Row, slot: usize, turn: &Turn<'_>| -> Result<Vec<i64>> {
        let chunk = chunk(row, slot, &turn.need.compute);
        let start = turn.lane.request().target.start;
        let place = |want: usize| -> Result<i64> {
            let place = start + want - row.pad;
            let found = chunk.places.binary_search(&place).map_err(|_| {
                ModelError::Refused(format!("position {place} is drawn but was not computed"))
            })?;
            Ok(at_T + found as i64)
        };
        let places = turn.need.wants.iter().map(|want| place(want.at)).collect();
        at_T += chunk.ids.len() as i64;
        chunks.push(chunk);
        places
    };
    let mut all = Vec::with_capacity(turns.len());
    for turn in turns {
        let row = add(&turn.lane.row(), turn.slot, turn)?;
        let shadow = match turn.shadow {
            Some(slot) => add(&turn.lane.unconditional(), slot, turn)?,
            None => Vec::new(),
        };
        all.push(Places { row, shadow });
    }
    Ok((chunks, all))
}

/// A row's part of a pass: the chosen positions, without padding that is shut out.
pub(super) fn chunk(row: &Row, slot: usize, compute: &Compute) -> Chunk {
    let keys = row.ids.len() - row.pad;
    let places: Vec<usize> = match compute {
        Compute::All => (0..keys).collect(),
        Compute::Range(range) => (range.start.max(row.pad) - row.pad..range.end - row.pad).collect(),
        Compute::Some(positions) => positions
            .iter()
            .filter_map(|at| at.checked_sub(row.pad))
            .collect(),
    };
    Chunk {
        slot,
        ids: places.iter().map(|place| row.ids[row.pad + place]).collect(),
        places,
        offset: row.pad,
        keys,
        weak: row.weak,
    }
}

/// Logits of all wants of a group, guidance applied: [N, V].
fn logits(
    backbone: &Backbone,
    columns: Columns,
    group: &[(&mut Turn<'_>, Places)],
    hidden_TD: &Tensor,
) -> Result<Tensor> {
    let device = backbone.device();
    let rows = group.iter().flat_map(|(_, places)| &places.row);
    let shadows = group.iter().flat_map(|(_, places)| &places.shadow);
    let (count, guided) = (rows.clone().count() as i64, shadows.clone().count() as i64);
    let mut all: Vec<i64> = rows.chain(shadows).copied().collect();
    if !device.is_cuda() && !all.is_empty() {
        all.resize(rounded(all.len()), 0);
    }
    let index = Tensor::f_from_slice(&all)?.f_to_device(device)?;
    let span = Some((i64::from(columns.start), i64::from(columns.end)));
    let logits = backbone.head(&hidden_TD.f_index_select(0, &index)?, span)?;
    let logits = logits.f_narrow(0, 0, count + guided)?;
    if guided == 0 {
        return Ok(logits);
    }
    let logits = logits.f_to_kind(Kind::Float)?;
    let mut conditional_NV = logits.f_narrow(0, 0, count)?;
    let unconditional_GV = logits.f_narrow(0, count, guided)?;
    let (at_G, scales_G1) = scales(group, device)?;
    let away = conditional_NV
        .f_index_select(0, &at_G)?
        .f_sub(&unconditional_GV)?
        .f_mul(&scales_G1)?;
    Ok(conditional_NV.f_index_copy_(0, &at_G, &unconditional_GV.f_add(&away)?)?)
}

/// Which of the wants are guided, [G], and how far from the unconditional logits they go, [G, 1].
fn scales(group: &[(&mut Turn<'_>, Places)], device: Device) -> Result<(Tensor, Tensor)> {
    let (mut guided, mut scales): (Vec<i64>, Vec<f32>) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (turn, places) in group {
        if !places.shadow.is_empty() {
            guided.extend(at..at + places.row.len() as i64);
            #[allow(clippy::cast_possible_truncation)]
            let scale = turn.lane.guidance() as f32 + 1.0;
            scales.extend(std::iter::repeat_n(scale, places.row.len()));
        }
        at += places.row.len() as i64;
    }
    let scales = Tensor::f_from_slice(&scales)?.f_unsqueeze(1)?;
    Ok((
        Tensor::f_from_slice(&guided)?.f_to_device(device)?,
        scales.f_to_device(device)?,
    ))
}

/// For each raise of a group's wants: row, column, by how much. Whoever has credits earns with what is likeliest now.
fn raises(
    group: &mut [(&mut Turn<'_>, Places)],
    logits_NV: &Tensor,
    columns: Columns,
) -> Result<Vec<(i64, i64, f32)>> {
    let mut raises = Vec::new();
    let mut first = 0;
    for (turn, _) in group {
        let (start, count) = (first, turn.need.wants.len() as i64);
        first += count;
        if !turn.lane.has_credits() {
            continue;
        }
        let cold = vec![COLD; turn.need.wants.len()];
        let rows_NV = logits_NV.f_narrow(0, start, count)?;
        let guesses = draw(&rows_NV, &cold, columns.writable)?;
        for (row, raised) in (start..).zip(turn.lane.raises(&guesses)) {
            raises.extend(raised.into_iter().map(|(token, by)| (row, i64::from(token), by)));
        }
    }
    Ok(raises)
}

fn raised(logits_NV: Tensor, raises: &[(i64, i64, f32)]) -> Result<Tensor> {
    if raises.is_empty() {
        return Ok(logits_NV);
    }
    let device = logits_NV.device();
    let of = |values: Vec<i64>| -> Result<Tensor> { Ok(Tensor::f_from_slice(&values)?.f_to_device(device)?) };
    let rows = of(raises.iter().map(|raise| raise.0).collect())?;
    let columns = of(raises.iter().map(|raise| raise.1).collect())?;
    let by: Vec<f32> = raises.iter().map(|raise| raise.2).collect();
    let by = Tensor::f_from_slice(&by)?.f_to_device(device)?;
    let mut logits_NV = logits_NV.f_to_kind(Kind::Float)?;
    Ok(logits_NV.f_index_put_(&[Some(rows), Some(columns)], &by, true)?)
}
