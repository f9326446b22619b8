//! The running batch: rows of any lengths and settings go through the network together, each with what it needs computed.
//!
//! Continuous batching: a row joins whenever there is room and leaves when it is done, text at the end of a block, a picture
//! after its last step. Nothing is padded and no row sees another, so a row's sample is the one that it would be alone; its
//! noise comes from its own seed (law L8). Room goes to those who have the least of it: a single prompt does not wait for the
//! thousand rows of a benchmark that came before it. Legend: T computed places, N drawn positions, V columns, D width.

#![allow(non_snake_case)]

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use demask_api::{Sample, SampleFrame, SampleRequest};
use tch::{Device, Kind, Tensor};

use super::draw::{Noise, draw};
use super::lane::{Lane, Row};
use super::need::{Columns, Compute, Need};
use crate::attention_mask::AttentionMask;
use crate::backbone::Backbone;
use crate::error::{ModelError, Result};
use crate::kv_cache::{Chunk, KvCache};

/// Where a watched row's frames go, with its ticket; for pictures with the present guess of every code, so that it can be
/// decoded.
pub type OnFrame<'a> = &'a mut dyn FnMut(usize, SampleFrame, Option<&[u32]>) -> Result<()>;

/// How much runs at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows; one with guidance counts twice.
    pub rows: usize,
    /// Tokens of all rows together, and places of the cache (but always one row): what is kept and what one pass computes.
    pub tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 64,
            tokens: 65_536,
        }
    }
}

/// A cache: how many rows, and of how many places each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    slots: usize,
    places: usize,
}

/// A row in the batch.
#[derive(Debug)]
struct Running {
    ticket: usize,
    party: usize,
    lane: Lane,
    slot: usize,
    /// Where its unconditional half is kept.
    shadow: Option<usize>,
}

/// The likeliest token.
const COLD: Noise = Noise {
    temperature: 0.0,
    share: 0.0,
};

/// Rows on their way, and those that wait for room.
#[derive(Debug)]
pub struct Batch<'a> {
    backbone: &'a Backbone,
    limits: Limits,
    cache: Option<KvCache>,
    free: Vec<usize>,
    running: Vec<Running>,
    /// By party.
    waiting: BTreeMap<usize, Party>,
    submitted: usize,
    parties: usize,
}

/// Rows that were submitted together and wait.
#[derive(Debug, Default)]
struct Party {
    rows: VecDeque<(usize, Lane)>,
    /// How many of them have been let in.
    admitted: usize,
}

/// One row's part of a pass.
struct Part {
    /// Index into the running rows.
    at: usize,
    need: Need,
    /// For each want its row of hidden states.
    hidden: Vec<i64>,
    /// The same of the unconditional half; empty without guidance.
    shadow: Vec<i64>,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    #[must_use]
    pub fn new(backbone: &'a Backbone, limits: Limits) -> Self {
        Self {
            backbone,
            limits,
            cache: None,
            free: Vec::new(),
            running: Vec::new(),
            waiting: BTreeMap::new(),
            submitted: 0,
            parties: 0,
        }
    }

    /// Queues rows; gives their tickets, the next ones, which are counted from 0.
    ///
    /// # Errors
    /// Settings that do not fit a target; nothing is queued then.
    pub fn submit(&mut self, requests: Vec<SampleRequest>) -> Result<Range<usize>> {
        let lane = |request| Lane::new(self.backbone, request);
        let lanes: Vec<Lane> = requests.into_iter().map(lane).collect::<Result<_>>()?;
        let first = self.submitted;
        self.submitted += lanes.len();
        if !lanes.is_empty() {
            let rows = (first..).zip(lanes).collect();
            self.waiting.insert(self.parties, Party { rows, admitted: 0 });
            self.parties += 1;
        }
        Ok(first..self.submitted)
    }

    /// Takes rows out that nobody waits for any more.
    pub fn withdraw(&mut self, tickets: &Range<usize>) {
        for party in self.waiting.values_mut() {
            party.rows.retain(|(ticket, _)| !tickets.contains(ticket));
        }
        self.waiting.retain(|_, party| !party.rows.is_empty());
        let (gone, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|row| tickets.contains(&row.ticket));
        self.running = running;
        self.vacate(&gone);
    }

    /// The tickets of the rows that are on their way, in no order.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        self.running.iter().map(|row| row.ticket)
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Takes in what there is room for, does one pass, and gives the rows that are done, with their tickets.
    ///
    /// # Errors
    /// Logits that are no numbers, libtorch's. The batch is of no use then.
    pub fn step(&mut self, on_frame: OnFrame<'_>) -> Result<Vec<(usize, Sample)>> {
        self.admit()?;
        let mut done = self.leave();
        if self.running.is_empty() {
            return Ok(done);
        }
        let (parts, hidden_TD) = self.compute()?;
        self.draw(&parts, &hidden_TD)?;
        for part in &parts {
            let lane = &self.running[part.at].lane;
            if lane.request().watch {
                let (frame, guess) = lane.frame();
                on_frame(self.running[part.at].ticket, frame, guess)?;
            }
        }
        done.extend(self.leave());
        Ok(done)
    }

    fn tokens(&self) -> usize {
        let of = |running: &Running| {
            running.lane.request().ids.len() * (1 + usize::from(running.shadow.is_some()))
        };
        self.running.iter().map(of).sum()
    }

    fn admit(&mut self) -> Result<()> {
        while let Some(party) = self.next_party() {
            let Some((_, lane)) = self.waiting.get(&party).and_then(|party| party.rows.front()) else {
                return Ok(());
            };
            let halves = 1 + usize::from(lane.guidance() != 0.0);
            let length = lane.request().ids.len();
            let Some(room) = self.room_for(halves, length) else {
                return Ok(());
            };
            self.make(room)?;
            let Some((ticket, lane)) = self.take_from(party) else {
                return Ok(());
            };
            let mut slot = || self.free.pop().unwrap_or_default();
            let (first, second) = (slot(), (halves == 2).then(&mut slot));
            self.running.push(Running {
                ticket,
                party,
                lane,
                slot: first,
                shadow: second,
            });
        }
        Ok(())
    }

    fn take_from(&mut self, party: usize) -> Option<(usize, Lane)> {
        let known = self.waiting.get_mut(&party)?;
        let row = known.rows.pop_front();
        known.admitted += 1;
        if known.rows.is_empty() {
            self.waiting.remove(&party);
        }
        row
    }

    /// The party with the fewest rows on their way; of those the one that has been let in least.
    fn next_party(&self) -> Option<usize> {
        let running = |party: usize| self.running.iter().filter(|row| row.party == party).count();
        let waiting = self.waiting.iter();
        waiting
            .min_by_key(|&(&number, party)| (running(number), party.admitted, number))
            .map(|(&number, _)| number)
    }

    /// The cache that a row of so many halves of that length may have its places in; none while it has to wait.
    fn room_for(&self, halves: usize, length: usize) -> Option<Room> {
        let idle = self.running.is_empty();
        let rows: usize = self
            .running
            .iter()
            .map(|row| 1 + usize::from(row.shadow.is_some()))
            .sum();
        let fits = rows + halves <= self.limits.rows && self.tokens() + halves * length <= self.limits.tokens;
        if !fits && !idle {
            return None;
        }
        let (slots, places) = self
            .cache
            .as_ref()
            .map_or((0, 0), |cache| (cache.slots(), cache.capacity()));
        if self.free.len() >= halves && places >= length {
            return Some(Room { slots, places });
        }
        // What nobody uses need not be kept: the next one is made for those that come.
        let (slots, places, free) = if idle {
            (0, 0, 0)
        } else {
            (slots, places, self.free.len())
        };
        let least = Room {
            slots: slots + halves.saturating_sub(free),
            places: KvCache::places(places.max(length)),
        };
        let kept =
            |room: Room| room.slots <= self.limits.rows && room.slots * room.places <= self.limits.tokens;
        if !kept(least) {
            return idle.then_some(least);
        }
        let waiting = || self.waiting.values().flat_map(|party| &party.rows);
        let longest = waiting().map(|(_, lane)| lane.request().ids.len()).max();
        let all = Room {
            slots: (slots + waiting().count() * halves).min(self.limits.rows),
            places: KvCache::places(longest.unwrap_or(0).max(least.places)),
        };
        let ample = Room {
            slots: all.slots.min(self.limits.tokens / all.places.max(1)),
            ..all
        };
        Some(if ample.slots >= least.slots { ample } else { least })
    }

    /// Sees to it that the cache is so large.
    fn make(&mut self, room: Room) -> Result<()> {
        let same = |cache: &KvCache| (cache.slots(), cache.capacity()) == (room.slots, room.places);
        if self.cache.as_ref().is_some_and(same) {
            return Ok(());
        }
        if self.running.is_empty() {
            // Let go before the next is made: there may be no room for both.
            (self.cache, self.free) = (None, Vec::new());
        }
        let (device, kind) = (self.backbone.device(), self.backbone.kind());
        let cache = KvCache::new(self.backbone.config(), room.slots, room.places, device, kind)?;
        let kept = self.cache.as_ref().map_or(0, KvCache::slots);
        if let Some(old) = &self.cache {
            cache.take_over(old)?;
        }
        self.free.extend((kept..room.slots).rev());
        self.cache = Some(cache);
        Ok(())
    }

    /// Takes the rows that are done out.
    fn leave(&mut self) -> Vec<(usize, Sample)> {
        let running = std::mem::take(&mut self.running);
        let (done, running): (Vec<Running>, Vec<Running>) =
            running.into_iter().partition(|running| running.lane.is_done());
        self.running = running;
        self.vacate(&done);
        done.into_iter()
            .map(|row| (row.ticket, row.lane.finish()))
            .collect()
    }

    fn vacate(&mut self, rows: &[Running]) {
        let slots = rows.iter().flat_map(|row| [Some(row.slot), row.shadow]);
        self.free.extend(slots.flatten());
    }

    /// The pass: what each row needs, and the hidden states of it.
    fn compute(&mut self) -> Result<(Vec<Part>, Tensor)> {
        let (mut parts, mut chunks) = (Vec::new(), Vec::new());
        let mut alone: Vec<Tensor> = Vec::new();
        let mut at_T = 0;
        // Rows whose padding is merely weaker are computed by themselves, in front.
        for (at, running) in self
            .running
            .iter_mut()
            .enumerate()
            .filter(|(_, running)| running.lane.additive())
        {
            let Some(need) = running.lane.need() else { continue };
            let mut of = |row: &Row, padding: usize| -> Result<Vec<i64>> {
                let hidden = whole_row(self.backbone, row, padding)?;
                let start = running.lane.request().target.start;
                let places = need
                    .wants
                    .iter()
                    .map(|want| at_T + (start + want.at) as i64)
                    .collect();
                at_T += hidden.size()[0];
                alone.push(hidden);
                Ok(places)
            };
            let hidden = of(&running.lane.row(), running.lane.request().left_pad)?;
            let shadow = match running.shadow {
                Some(_) => of(
                    &running.lane.unconditional(),
                    running.lane.request().unconditional_left_pad,
                )?,
                None => Vec::new(),
            };
            parts.push(Part {
                at,
                need,
                hidden,
                shadow,
            });
        }
        for (at, running) in self
            .running
            .iter_mut()
            .enumerate()
            .filter(|(_, running)| !running.lane.additive())
        {
            let Some(need) = running.lane.need() else { continue };
            let start = running.lane.request().target.start;
            let mut of = |row: &Row, slot: usize| -> Result<Vec<i64>> {
                let (chunk, first) = (chunk(row, slot, &need.compute), at_T);
                let place = |want: usize| -> Result<i64> {
                    let place = start + want - row.pad;
                    let found = chunk.places.binary_search(&place);
                    let found = found.map_err(|_| {
                        ModelError::Refused(format!("position {place} is drawn but was not computed"))
                    })?;
                    Ok(first + found as i64)
                };
                let places: Vec<i64> = need
                    .wants
                    .iter()
                    .map(|want| place(want.at))
                    .collect::<Result<_>>()?;
                at_T += chunk.ids.len() as i64;
                chunks.push(chunk);
                Ok(places)
            };
            let hidden = of(&running.lane.row(), running.slot)?;
            let shadow = running
                .shadow
                .map(|slot| of(&running.lane.unconditional(), slot))
                .transpose()?
                .unwrap_or_default();
            parts.push(Part {
                at,
                need,
                hidden,
                shadow,
            });
        }
        if !chunks.is_empty()
            && let Some(cache) = &self.cache
        {
            alone.push(self.backbone.cached(cache, &chunks)?);
        }
        let hidden_TD = match alone.len() {
            1 => alone.remove(0),
            _ => Tensor::f_cat(&alone, 0)?,
        };
        Ok((parts, hidden_TD))
    }

    /// Draws what each row wants, those that write the same columns together.
    fn draw(&mut self, parts: &[Part], hidden_TD: &Tensor) -> Result<()> {
        let mut groups: BTreeMap<Columns, Vec<&Part>> = BTreeMap::new();
        for part in parts {
            let columns = self.running[part.at].lane.columns();
            groups.entry(columns).or_default().push(part);
        }
        for (columns, group) in groups {
            let logits_NV = tch::no_grad(|| self.logits(columns, &group, hidden_TD))?;
            let noise: Vec<Noise> = group
                .iter()
                .flat_map(|part| part.need.wants.iter().map(|want| want.noise))
                .collect();
            let raises = self.raises(&group, &logits_NV, columns)?;
            let drawn = draw(&raised(logits_NV, &raises)?, &noise, columns.writable)?;
            let mut at = 0;
            for part in group {
                let range = at..at + part.need.wants.len();
                at = range.end;
                self.running[part.at].lane.take(&drawn[range]);
            }
        }
        Ok(())
    }

    /// For each raise of a group's wants: row, column, by how much. Whoever has credits earns with what is likeliest now.
    fn raises(
        &mut self,
        group: &[&Part],
        logits_NV: &Tensor,
        columns: Columns,
    ) -> Result<Vec<(i64, i64, f32)>> {
        let mut raises = Vec::new();
        let mut first = 0;
        for part in group {
            let (start, count) = (first, part.need.wants.len());
            first += count;
            let lane = &mut self.running[part.at].lane;
            if !lane.has_credits() {
                continue;
            }
            let cold = vec![COLD; count];
            let rows_NV = logits_NV.f_narrow(0, start as i64, count as i64)?;
            let guesses = draw(&rows_NV, &cold, columns.writable)?;
            for (row, raised) in lane.raises(&guesses).into_iter().enumerate() {
                let row = (start + row) as i64;
                raises.extend(raised.into_iter().map(|(token, by)| (row, i64::from(token), by)));
            }
        }
        Ok(raises)
    }

    /// Logits of all wants of a group, guidance applied: [N, V].
    fn logits(&self, columns: Columns, group: &[&Part], hidden_TD: &Tensor) -> Result<Tensor> {
        let device = self.backbone.device();
        let index = |places: &[i64]| -> Result<Tensor> {
            let index = Tensor::f_from_slice(places)?.f_to_device(device)?;
            Ok(hidden_TD.f_index_select(0, &index)?)
        };
        let rows: Vec<i64> = group
            .iter()
            .flat_map(|part| part.hidden.iter().copied())
            .collect();
        let shadows: Vec<i64> = group
            .iter()
            .flat_map(|part| part.shadow.iter().copied())
            .collect();
        let all: Vec<i64> = rows.iter().chain(&shadows).copied().collect();
        let span = Some((i64::from(columns.start), i64::from(columns.end)));
        let logits = self.backbone.head(&index(&all)?, span)?;
        if shadows.is_empty() {
            return Ok(logits);
        }
        let logits = logits.f_to_kind(Kind::Float)?;
        let count = rows.len() as i64;
        let mut conditional_NV = logits.f_narrow(0, 0, count)?;
        let unconditional_GV = logits.f_narrow(0, count, shadows.len() as i64)?;
        let (mut guided, mut scales): (Vec<i64>, Vec<f32>) = (Vec::new(), Vec::new());
        let mut at = 0;
        for part in group {
            let wants = part.need.wants.len();
            if !part.shadow.is_empty() {
                guided.extend(at as i64..(at + wants) as i64);
                #[allow(clippy::cast_possible_truncation)]
                let scale = self.running[part.at].lane.guidance() as f32 + 1.0;
                scales.extend(std::iter::repeat_n(scale, wants));
            }
            at += wants;
        }
        let guided = Tensor::f_from_slice(&guided)?.f_to_device(device)?;
        let scales_G1 = Tensor::f_from_slice(&scales)?
            .f_to_device(device)?
            .f_unsqueeze(1)?;
        let away = conditional_NV
            .f_index_select(0, &guided)?
            .f_sub(&unconditional_GV)?
            .f_mul(&scales_G1)?;
        Ok(conditional_NV.f_index_copy_(0, &guided, &unconditional_GV.f_add(&away)?)?)
    }
}

/// A row's part of a pass: the chosen positions, without padding.
fn chunk(row: &Row, slot: usize, compute: &Compute) -> Chunk {
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
    }
}

/// Hidden states of every position of a row, [L, D], its padding merely weaker.
fn whole_row(backbone: &Backbone, row: &Row, padding: usize) -> Result<Tensor> {
    let ids: Vec<i64> = row.ids.iter().map(|&id| i64::from(id)).collect();
    let real: Vec<f32> = (0..ids.len())
        .map(|at| if at < padding { 0.0 } else { 1.0 })
        .collect();
    let ids_BL = Tensor::f_from_slice(&ids)?
        .f_unsqueeze(0)?
        .f_to_device(backbone.device())?;
    let mask = AttentionMask::LegacyPlusOne(Tensor::f_from_slice(&real)?.f_unsqueeze(0)?);
    tch::no_grad(|| Ok(backbone.hidden(&ids_BL, &mask)?.f_squeeze_dim(0)?))
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
    let by = Tensor::f_from_slice(&by)?
        .f_to_device(Device::Cpu)?
        .f_to_device(device)?;
    let mut logits_NV = logits_NV.f_to_kind(Kind::Float)?;
    Ok(logits_NV.f_index_put_(&[Some(rows), Some(columns)], &by, true)?)
}

/// Fills every request's masks in, in the order asked.
///
/// # Errors
/// As [`Batch::step`]; an attention that no cache can do together with one.
pub fn sample(backbone: &Backbone, requests: &[SampleRequest], on_frame: OnFrame<'_>) -> Result<Vec<Sample>> {
    let mut batch = Batch::new(backbone, Limits::default());
    batch.submit(requests.to_vec())?;
    let mut samples: Vec<Option<Sample>> = requests.iter().map(|_| None).collect();
    while !batch.is_empty() {
        for (ticket, sample) in batch.step(on_frame)? {
            samples[ticket] = Some(sample);
        }
    }
    samples
        .into_iter()
        .map(|sample| sample.ok_or_else(|| ModelError::Refused("a row was lost in the batch".into())))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_api::{BackboneConfig, Span, TextSampler};

    use super::*;

    /// A long row among short ones does not make room for all of them as if they were long.
    #[test]
    fn the_cache_is_bounded_by_tokens_too() {
        let config = BackboneConfig {
            d_model: 8,
            n_heads: 2,
            n_layers: 1,
            mlp_hidden_size: Some(8),
            max_sequence_length: 128,
            vocab_size: 20,
            mask_token_id: 10,
            eos_token_id: 11,
            codebook_size: 0,
            ..BackboneConfig::default()
        };
        let backbone = Backbone::fresh(&config, 1, Device::Cpu, Kind::Float).unwrap();
        let request = |length: usize| SampleRequest {
            id: length as u64,
            ids: vec![10; length],
            left_pad: 0,
            target: Span {
                start: length - 4,
                end: length,
            },
            sampler: demask_api::Sampler::Text(TextSampler {
                steps: 4,
                block: 4,
                ..TextSampler::default()
            }),
            grid: None,
            unconditional: None,
            unconditional_left_pad: 0,
            seed: 0,
            watch: false,
        };
        let limits = Limits {
            rows: 16,
            tokens: 256,
        };
        let mut batch = Batch::new(&backbone, limits);
        let lengths = [[20; 9].as_slice(), &[120, 20, 20, 40, 60, 128]].concat();
        batch
            .submit(lengths.iter().map(|&length| request(length)).collect())
            .unwrap();
        let (mut done, mut most) = (0, 0);
        while !batch.is_empty() {
            done += batch.step(&mut |_, _, _| Ok(())).unwrap().len();
            most = most.max(batch.running.len());
            let cache = batch.cache.as_ref().unwrap();
            assert!(cache.slots() * cache.capacity() <= 256);
            assert_eq!(
                batch.free.len() + batch.running.len(),
                cache.slots(),
                "no slot is lost"
            );
        }
        assert_eq!(done, lengths.len());
        assert!(most > 1);
    }
}
