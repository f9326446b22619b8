//! The running batch: rows of any lengths and settings share each forward pass of the network.
//!
//! This is continuous batching: a row joins as soon as the limits allow and leaves when it is done, a text after its
//! last block and a picture after its last step. Rows are not padded to a common length and do not attend to each
//! other, and a row's noise comes from its own seed. A row therefore gets the same sample as it would alone (law L8).
//!
//! Admission is fair between clients: the client with the fewest running rows is next, so a single prompt does not wait
//! for the thousand rows of a benchmark that were queued before it.

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

/// The callback for the frames of watched rows. It gets the row's ticket, the frame and, for a picture, the current
/// guess of every code, so that the picture can be decoded.
pub type OnFrame<'a> = &'a mut dyn FnMut(usize, SampleFrame, Option<&[u32]>) -> Result<()>;

/// The size of a cache: the number of slots, one for each row or unconditional half, and the places in each.
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
    /// The cache slot of its unconditional half, with guidance.
    unconditional_slot: Option<usize>,
}

/// The rows that run and those that wait for admission.
#[derive(Debug)]
pub struct Batch<'a> {
    backbone: &'a Backbone,
    limits: Limits,
    cache: Option<KvCache>,
    stepping: Stepping,
    /// The last block that the device ran by itself; the next block of the same shape reuses its tables and CUDA graph.
    device_block: Option<DeviceBlock>,
    /// The number of steps of the last block that ran to its end on the device; 0 before the first.
    last_block_steps: usize,
    /// The free slots of the cache.
    free: Vec<usize>,
    running: Vec<Running>,
    /// The waiting rows of each client.
    waiting: BTreeMap<usize, Submission>,
    submitted: usize,
    clients: usize,
}

/// The waiting rows of one submission. Each submission counts as a client.
#[derive(Debug, Default)]
struct Submission {
    rows: VecDeque<(usize, SamplingRow)>,
    /// The number of its rows that were admitted so far.
    admitted: usize,
}

impl<'a> Batch<'a> {
    /// Creates an empty batch.
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

    /// Sets how the steps of a block run, in place of the default for the device.
    #[must_use]
    pub fn stepping(mut self, stepping: Stepping) -> Self {
        self.stepping = stepping;
        self
    }

    /// Reuses the cache of an earlier run.
    #[must_use]
    pub(super) fn keeping(mut self, kept: Option<KeptCache>) -> Self {
        if let Some(kept) = kept {
            self.free = (0..kept.cache.slots()).rev().collect();
            (self.cache, self.device_block, self.last_block_steps) =
                (Some(kept.cache), kept.device_block, kept.last_block_steps);
        }
        self
    }

    /// Takes the cache out of the batch, if the batch is empty.
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

    /// Queues rows and returns their tickets, which count up from 0.
    ///
    /// # Errors
    /// An error if the settings of a request do not fit its target. Nothing is queued then.
    pub fn submit(&mut self, requests: Vec<SampleRequest>) -> Result<Range<usize>> {
        let rows = numbered(self.backbone, requests, self.submitted)?;
        let tickets = self.submitted..self.submitted + rows.len();
        self.submitted = tickets.end;
        self.queue(rows);
        Ok(tickets)
    }

    /// Queues rows that the caller has built and given tickets.
    pub(super) fn queue(&mut self, rows: VecDeque<(usize, SamplingRow)>) {
        if !rows.is_empty() {
            self.waiting
                .insert(self.clients, Submission { rows, admitted: 0 });
            self.clients += 1;
        }
    }

    /// Removes rows whose samples are no longer wanted, whether they wait or run.
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

    /// Returns the tickets of the running rows, in no particular order.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        self.running.iter().map(|row| row.ticket)
    }

    /// Returns whether no row runs or waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    /// Admits waiting rows, runs one forward pass and returns the rows that are done, with their tickets.
    ///
    /// Where the device can run steps by itself, it runs the remaining steps of the rows' blocks in place of the one
    /// pass.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if logits are not finite, or any error libtorch reports. The batch is unusable after an
    /// error.
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

    /// Returns the number of tokens in all running rows, unconditional halves included.
    fn tokens(&self) -> usize {
        let of = |running: &Running| {
            running.sampling.state().request.ids.len()
                * (1 + usize::from(running.unconditional_slot.is_some()))
        };
        self.running.iter().map(of).sum()
    }

    /// Admits waiting rows as long as the limits allow.
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

    /// Returns the waiting client with the fewest running rows. Ties go to the one with fewer admitted rows, then to
    /// the older.
    fn next_client(&self) -> Option<usize> {
        let running = |client: usize| self.running.iter().filter(|row| row.client == client).count();
        let waiting = self.waiting.iter();
        waiting
            .min_by_key(|&(&number, client)| (running(number), client.admitted, number))
            .map(|(&number, _)| number)
    }

    /// Returns the size that the cache needs before a row can be admitted, or `None` if the row has to wait.
    ///
    /// The row has `halves` sequences (2 with guidance) of `length` tokens. A cache that must grow is made large enough
    /// for all waiting rows at once where the limits allow, so that it is not reallocated for each of them.
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
        // An idle cache that is too small is replaced rather than grown: it holds no row.
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

    /// Replaces the cache if it does not have this size. Running rows keep their keys and values.
    fn make(&mut self, room: CacheExtent) -> Result<()> {
        let same = |cache: &KvCache| (cache.slots(), cache.capacity()) == (room.slots, room.places);
        if self.cache.as_ref().is_some_and(same) {
            return Ok(());
        }
        if self.running.is_empty() {
            // The old cache is freed first: there may be no memory for both.
            (self.cache, self.free) = (None, Vec::new());
        }
        let (device, kind) = (self.backbone.device(), self.backbone.kind());
        let cache = KvCache::new(self.backbone.config(), room.slots, room.places, device, kind)?;
        let kept = self.cache.as_ref().map_or(0, KvCache::slots);
        if let Some(old) = &self.cache {
            cache.take_over(old)?;
        }
        self.free.extend((kept..room.slots).rev());
        // The recorded graph points into the old cache.
        self.device_block = None;
        self.cache = Some(cache);
        Ok(())
    }

    /// Removes the rows that are done and returns their samples.
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

    /// Frees the slots of rows that have left.
    fn vacate(&mut self, rows: &[Running]) {
        let slots = rows
            .iter()
            .flat_map(|row| [Some(row.slot), row.unconditional_slot]);
        self.free.extend(slots.flatten());
    }

    /// Runs the remaining steps of all rows' active blocks on the device, without the host in between.
    ///
    /// Returns false, and does nothing, if that is not possible: every row must allow it ([`RemainingSteps`]), and all
    /// must have the same number of computed places, the same block length and the same columns.
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
        // The steps run on tensors of fixed shapes, without padding, so all rows must have the same shape and columns.
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

    /// Runs one forward pass for all rows.
    fn forward(&mut self) -> Result<()> {
        let Some(cache) = &self.cache else { return Ok(()) };
        let rows = self.running.iter_mut();
        let mut inputs: Vec<RowInput<'_>> = rows
            .filter_map(|row| RowInput::of(&mut *row.sampling, row.slot, row.unconditional_slot))
            .collect();
        forward(self.backbone, cache, &mut inputs)
    }
}

/// Creates the rows of requests, with tickets from `first` on.
///
/// # Errors
/// An error if the settings of a request do not fit its target.
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

/// Samples every request and returns the samples in the order of the requests.
///
/// # Errors
/// The errors of [`Batch::submit`] and [`Batch::step`].
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

    /// The cache stays within the token limit when a long row runs among short ones.
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
