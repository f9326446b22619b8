//! One forward pass over the rows of the running batch: it computes the requested positions, draws tokens and hands the
//! draws to the rows.
//!
//! Legend: T computed places, N drawn positions, G of them with guidance, V columns, D width.

#![allow(non_snake_case)]

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::network::chunk::Chunk;
use crate::network::kv_cache::{KvCache, rounded};
use crate::sampler::draw::{Noise, PlannedNoise, RowNoise, draw, fetched, measures};
use crate::sampler::forward_request::{Columns, Compute, ForwardRequest};
use crate::sampler::row::{RowTokens, SamplingRule};

/// The noise that takes the likeliest token.
const COLD: Noise = Noise {
    temperature: 0.0,
    uniform: 0.0,
};

/// The most logits that exist at one time. With the intermediate results of the draw, 40 bytes a logit on a GPU, they
/// take 5 GB.
const LOGITS: usize = 1 << 27;

/// A row that takes part in a forward pass.
#[derive(Debug)]
pub(super) struct RowInput<'r> {
    sampling: &'r mut dyn SamplingRule,
    slot: usize,
    /// The cache slot of its unconditional half, with guidance.
    unconditional_slot: Option<usize>,
    request: ForwardRequest,
}

impl<'r> RowInput<'r> {
    /// Asks a row for its next request. Returns `None` for a row that is done.
    pub fn of(
        sampling: &'r mut dyn SamplingRule,
        slot: usize,
        unconditional_slot: Option<usize>,
    ) -> Option<Self> {
        let request = sampling.forward_request()?;
        Some(Self {
            sampling,
            slot,
            unconditional_slot,
            request,
        })
    }
}

/// The indices of an input's drawn positions among the hidden states of the pass.
struct Places {
    /// The indices in the row itself.
    row: Vec<i64>,
    /// The indices in the unconditional half; empty without guidance.
    unconditional: Vec<i64>,
}

/// Runs the pass and gives each row its draws.
///
/// All inputs go to the device in one transfer before the pass, and all draws come back in one. No more than [`LOGITS`]
/// logits exist at one time (law L9).
///
/// # Errors
/// [`ModelError::Refused`] if logits are not finite, or any error libtorch reports.
pub(super) fn forward(backbone: &Backbone, cache: &KvCache, inputs: &mut [RowInput<'_>]) -> Result<()> {
    let (chunks, places) = chunks(inputs)?;
    let device = backbone.device();
    let mut packet = Packet::new();
    let planned = backbone.plan_pass(cache, &chunks, &mut packet)?;
    let mut wanted = Vec::new();
    let groups: Vec<PlannedGroup<'_, '_>> = groups(inputs, places)
        .into_iter()
        .map(|(columns, members)| PlannedGroup::new(columns, members, device, (&mut wanted, &mut packet)))
        .collect();
    if wanted.is_empty() {
        // This pass only fills the cache. One unused position keeps the matrix products from having no rows.
        wanted.push(0);
    }
    let wanted = packet.longs(wanted);
    let arrived = packet.send(device)?;
    let pass = planned.arrive(&arrived, backbone.rotary())?;
    let hidden_ND = backbone.run(cache, &pass, Some(&arrived.get(wanted)))?;
    let mut groups: Vec<DrawGroup<'_, '_>> = groups.into_iter().map(|group| group.arrive(&arrived)).collect();
    let measures: Vec<Tensor> = groups
        .iter_mut()
        .map(|group| tch::no_grad(|| group.measures(backbone, &hidden_ND)))
        .collect::<Result<_>>()?;
    let measures = match measures.as_slice() {
        [only] => only.shallow_clone(),
        [] => return Ok(()),
        several => Tensor::f_cat(several, 0)?,
    };
    let mut drawn = fetched(&measures)?.into_iter();
    for (input, _) in groups.into_iter().flat_map(|group| group.members) {
        let own: Vec<_> = drawn.by_ref().take(input.request.positions.len()).collect();
        input.sampling.take(&own);
    }
    Ok(())
}

/// An input, with the indices of its drawn positions.
type Member<'t, 'r> = (&'t mut RowInput<'r>, Places);

/// Groups the inputs that use the same columns, so that one call draws a whole group. A group whose logits would exceed
/// [`LOGITS`] is split.
fn groups<'t, 'r>(
    inputs: &'t mut [RowInput<'r>],
    places: Vec<Places>,
) -> Vec<(Columns, Vec<Member<'t, 'r>>)> {
    let mut alike: BTreeMap<Columns, Vec<Member<'t, 'r>>> = BTreeMap::new();
    for (input, places) in inputs.iter_mut().zip(places) {
        alike
            .entry(input.sampling.state().columns)
            .or_default()
            .push((input, places));
    }
    let mut groups = Vec::new();
    for (columns, members) in alike {
        let most = LOGITS / (columns.end - columns.start).max(1) as usize;
        let mut rows = usize::MAX;
        for member in members {
            let own = member.1.row.len() + member.1.unconditional.len();
            rows = rows.saturating_add(own);
            if rows > most {
                groups.push((columns, Vec::new()));
                rows = own;
            }
            if let Some((_, members)) = groups.last_mut() {
                members.push(member);
            }
        }
    }
    groups
}

/// Inputs whose logits are computed and drawn from together.
struct DrawGroup<'t, 'r> {
    columns: Columns,
    members: Vec<Member<'t, 'r>>,
    /// The group's part of the pass's hidden states: first the drawn positions, then those of the unconditional halves.
    /// Its length is N + G, on a CPU rounded up.
    span: Span,
    guidance: Option<Guidance>,
    noise: RowNoise,
}

/// The indices of the guided positions among N, [G], and the factor w + 1 of each, [G, 1].
struct Guidance {
    at_G: Tensor,
    scales_G1: Tensor,
}

/// The first index and the number of a group's hidden states among those of a pass.
type Span = (i64, i64);

/// A group whose tables are in a packet that has not been sent yet.
struct PlannedGroup<'t, 'r> {
    columns: Columns,
    members: Vec<Member<'t, 'r>>,
    span: Span,
    guidance: Option<(PacketPlace, PacketPlace)>,
    noise: PlannedNoise,
}

impl<'t, 'r> PlannedGroup<'t, 'r> {
    /// Plans a group: appends the indices of its drawn positions to `wanted` and its tables to `packet`.
    fn new(
        columns: Columns,
        members: Vec<Member<'t, 'r>>,
        device: Device,
        (wanted, packet): (&mut Vec<i64>, &mut Packet),
    ) -> Self {
        let rows = members.iter().flat_map(|(_, places)| &places.row);
        let unconditional = members.iter().flat_map(|(_, places)| &places.unconditional);
        let mut all: Vec<i64> = rows.chain(unconditional).copied().collect();
        if !device.is_cuda() && !all.is_empty() {
            all.resize(rounded(all.len()), 0);
        }
        let span = (wanted.len() as i64, all.len() as i64);
        wanted.extend(all);
        let noise: Vec<Noise> = members
            .iter()
            .flat_map(|(input, _)| input.request.positions.iter().map(|want| want.noise))
            .collect();
        let (guided, scales) = scales(&members);
        Self {
            columns,
            span,
            guidance: (!guided.is_empty()).then(|| (packet.longs(guided), packet.floats(scales))),
            noise: PlannedNoise::new(&noise, device, packet),
            members,
        }
    }

    fn arrive(self, arrived: &Arrived) -> DrawGroup<'t, 'r> {
        let guidance = self.guidance.map(|(at, scales)| Guidance {
            at_G: arrived.get(at),
            scales_G1: arrived.get(scales).unsqueeze(1),
        });
        DrawGroup {
            columns: self.columns,
            members: self.members,
            span: self.span,
            guidance,
            noise: self.noise.arrive(arrived),
        }
    }
}

impl DrawGroup<'_, '_> {
    /// Computes the logits and draws at all positions; returns the measures, [N, 7].
    fn measures(&mut self, backbone: &Backbone, hidden_ND: &Tensor) -> Result<Tensor> {
        let logits_NV = self.logits(backbone, hidden_ND)?;
        let raises = raises(&mut self.members, &logits_NV, self.columns)?;
        measures(&raised(logits_NV, &raises)?, &self.noise, self.columns.writable)
    }

    /// Computes the logits of all drawn positions with guidance applied, [N, V].
    fn logits(&self, backbone: &Backbone, hidden_ND: &Tensor) -> Result<Tensor> {
        let count = self
            .members
            .iter()
            .map(|(_, places)| places.row.len() as i64)
            .sum();
        let columns = Some((i64::from(self.columns.start), i64::from(self.columns.end)));
        let (start, length) = self.span;
        let logits = backbone.sampled_head(&hidden_ND.f_narrow(0, start, length)?, columns)?;
        let Some(Guidance { at_G, scales_G1 }) = &self.guidance else {
            return Ok(logits.f_narrow(0, 0, count)?);
        };
        let logits = logits.f_to_kind(Kind::Float)?;
        let mut conditional_NV = logits.f_narrow(0, 0, count)?;
        let unconditional_GV = logits.f_narrow(0, count, at_G.size()[0])?;
        let away = conditional_NV
            .f_index_select(0, at_G)?
            .f_sub(&unconditional_GV)?
            .f_mul(scales_G1)?;
        Ok(conditional_NV.f_index_copy_(0, at_G, &unconditional_GV.f_add(&away)?)?)
    }
}

/// Builds the chunks of each row and its unconditional half, and finds its drawn positions among their places.
fn chunks(inputs: &[RowInput<'_>]) -> Result<(Vec<Chunk>, Vec<Places>)> {
    let (mut chunks, mut at_T) = (Vec::new(), 0);
    let mut add = |row: &RowTokens, slot: usize, input: &RowInput<'_>| -> Result<Vec<i64>> {
        let chunk = chunk(row, slot, &input.request.compute);
        let start = input.sampling.state().request.target.start;
        let place_of = |at: usize| -> Result<i64> {
            let place = start + at - row.pad;
            let found = chunk.places.binary_search(&place).map_err(|_| {
                ModelError::Refused(format!(
                    "position {place} was selected for sampling but has no logits"
                ))
            })?;
            Ok(at_T + found as i64)
        };
        let places = input
            .request
            .positions
            .iter()
            .map(|want| place_of(want.at))
            .collect();
        at_T += chunk.ids.len() as i64;
        chunks.push(chunk);
        places
    };
    let mut all = Vec::with_capacity(inputs.len());
    for input in inputs {
        let row = add(&input.sampling.tokens(), input.slot, input)?;
        let unconditional = match input.unconditional_slot {
            Some(slot) => add(&input.sampling.unconditional_tokens(), slot, input)?,
            None => Vec::new(),
        };
        all.push(Places { row, unconditional });
    }
    Ok((chunks, all))
}

/// Builds the chunk of a row: the requested positions, without the padding that no query attends to.
pub(super) fn chunk(row: &RowTokens, slot: usize, compute: &Compute) -> Chunk {
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
        soft_pad: row.soft_pad,
    }
}

/// Returns the indices of the guided positions among the drawn ones, and the factor w + 1 of each.
fn scales(members: &[Member<'_, '_>]) -> (Vec<i64>, Vec<f32>) {
    let (mut guided, mut scales): (Vec<i64>, Vec<f32>) = (Vec::new(), Vec::new());
    let mut at = 0;
    for (input, places) in members {
        if !places.unconditional.is_empty() {
            guided.extend(at..at + places.row.len() as i64);
            #[allow(clippy::cast_possible_truncation)]
            let scale = input.sampling.guidance() as f32 + 1.0;
            scales.extend(std::iter::repeat_n(scale, places.row.len()));
        }
        at += places.row.len() as i64;
    }
    (guided, scales)
}

/// Returns the raises of a group's logits by credit, each as row, column and amount. A row with credit first earns from
/// the likeliest tokens of this step.
fn raises(
    group: &mut [Member<'_, '_>],
    logits_NV: &Tensor,
    columns: Columns,
) -> Result<Vec<(i64, i64, f32)>> {
    let mut raises = Vec::new();
    let mut first = 0;
    for (input, _) in group {
        let (start, count) = (first, input.request.positions.len() as i64);
        first += count;
        if !input.sampling.has_credits() {
            continue;
        }
        let cold = vec![COLD; input.request.positions.len()];
        let rows_NV = logits_NV.f_narrow(0, start, count)?;
        let guesses = draw(&rows_NV, &cold, columns.writable)?;
        for (row, raised) in (start..).zip(input.sampling.raises(&guesses)) {
            raises.extend(raised.into_iter().map(|(token, by)| (row, i64::from(token), by)));
        }
    }
    Ok(raises)
}

/// Adds the raises to the logits.
fn raised(logits_NV: Tensor, raises: &[(i64, i64, f32)]) -> Result<Tensor> {
    if raises.is_empty() {
        return Ok(logits_NV);
    }
    let mut packet = Packet::new();
    let rows = packet.longs(raises.iter().map(|raise| raise.0));
    let columns = packet.longs(raises.iter().map(|raise| raise.1));
    let by = packet.floats(raises.iter().map(|raise| raise.2));
    let arrived = packet.send(logits_NV.device())?;
    let at = [Some(arrived.get(rows)), Some(arrived.get(columns))];
    let mut logits_NV = logits_NV.f_to_kind(Kind::Float)?;
    Ok(logits_NV.f_index_put_(&at, &arrived.get(by), true)?)
}
