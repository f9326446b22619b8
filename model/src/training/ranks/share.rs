//! A rank's share of the trained parameters: which rank owns which elements, and the communication of gradients,
//! weights and optimizer state between owners.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use demask_api::{DistReport, RankReport};
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::device::transfer;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::optimizer::Stepped;
use crate::training::ranks::Reduction;
use crate::training::ranks::weight_traffic::WeightTraffic;
use crate::training::threads;
use crate::weights::parameters::Parameters;
use crate::weights::shards::gather::Gather as _;
use crate::weights::shards::{CHUNK, RankOf, ShardMap, chunks};
use crate::world::group::{Reduce, chunk_squares};
use crate::world::{ProcessGroup, World};

/// The most elements per owner that one collective call transfers. An exchange of gradients needs two buffers, one to
/// send and one to receive. Each buffer has this many elements for each rank.
const BUCKET: i64 = 16 * CHUNK;

/// A rank's share of the trained parameters.
#[derive(Clone, Debug)]
pub struct Share {
    pub(super) world: Rc<World>,
    /// The owner of every element.
    map: ShardMap,
    /// The traffic of sharded weights (ZeRO 3). `None` if every rank has all weights.
    pub(super) traffic: Option<Arc<WeightTraffic>>,
    /// Whether the trained weights themselves are sharded. An adapter is whole on every rank, whatever is below it.
    is_of_weights: bool,
    pub(super) device: Device,
    reduction: Reduction,
    /// The number of units that a rank computes at a time. It is the same on all ranks.
    pub(super) at_once: usize,
}

impl Share {
    /// Creates this rank's share of the trained parameters of a backbone. From then on, the batches of the backbone are
    /// divided into units. All ranks must call this together.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer is gone, or any error libtorch reports.
    pub fn of(world: &Rc<World>, backbone: &Backbone, reduction: Reduction) -> Result<Self> {
        let threads = threads::at_once(backbone);
        let at_once = Tensor::f_from_slice(&[threads as i64])?;
        world.group(Device::Cpu).all_reduce(&at_once, Reduce::Least)?;
        let parameters = backbone.trained();
        let device = parameters.master().device();
        backbone.room().cut_in_units();
        backbone.part_head()?;
        let total = i64::try_from(parameters.count()).unwrap_or(i64::MAX);
        let own = RankOf {
            rank: world.rank(),
            size: world.size(),
        };
        let map = match parameters.sharded() {
            None => ShardMap::in_ranges(total, own),
            Some(sharded) => sharded.map().clone(),
        };
        let traffic = match backbone.parameters().sharded() {
            None => None,
            Some(_) => {
                let traffic = Arc::new(WeightTraffic::open(world, device)?);
                backbone.gathered_by(Arc::clone(&traffic) as _);
                Some(traffic)
            }
        };
        Ok(Self {
            world: Rc::clone(world),
            map,
            traffic,
            is_of_weights: parameters.sharded().is_some(),
            device,
            reduction,
            at_once: usize::try_from(at_once.f_int64_value(&[0])?).unwrap_or(1),
        })
    }

    /// Returns the number of trained parameters, on all ranks together.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.map.total().unsigned_abs()
    }

    /// Returns the largest number of gradient elements that this rank holds at one time for the leaves.
    #[must_use]
    pub fn leaf_numbers(&self) -> u64 {
        let groups = self.map.groups().iter().map(|(start, end)| end - start);
        // With sharded weights, three groups exist at one time: the gradients that the backward pass computes, those
        // that are being sent and those that are being received.
        let largest = 3 * groups.max().unwrap_or(0).unsigned_abs();
        match self.is_of_weights {
            true => largest.min(self.numbers()),
            false => self.numbers(),
        }
    }

    /// Makes all ranks agree whether a piece of work, which each of them has done, succeeded ([`World::agree`]).
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks if the work failed on one of them, or [`ModelError::World`].
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        self.world.agree(own)
    }

    pub(super) fn group(&self) -> &ProcessGroup {
        self.world.group(self.device)
    }

    /// Returns the parameters that this rank owns.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn own(&self, parameters: &Parameters) -> Result<Parameters> {
        let (start, length) = match self.is_of_weights {
            true => (0, parameters.master().numel() as i64),
            false => self.own_range(),
        };
        parameters.range(start, length)
    }

    /// Returns the start and the length of the contiguous range that this rank owns (ZeRO 2).
    fn own_range(&self) -> (i64, i64) {
        let own = self.map.own_segments().next();
        own.map_or((0, 0), |segment| (segment.start, segment.length))
    }

    /// Returns the number of ranks.
    #[must_use]
    pub fn ranks(&self) -> usize {
        self.world.size()
    }

    /// Returns the map from elements to owners.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Gathers all groups of sharded weights. A rank whose `stay` is true keeps them gathered until the next sweep
    /// begins. A rank whose `stay` is false takes part in the gather and frees each group at once. All ranks must call
    /// this together. With unsharded weights it does nothing.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer is gone.
    pub fn bring_together(&self, parameters: &Parameters, stay: bool) -> Result<()> {
        match &self.traffic {
            Some(traffic) => traffic.unshard_all(parameters, stay).map_err(ModelError::fatal),
            None => Ok(()),
        }
    }

    /// Frees the gathered weights.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn let_go(&self, parameters: &Parameters) -> Result<()> {
        match &self.traffic {
            Some(traffic) => traffic.begin(parameters),
            None => Ok(()),
        }
    }

    /// Returns whether the trained weights are sharded, and not only their optimizer state.
    #[must_use]
    pub fn is_of_weights(&self) -> bool {
        self.is_of_weights
    }

    /// Resets the communication counters of this rank.
    pub fn begin_report(&self) {
        let _ = self.take_tally();
    }

    /// Returns the reports of all ranks about a step. `seconds` is the time that the step took on this rank. The
    /// communication is counted since [`Self::begin_report`]. All ranks must call this together.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer is gone.
    pub fn reports(&self, seconds: f64) -> Result<Vec<RankReport>> {
        let reports = self.world.reports(self.device, seconds, self.take_tally());
        reports.map_err(ModelError::fatal)
    }

    fn take_tally(&self) -> DistReport {
        let traffic = self.traffic.as_ref().map(|traffic| traffic.take_report());
        self.world.take_tally().plus(traffic.unwrap_or_default())
    }

    /// Updates the parameters that this rank owns. With unsharded weights, the updated parameters of all owners are
    /// then all-gathered.
    ///
    /// # Errors
    /// [`ModelError::World`] for any failure, because a failure here leaves this rank with weights that differ from
    /// those of its peers.
    pub fn step(
        &self,
        parameters: &Parameters,
        update: impl FnOnce(&Parameters) -> Result<Stepped>,
    ) -> Result<Stepped> {
        let stepped = update(&self.own(parameters)?).map_err(ModelError::fatal)?;
        if stepped.finite && !self.is_of_weights {
            let none = parameters.master().f_narrow(0, 0, 0)?;
            let mut pieces: Vec<Tensor> = (0..self.world.size()).map(|_| none.shallow_clone()).collect();
            for segment in self.map.segments() {
                let piece = parameters.master().f_narrow(0, segment.start, segment.length);
                pieces[segment.rank] = piece.map_err(|error| ModelError::from(error).fatal())?;
            }
            self.group().all_gather(&pieces)?;
            parameters.refresh().map_err(ModelError::fatal)?;
        }
        Ok(stepped)
    }

    /// Computes the norm of the accumulated gradients of all ranks, [1] f64. The sums of squares of the chunks are
    /// added in the order of the chunks, so the bits do not depend on the number of ranks (law L11). `own` is this
    /// rank's accumulator.
    ///
    /// # Errors
    /// [`ModelError::World`].
    pub fn norm(&self, own: &Tensor) -> Result<Tensor> {
        let norm = || -> Result<Tensor> {
            let count = chunks(self.map.total(), CHUNK);
            let sums = Tensor::f_zeros([count], (Kind::Double, Device::Cpu))?;
            let squares = chunk_squares(own, CHUNK)?;
            for segment in self.map.own_segments() {
                let (first, count) = (segment.start / CHUNK, chunks(segment.length, CHUNK));
                let own = squares.f_narrow(0, segment.at / CHUNK, count)?;
                sums.f_narrow(0, first, count)?.f_copy_(&own)?;
            }
            // Each chunk is nonzero on its owner only, so the order in which the all-reduce adds cannot change a bit.
            self.world.group(Device::Cpu).all_reduce(&sums, Reduce::Sum)?;
            let sum: f64 = transfer::read(&sums)?.into_iter().sum();
            Ok(Tensor::f_from_slice(&[sum.sqrt()])?.f_to_device(self.device)?)
        };
        norm().map_err(ModelError::fatal)
    }

    /// Collects the flat tensors of an optimizer state in the host memory of rank 0. The other ranks get only the step
    /// counts, which every rank has. `map_of` returns the owners of the numbers of a tensor by its name. All ranks must
    /// call this together.
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks if one of them has no state or not enough memory, or [`ModelError::World`]
    /// if a peer is gone.
    pub fn whole_state<'a>(
        &self,
        own: Result<BTreeMap<String, Tensor>>,
        map_of: &dyn Fn(&str) -> &'a ShardMap,
    ) -> Result<BTreeMap<String, Tensor>> {
        let mut whole = BTreeMap::new();
        for (name, tensor) in self.world.agree(own)? {
            if name.ends_with(".step") {
                whole.insert(name, tensor);
            } else if let Some(all) = self.collected(&tensor, map_of(&name))? {
                whole.insert(name, all);
            }
        }
        Ok(whole)
    }

    /// Collects the parts of a tensor from all ranks into one flat tensor in the host memory of rank 0. The other ranks
    /// get `None`.
    ///
    /// # Errors
    /// The errors of [`Self::collect_each`], or [`ModelError::Refused`] on all ranks if rank 0 does not have enough
    /// memory.
    fn collected(&self, own: &Tensor, map: &ShardMap) -> Result<Option<Tensor>> {
        let room = match self.world.rank() {
            0 => Tensor::f_empty([map.total()], (own.kind(), Device::Cpu)).map(Some),
            _ => Ok(None),
        };
        let whole = self.world.agree(room.map_err(ModelError::from))?;
        self.collect_each((own, map), &mut |start, piece| {
            if let Some(whole) = &whole {
                let length = piece.numel() as i64;
                whole.f_narrow(0, start, length)?.f_copy_(piece)?;
            }
            Ok(())
        })?;
        Ok(whole)
    }

    /// Sends the parts of a tensor, whose owners `map` says, from all ranks to rank 0, in pieces of at most `BUCKET`
    /// elements. On rank 0, `take` is called with each piece and the index of its first element in the whole tensor.
    /// All ranks must call this together.
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks if one of them does not have enough memory for a piece. Rank 0 returns the
    /// error of `take`, and the other ranks then return [`ModelError::Refused`]. [`ModelError::World`] if a peer is
    /// gone, or if a collective call fails on one rank while the others wait for it.
    pub fn collect_each(
        &self,
        (own, map): (&Tensor, &ShardMap),
        take: &mut dyn FnMut(i64, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let longest = map.segments().iter().map(|segment| segment.length).max();
        let bucket = Tensor::f_empty([longest.unwrap_or(0).min(BUCKET)], (own.kind(), self.device));
        // From here on, peers wait in collective calls, so a failure of one rank is fatal.
        let bucket = self.world.agree(bucket.map_err(ModelError::from))?;
        let mut taken = Ok(());
        let mut crossing = || -> Result<()> {
            for segment in map.segments() {
                for at in (0..segment.length).step_by(BUCKET as usize) {
                    heartbeat::beat();
                    let mut piece = bucket.f_narrow(0, 0, BUCKET.min(segment.length - at))?;
                    if segment.rank == self.world.rank() {
                        piece.f_copy_(&own.f_narrow(0, segment.at + at, piece.numel() as i64)?)?;
                    }
                    self.group().broadcast(&piece, segment.rank)?;
                    match self.world.rank() {
                        0 if taken.is_ok() => taken = take(segment.start + at, &piece),
                        0 => {}
                        // On a GPU this rank would run ahead to the agreement below, and there wait for all of what rank 0
                        // does with the pieces, which may take longer than a call may.
                        _ => {
                            piece.f_double_value(&[0])?;
                        }
                    }
                }
            }
            Ok(())
        };
        crossing().map_err(ModelError::fatal)?;
        self.agree_on(taken)
    }

    /// Makes all ranks agree, as [`Self::agree`] does. A rank that failed returns its own error.
    ///
    /// # Errors
    /// The errors of [`Self::agree`], and the error in `own`.
    pub fn agree_on<T>(&self, own: Result<T>) -> Result<T> {
        let told = match &own {
            Ok(_) => Ok(()),
            Err(error) => Err(ModelError::Refused(error.to_string())),
        };
        match (self.agree(told), own) {
            (Err(lost @ ModelError::World(_)), _) => Err(lost),
            (_, Err(own)) => Err(own),
            (Err(other), Ok(_)) => Err(other),
            (Ok(()), Ok(done)) => Ok(done),
        }
    }

    /// Adds the gradients of one round of units to the accumulators of their owners. In a round, each of the first
    /// `present` ranks has computed one unit. `own` holds the gradients of this rank's unit, and is `None` if this rank
    /// has no unit in the round. The gradients are transferred in buckets, to bound the memory of the buffers.
    pub(super) fn exchange(&self, into: &Tensor, own: Option<&mut Parameters>, present: usize) -> Result<()> {
        let size = self.world.size();
        if size == 1 {
            return own.map_or(Ok(()), |own| own.gather_grads(&mut into.shallow_clone()));
        }
        // The first segment is the longest one.
        let per = self.map.segments().first().map_or(0, |segment| segment.length);
        let mut at = 0;
        while at < per {
            heartbeat::beat();
            let length = BUCKET.min(per - at);
            let sent = self.by_owner(own.as_deref(), at, length)?;
            let length = (self.own_range().1 - at).clamp(0, length);
            let mut accumulated = into.f_narrow(0, at.min(into.numel() as i64), length)?;
            let mut add = |row: &Tensor| -> Result<()> {
                let _ = accumulated.f_add_(&row.f_narrow(0, 0, length)?)?;
                Ok(())
            };
            match self.reduction {
                Reduction::Exact => {
                    // The pieces are added in the order of the ranks, which is the order of the units (law L11).
                    let received = sent.f_empty_like()?;
                    self.group().all_to_all(&received, &sent)?;
                    (0..present).try_for_each(|rank| add(&received.f_select(0, rank as i64)?))?;
                }
                Reduction::Fast => {
                    self.group().all_reduce(&sent, Reduce::Sum)?;
                    add(&sent.f_select(0, self.world.rank() as i64)?)?;
                }
            }
            at += BUCKET;
        }
        if let Some(own) = own {
            own.clear_grads();
        }
        Ok(())
    }

    /// Copies, for each owner, `length` elements of the gradient from the element `at` of its range on, [ranks, length]
    /// f32. Elements without a gradient, and those beyond the end of a range, are zero.
    fn by_owner(&self, own: Option<&Parameters>, at: i64, length: i64) -> Result<Tensor> {
        let size = self.world.size() as i64;
        let pieces = Tensor::f_zeros([size, length], (Kind::Float, self.device))?;
        for segment in self.map.segments() {
            let count = (segment.length - at).clamp(0, length);
            if let Some(own) = own.filter(|_| count > 0) {
                own.add_grads_from(
                    segment.start + at,
                    &pieces.f_select(0, segment.rank as i64)?.f_narrow(0, 0, count)?,
                )?;
            }
        }
        Ok(pieces)
    }
}
