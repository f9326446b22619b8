//! A rank's part of what is trained: who owns which numbers, and how gradients, weights and state cross between owners.

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

/// Numbers of a range that cross at one time: the working set is twice as many for each rank.
const BUCKET: i64 = 16 * CHUNK;

/// A rank's part of the numbers that are trained.
#[derive(Clone, Debug)]
pub struct Share {
    pub(super) world: Rc<World>,
    /// Who owns which of all numbers.
    map: ShardMap,
    /// Where each rank keeps its part of the weights alone.
    pub(super) traffic: Option<Arc<WeightTraffic>>,
    device: Device,
    reduction: Reduction,
    /// Units that a rank does at one time: as many on all.
    pub(super) at_once: usize,
}

impl Share {
    /// This rank's part of what is trained in a backbone, whose batches are cut into units from here on. All ranks ask together.
    ///
    /// # Errors
    /// An adapter with dropout, which is drawn by thread; a peer that is gone.
    pub fn of(world: &Rc<World>, backbone: &Backbone, reduction: Reduction) -> Result<Self> {
        let threads = threads::at_once(backbone);
        let at_once = Tensor::f_from_slice(&[threads as i64])?;
        world.group(Device::Cpu).all_reduce(&at_once, Reduce::Least)?;
        let parameters = backbone.trained();
        let device = parameters.master().device();
        backbone.room().cut_in_units();
        let total = i64::try_from(parameters.count()).unwrap_or(i64::MAX);
        let own = RankOf {
            rank: world.rank(),
            size: world.size(),
        };
        let (map, traffic) = match parameters.sharded() {
            None => (ShardMap::in_ranges(total, own), None),
            Some(sharded) => {
                let traffic = Arc::new(WeightTraffic::open(world, device)?);
                backbone.gathered_by(Arc::clone(&traffic) as _);
                (sharded.map().clone(), Some(traffic))
            }
        };
        Ok(Self {
            world: Rc::clone(world),
            map,
            traffic,
            device,
            reduction,
            at_once: usize::try_from(at_once.f_int64_value(&[0])?).unwrap_or(1),
        })
    }

    /// All numbers that are trained.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.map.total().unsigned_abs()
    }

    /// How many of them this rank has the leaves' gradients of at one time.
    #[must_use]
    pub fn leaf_numbers(&self) -> u64 {
        let groups = self.map.groups().iter().map(|(start, end)| end - start);
        // Those that are made, that are sent and that are received.
        let largest = 3 * groups.max().unwrap_or(0).unsigned_abs();
        match self.traffic {
            Some(_) => largest.min(self.numbers()),
            None => self.numbers(),
        }
    }

    /// One verdict of all ranks on a piece of work that each has done: [`World::agree`].
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks where one of them failed; [`ModelError::World`].
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        self.world.agree(own)
    }

    fn group(&self) -> &ProcessGroup {
        self.world.group(self.device)
    }

    /// The parameters that this rank owns.
    ///
    /// # Errors
    /// libtorch's.
    pub fn own(&self, parameters: &Parameters) -> Result<Parameters> {
        let (start, length) = match self.traffic {
            Some(_) => (0, parameters.master().numel() as i64),
            None => self.own_range(),
        };
        parameters.range(start, length)
    }

    /// Where the one range of numbers begins that this rank owns of all, and how long it is.
    fn own_range(&self) -> (i64, i64) {
        let own = self.map.own_segments().next();
        own.map_or((0, 0), |segment| (segment.start, segment.length))
    }

    /// This rank's part of a flat tensor of all numbers.
    ///
    /// # Errors
    /// libtorch's.
    pub fn cut(&self, flat: &Tensor) -> Result<Tensor> {
        self.map.cut(flat)
    }

    /// Who owns which numbers.
    #[must_use]
    pub fn map(&self) -> &ShardMap {
        &self.map
    }

    /// Brings weights of which each rank keeps a part together: they are whole then, on the ranks where they `stay`, until the next step
    /// begins. All ranks do so together.
    ///
    /// # Errors
    /// A peer that is gone.
    pub fn bring_together(&self, parameters: &Parameters, stay: bool) -> Result<()> {
        match &self.traffic {
            Some(traffic) => traffic.unshard_all(parameters, stay).map_err(ModelError::fatal),
            None => Ok(()),
        }
    }

    /// Lets go of weights that were brought together.
    ///
    /// # Errors
    /// libtorch's.
    pub fn let_go(&self, parameters: &Parameters) -> Result<()> {
        match &self.traffic {
            Some(traffic) => traffic.begin(parameters),
            None => Ok(()),
        }
    }

    /// Whether each rank keeps a part of the weights alone.
    #[must_use]
    pub fn is_of_weights(&self) -> bool {
        self.traffic.is_some()
    }

    /// Begins to count what goes between this rank and its peers.
    pub fn begin_report(&self) {
        let _ = self.take_tally();
    }

    /// Returns the reports of all ranks about a step that took this one so long since [`Self::begin_report`]. All ranks call
    /// together.
    ///
    /// # Errors
    /// [`ModelError::World`]: a peer that is gone.
    pub fn reports(&self, seconds: f64) -> Result<Vec<RankReport>> {
        let reports = self.world.reports(self.device, seconds, self.take_tally());
        reports.map_err(ModelError::fatal)
    }

    fn take_tally(&self) -> DistReport {
        let traffic = self.traffic.as_ref().map(|traffic| traffic.take_report());
        self.world.take_tally().plus(traffic.unwrap_or_default())
    }

    /// The f32 values of all weights of which each rank keeps a part, flat, on rank 0. All ranks ask together.
    ///
    /// # Errors
    /// Those of [`Self::whole_state`].
    pub fn whole_weights(&self, parameters: &Parameters) -> Result<Option<Tensor>> {
        self.collected(parameters.master())
    }

    /// Updates the rank's own parameters, then takes the others' from their owners.
    ///
    /// # Errors
    /// [`ModelError::World`]: whatever goes wrong here leaves this rank with other weights than its peers have.
    pub fn step(
        &self,
        parameters: &Parameters,
        update: impl FnOnce(&Parameters) -> Result<Stepped>,
    ) -> Result<Stepped> {
        let stepped = update(&self.own(parameters)?).map_err(ModelError::fatal)?;
        if stepped.finite && self.traffic.is_none() {
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

    /// The norm of the accumulators of all ranks, [1] f64: chunk by chunk, in their order.
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
            // One summand of each sum is not zero: no order can change it.
            self.world.group(Device::Cpu).all_reduce(&sums, Reduce::Sum)?;
            let sum: f64 = transfer::read(&sums)?.into_iter().sum();
            Ok(Tensor::f_from_slice(&[sum.sqrt()])?.f_to_device(self.device)?)
        };
        norm().map_err(ModelError::fatal)
    }

    /// The flat tensors of a state, whole, in rank 0's host memory; the others keep nothing of them. All ranks ask together.
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks where one of them has no state or no memory for it; a peer that is gone.
    pub fn whole_state(&self, own: Result<BTreeMap<String, Tensor>>) -> Result<BTreeMap<String, Tensor>> {
        let mut whole = BTreeMap::new();
        for (name, tensor) in self.world.agree(own)? {
            if name.ends_with(".step") {
                whole.insert(name, tensor);
            } else if let Some(all) = self.collected(&tensor)? {
                whole.insert(name, all);
            }
        }
        Ok(whole)
    }

    /// All ranks' parts of a tensor one behind the other, in rank 0's host memory.
    ///
    /// # Errors
    /// Those of [`Self::collect_each`]; [`ModelError::Refused`] on all ranks where rank 0 has no memory for it.
    fn collected(&self, own: &Tensor) -> Result<Option<Tensor>> {
        let room = match self.world.rank() {
            0 => Tensor::f_empty([self.map.total()], (own.kind(), Device::Cpu)).map(Some),
            _ => Ok(None),
        };
        let whole = self.world.agree(room.map_err(ModelError::from))?;
        self.collect_each(own, &mut |start, piece| {
            if let Some(whole) = &whole {
                let length = piece.numel() as i64;
                whole.f_narrow(0, start, length)?.f_copy_(piece)?;
            }
            Ok(())
        })?;
        Ok(whole)
    }

    /// Has all ranks' parts of a tensor cross to rank 0, which is given each piece with the place of its first number among all. All
    /// ranks call together; a piece is a bucket at most.
    ///
    /// # Errors
    /// [`ModelError::Refused`] on all ranks where one of them has no memory for a piece, or rank 0 could not take one.
    /// [`ModelError::World`]: a peer that is gone, and whatever fails on one rank while the others wait for it.
    pub fn collect_each(&self, own: &Tensor, take: &mut dyn FnMut(i64, &Tensor) -> Result<()>) -> Result<()> {
        let longest = self.map.segments().iter().map(|segment| segment.length).max();
        let bucket = Tensor::f_empty([longest.unwrap_or(0).min(BUCKET)], (own.kind(), self.device));
        // From here on a rank that fails has peers that wait for it.
        let bucket = self.world.agree(bucket.map_err(ModelError::from))?;
        let mut taken = Ok(());
        let mut crossing = || -> Result<()> {
            for segment in self.map.segments() {
                for at in (0..segment.length).step_by(BUCKET as usize) {
                    heartbeat::beat();
                    let mut piece = bucket.f_narrow(0, 0, BUCKET.min(segment.length - at))?;
                    if segment.rank == self.world.rank() {
                        piece.f_copy_(&own.f_narrow(0, segment.at + at, piece.numel() as i64)?)?;
                    }
                    self.group().broadcast(&piece, segment.rank)?;
                    if self.world.rank() == 0 && taken.is_ok() {
                        taken = take(segment.start + at, &piece);
                    }
                }
            }
            Ok(())
        };
        crossing().map_err(ModelError::fatal)?;
        self.agree_on(taken)
    }

    /// Agrees as [`Self::agree`], where this rank's own failure stays the error that it is.
    ///
    /// # Errors
    /// Those of [`Self::agree`], and the own one.
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

    /// Adds the gradients of a round of units, one of each of the first `present` ranks, to what their owners have accumulated.
    pub(super) fn exchange(&self, into: &Tensor, own: Option<&mut Parameters>, present: usize) -> Result<()> {
        let size = self.world.size();
        if size == 1 {
            return own.map_or(Ok(()), |own| own.gather_grads(&mut into.shallow_clone()));
        }
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

    /// For each owner the gradient of so many of its numbers, [ranks, length] f32; zeros where there are none.
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
