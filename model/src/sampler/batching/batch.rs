//! The running batch: rows of any lengths and settings go through the network together, each with what it needs computed.
//!
//! Continuous batching: a row joins whenever there is room and leaves when it is done, text at the end of a block, a picture
//! after its last step. Rows are not padded to each other's length and none sees another, so a row's sample is the one that it
//! would be alone; its noise comes from its own seed (law L8). Room goes to those who have the least of it: a single prompt
//! does not wait for the thousand rows of a benchmark that came before it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::device_loop::{DeviceBlock, Stepping};
use super::forward::{RowInput, chunk, forward};
use super::limits::Limits;
use super::shelf::KeptCache;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::network::chunk::Chunk;
use crate::network::kv_cache::KvCache;
use crate::sampler::forward_request::{Compute, RemainingSteps};
use crate::sampler::image::ImageRow;
use crate::sampler::row::SamplingRow;
use crate::sampler::text::TextRow;
use demask_api::{Sample, SampleFrame, SampleRequest, Sampler};

/// Where a watched row's frames go, with its ticket; for pictures with the present guess of every code, so that it can be
/// decoded.
pub type OnFrame<'a> = &'a mut dyn FnMut(usize, SampleFrame, Option<&[u32]>) -> Result<()>;

/// A cache: how many rows, and of how many places each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CacheExtent {
    slots: usize,
    places: usize,
}

/// A row in the batch.
#[derive(Debug)]
struct Running {
    ticket: usize,
    client: usize,
    sampling: SamplingRow,
    slot: usize,
    /// Where its unconditional half is kept.
    unconditional_slot: Option<usize>,
}

/// Rows on their way, and those that wait for room.
#[derive(Debug)]
pub struct Batch<'a> {
    backbone: &'a Backbone,
    limits: Limits,
    cache: Option<KvCache>,
    stepping: Stepping,
    /// The last block that the device did by itself, whose tables and recording the next may use.
    device_block: Option<DeviceBlock>,
    /// How many steps the last such block took that ended by itself.
    last_block_steps: usize,
    free: Vec<usize>,
    running: Vec<Running>,
    /// By client.
    waiting: BTreeMap<usize, Submission>,
    submitted: usize,
    clients: usize,
}

/// Rows that were submitted together and wait.
#[derive(Debug, Default)]
struct Submission {
    rows: VecDeque<(usize, SamplingRow)>,
    /// How many of them have been let in.
    admitted: usize,
}

impl<'a> Batch<'a> {
    /// An empty batch.
    #[must_use]
    pub fn new(backbone: &'a Backbone, limits: Limits) -> Self {
        Self {
            backbone,
            limits,
            cache: None,
            stepping: Stepping::of(backbone),
            device_block: None,
            last_block_steps: 0,
            free: Vec::new(),
            running: Vec::new(),
            waiting: BTreeMap::new(),
            submitted: 0,
            clients: 0,
        }
    }

    /// Another way of doing the steps of a block than the device gains by.
    #[must_use]
    pub fn stepping(mut self, stepping: Stepping) -> Self {
        self.stepping = stepping;
        self
    }

    /// Goes on with the cache of a run that is over.
    #[must_use]
    pub(super) fn keeping(mut self, kept: Option<KeptCache>) -> Self {
        if let Some(kept) = kept {
            self.free = (0..kept.cache.slots()).rev().collect();
            (self.cache, self.device_block, self.last_block_steps) =
                (Some(kept.cache), kept.device_block, kept.last_block_steps);
        }
        self
    }

    /// Gives the cache away, if no row is in it.
    pub(super) fn take_kept(&mut self) -> Option<KeptCache> {
        if !self.is_empty() {
            return None;
        }
        self.free.clear();
        Some(KeptCache {
            cache: self.cache.take()?,
            device_block: self.device_block.take(),
            last_block_steps: self.last_block_steps,
        })
    }

    /// Queues rows; gives their tickets, the next ones, which are counted from 0.
    ///
    /// # Errors
    /// Settings that do not fit a target; nothing is queued then.
    pub fn submit(&mut self, requests: Vec<SampleRequest>) -> Result<Range<usize>> {
        let rows = numbered(self.backbone, requests, self.submitted)?;
        let tickets = self.submitted..self.submitted + rows.len();
        self.submitted = tickets.end;
        self.queue(rows);
        Ok(tickets)
    }

    /// Queues rows that are made already, with tickets of the caller's.
    pub(super) fn queue(&mut self, rows: VecDeque<(usize, SamplingRow)>) {
        if !rows.is_empty() {
            self.waiting
                .insert(self.clients, Submission { rows, admitted: 0 });
            self.clients += 1;
        }
    }

    /// Takes rows out that nobody waits for any more.
    pub fn withdraw(&mut self, tickets: &Range<usize>) {
        for client in self.waiting.values_mut() {
            client.rows.retain(|(ticket, _)| !tickets.contains(ticket));
        }
        self.waiting.retain(|_, client| !client.rows.is_empty());
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

    /// Takes in what there is room for, does one pass (or what is left of the rows' blocks, where a device does that by
    /// itself), and gives the rows that are done, with their tickets.
    ///
    /// # Errors
    /// Logits that are no numbers, libtorch's. The batch is of no use then.
    pub fn step(&mut self, on_frame: OnFrame<'_>) -> Result<Vec<(usize, Sample)>> {
        self.admit()?;
        let mut done = self.leave();
        if self.running.is_empty() {
            return Ok(done);
        }
        if !self.block()? {
            self.forward()?;
        }
        for row in self
            .running
            .iter()
            .filter(|row| row.sampling.state().request.watch)
        {
            on_frame(row.ticket, row.sampling.frame(), row.sampling.guess())?;
        }
        done.extend(self.leave());
        Ok(done)
    }

    fn tokens(&self) -> usize {
        let of = |running: &Running| {
            running.sampling.state().request.ids.len()
                * (1 + usize::from(running.unconditional_slot.is_some()))
        };
        self.running.iter().map(of).sum()
    }

    fn admit(&mut self) -> Result<()> {
        while let Some(client) = self.next_client() {
            let Some((_, row)) = self.waiting.get(&client).and_then(|client| client.rows.front()) else {
                return Ok(());
            };
            let halves = 1 + usize::from(row.guidance() != 0.0);
            let length = row.state().request.ids.len();
            let Some(room) = self.room_for(halves, length) else {
                return Ok(());
            };
            self.make(room)?;
            let Some((ticket, sampling)) = self.take_from(client) else {
                return Ok(());
            };
            let mut slot = || self.free.pop().unwrap_or_default();
            let (first, second) = (slot(), (halves == 2).then(&mut slot));
            self.running.push(Running {
                ticket,
                client,
                sampling,
                slot: first,
                unconditional_slot: second,
            });
        }
        Ok(())
    }

    fn take_from(&mut self, client: usize) -> Option<(usize, SamplingRow)> {
        let known = self.waiting.get_mut(&client)?;
        let row = known.rows.pop_front();
        known.admitted += 1;
        if known.rows.is_empty() {
            self.waiting.remove(&client);
        }
        row
    }

    /// The client with the fewest rows on their way; of those the one that has been let in least.
    fn next_client(&self) -> Option<usize> {
        let running = |client: usize| self.running.iter().filter(|row| row.client == client).count();
        let waiting = self.waiting.iter();
        waiting
            .min_by_key(|&(&number, client)| (running(number), client.admitted, number))
            .map(|(&number, _)| number)
    }

    /// The cache that a row of so many halves of that length may have its places in; none while it has to wait.
    fn room_for(&self, halves: usize, length: usize) -> Option<CacheExtent> {
        let idle = self.running.is_empty();
        let rows: usize = self
            .running
            .iter()
            .map(|row| 1 + usize::from(row.unconditional_slot.is_some()))
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
            return Some(CacheExtent { slots, places });
        }
        // What nobody uses need not be kept: the next one is made for those that come.
        let (slots, places, free) = if idle {
            (0, 0, 0)
        } else {
            (slots, places, self.free.len())
        };
        let least = CacheExtent {
            slots: slots + halves.saturating_sub(free),
            places: KvCache::places(places.max(length)),
        };
        let kept = |room: CacheExtent| {
            room.slots <= self.limits.rows && room.slots * room.places <= self.limits.tokens
        };
        if !kept(least) {
            return idle.then_some(least);
        }
        let waiting = || self.waiting.values().flat_map(|client| &client.rows);
        let longest = waiting().map(|(_, row)| row.state().request.ids.len()).max();
        let all = CacheExtent {
            slots: (slots + waiting().count() * halves).min(self.limits.rows),
            places: KvCache::places(longest.unwrap_or(0).max(least.places)),
        };
        let ample = CacheExtent {
            slots: all.slots.min(self.limits.tokens / all.places.max(1)),
            ..all
        };
        Some(if ample.slots >= least.slots { ample } else { least })
    }

    /// Sees to it that the cache is so large.
    fn make(&mut self, room: CacheExtent) -> Result<()> {
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
        // What it recorded is of the old one.
        self.device_block = None;
        self.cache = Some(cache);
        Ok(())
    }

    /// Takes the rows that are done out.
    fn leave(&mut self) -> Vec<(usize, Sample)> {
        let running = std::mem::take(&mut self.running);
        let (done, running): (Vec<Running>, Vec<Running>) = running
            .into_iter()
            .partition(|running| running.sampling.state().done);
        self.running = running;
        self.vacate(&done);
        done.into_iter()
            .map(|row| (row.ticket, row.sampling.finish()))
            .collect()
    }

    fn vacate(&mut self, rows: &[Running]) {
        let slots = rows
            .iter()
            .flat_map(|row| [Some(row.slot), row.unconditional_slot]);
        self.free.extend(slots.flatten());
    }

    /// Steps of all rows' blocks without asking, where that can be done: whether it was.
    fn block(&mut self) -> Result<bool> {
        let resident = self.stepping != Stepping::HostDriven;
        let Some(cache) = self.cache.as_ref().filter(|_| resident) else {
            return Ok(false);
        };
        let remaining = |row: &Running| {
            let remaining = row.sampling.remaining_steps()?;
            let compute = Compute::Range(remaining.computed.clone());
            Some((chunk(&row.sampling.tokens(), row.slot, &compute), remaining))
        };
        let Some(rows) = self.running.iter().map(remaining).collect::<Option<Vec<_>>>() else {
            return Ok(false);
        };
        let shape =
            |(chunk, remaining): &(Chunk, RemainingSteps)| (chunk.places.len(), remaining.window.len());
        let alike = rows.windows(2).all(|pair| shape(&pair[0]) == shape(&pair[1]));
        let mut columns = self.running.iter().map(|row| row.sampling.state().columns);
        let Some(first) = columns
            .next()
            .filter(|first| alike && columns.all(|other| other == *first))
        else {
            return Ok(false);
        };
        let steps = rows
            .iter()
            .map(|(_, remaining)| remaining.steps(self.last_block_steps));
        let steps = steps.max().unwrap_or(0);
        let device_block = DeviceBlock::new(self.backbone, cache, &rows, first.writable, self.stepping)?;
        let device_block = match self.device_block.take() {
            Some(last) => last.or_like(device_block, self.backbone)?,
            None => device_block,
        };
        let drawn = self
            .device_block
            .insert(device_block)
            .run(self.backbone, cache, steps)?;
        for (number, (row, (_, remaining))) in self.running.iter_mut().zip(&rows).enumerate() {
            let length = remaining.window.len();
            let own = number * length..(number + 1) * length;
            let mut steps = drawn.iter().map(|step| &step[own.clone()]);
            self.last_block_steps = row
                .sampling
                .replay(remaining, &mut steps)
                .unwrap_or(self.last_block_steps);
        }
        Ok(true)
    }

    /// One forward pass of all rows.
    fn forward(&mut self) -> Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let rows = self.running.iter_mut();
        let mut inputs: Vec<RowInput<'_>> = rows
            .filter_map(|row| RowInput::of(&mut *row.sampling, row.slot, row.unconditional_slot))
            .collect();
        forward(self.backbone, cache, &mut inputs)
    }
}

/// The rows of requests, with tickets from `first` on.
///
/// # Errors
/// Settings that do not fit a target.
pub(super) fn numbered(
    backbone: &Backbone,
    requests: Vec<SampleRequest>,
    first: usize,
) -> Result<VecDeque<(usize, SamplingRow)>> {
    let started = |(ticket, request): (usize, SampleRequest)| {
        let row: SamplingRow = match request.sampler.clone() {
            Sampler::Text(sampler) => Box::new(TextRow::new(backbone, request, sampler)?),
            Sampler::Image(sampler) => Box::new(ImageRow::new(backbone, request, sampler)?),
        };
        Ok((ticket, row))
    };
    (first..).zip(requests).map(started).collect()
}

/// Fills every request's masks in, in the order asked.
///
/// # Errors
/// The errors of [`Batch::step`]; an attention that no cache can do together with one.
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
    use tch::{Device, Kind};

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
