//! A step that several processes do together (`world`), with the same bits for any number of them (law L11).
//!
//! A batch is cut into units, whose number follows from its rows alone; rank r of N does units r, r + N, …, each with one thread of
//! the CPU's libraries. Every rank has all weights, and owns a range of them, cut at multiples of [`CHUNK`]: its moments, moving
//! average and accumulator are there alone (as in ZeRO 2, arXiv 1910.02054). After each round of units every rank sends every owner
//! its piece of the gradient, and the owner adds the pieces in the order of the ranks, which is the order of the units. So sums are
//! those of one rank that does all units one after the other. The gradient's norm is a sum over chunks in their order; the update
//! is elementwise; then the owners' ranges go to all.

use std::collections::BTreeMap;
use std::rc::Rc;

use demask_api::{MomentKind, StepSettings};
use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::device::transfer;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::optimizer::{AdamW, Stepped};
use crate::training::threads;
use crate::weights::parameters::Parameters;
use crate::world::group::{Reduce, chunk_squares};
use crate::world::{ProcessGroup, World};

/// Ranges begin at multiples of so many numbers, and the norm is a sum over as many at a time.
pub const CHUNK: i64 = 65_536;
/// Numbers of a range that cross at one time: the working set is twice as many for each rank.
const BUCKET: i64 = 16 * CHUNK;

/// How gradients of several ranks become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// In the order of the units: the same bits for any number of ranks.
    #[default]
    Exact,
    /// In c10d's order: other bits for another number of ranks.
    Fast,
}

/// A rank's part of the numbers that are trained.
#[derive(Clone, Debug)]
pub struct Share {
    world: Rc<World>,
    /// All numbers.
    total: i64,
    /// Numbers that a rank owns; the last ones own fewer or none.
    per: i64,
    device: Device,
    reduction: Reduction,
    /// Units that a rank does at one time: as many on all.
    at_once: usize,
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
        let total = i64::try_from(parameters.count()).unwrap_or(i64::MAX);
        let (chunks, size) = (pieces(total, CHUNK), world.size() as i64);
        backbone.room().cut_in_units();
        Ok(Self {
            world: Rc::clone(world),
            total,
            per: pieces(chunks, size) * CHUNK,
            device: parameters.master().device(),
            reduction,
            at_once: usize::try_from(at_once.f_int64_value(&[0])?).unwrap_or(1),
        })
    }

    /// All numbers that are trained.
    #[must_use]
    pub fn numbers(&self) -> u64 {
        self.total.unsigned_abs()
    }

    /// Where a rank's numbers begin, and how many there are.
    fn range(&self, rank: usize) -> (i64, i64) {
        let start = (rank as i64 * self.per).min(self.total);
        (start, self.per.min(self.total - start))
    }

    fn own_range(&self) -> (i64, i64) {
        self.range(self.world.rank())
    }

    fn group(&self) -> &ProcessGroup {
        self.world.group(self.device)
    }

    /// The parameters that this rank owns.
    ///
    /// # Errors
    /// libtorch's.
    pub fn own(&self, parameters: &Parameters) -> Result<Parameters> {
        let (start, length) = self.own_range();
        parameters.range(start, length)
    }

    /// This rank's part of a flat tensor of all numbers.
    ///
    /// # Errors
    /// libtorch's.
    pub fn cut(&self, whole: &Tensor) -> Result<Tensor> {
        let (start, length) = self.own_range();
        Ok(whole.f_reshape([-1])?.f_narrow(0, start, length)?)
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
        let stepped = update(&self.own(parameters)?).map_err(fatal)?;
        if stepped.finite {
            let ranks = 0..self.world.size();
            let piece = |rank| {
                let (start, length) = self.range(rank);
                Ok(parameters.master().f_narrow(0, start, length)?)
            };
            let pieces: Vec<Tensor> = ranks.map(piece).collect::<Result<_>>().map_err(fatal)?;
            self.group().all_gather(&pieces)?;
            parameters.refresh().map_err(fatal)?;
        }
        Ok(stepped)
    }

    /// The norm of the accumulators of all ranks, [1] f64: chunk by chunk, in their order.
    ///
    /// # Errors
    /// [`ModelError::World`].
    pub fn norm(&self, own: &Tensor) -> Result<Tensor> {
        let norm = || -> Result<Tensor> {
            let chunks = pieces(self.total, CHUNK);
            let sums = Tensor::f_zeros([chunks], (Kind::Double, Device::Cpu))?;
            let squares = chunk_squares(own, CHUNK)?;
            let first = pieces(self.own_range().0, CHUNK);
            let mut place = sums.f_narrow(0, first.min(chunks), squares.numel() as i64)?;
            place.f_copy_(&squares)?;
            // One summand of each sum is not zero: no order can change it.
            self.world.group(Device::Cpu).all_reduce(&sums, Reduce::Sum)?;
            let sum: f64 = transfer::read(&sums)?.into_iter().sum();
            Ok(Tensor::f_from_slice(&[sum.sqrt()])?.f_to_device(self.device)?)
        };
        norm().map_err(fatal)
    }

    /// The flat tensors of a state, whole, on rank 0; the others keep nothing of them.
    ///
    /// # Errors
    /// A peer that is gone; libtorch's.
    pub fn whole_state(&self, own: BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Tensor>> {
        let mut whole = BTreeMap::new();
        for (name, tensor) in own {
            if name.ends_with(".step") {
                whole.insert(name, tensor);
            } else if let Some(all) = self.collected(&tensor).map_err(fatal)? {
                whole.insert(name, all);
            }
        }
        Ok(whole)
    }

    /// All ranks' parts of a tensor one behind the other, on rank 0.
    fn collected(&self, own: &Tensor) -> Result<Option<Tensor>> {
        let like = (own.kind(), self.device);
        let all = match self.world.rank() {
            0 => Some(Tensor::f_empty([self.total], like)?),
            _ => None,
        };
        for rank in 0..self.world.size() {
            let (start, length) = self.range(rank);
            if length == 0 {
                continue;
            }
            let mut piece = match &all {
                Some(all) => all.f_narrow(0, start, length)?,
                None if rank == self.world.rank() => own.shallow_clone(),
                None => Tensor::f_empty([length], like)?,
            };
            if all.is_some() && rank == 0 {
                piece.f_copy_(own)?;
            }
            self.group().broadcast(&piece, rank)?;
        }
        Ok(all)
    }

    /// Adds the gradients of a round of units, one of each of the first `present` ranks, to what their owners have accumulated.
    fn exchange(&self, into: &Tensor, own: Option<&mut Parameters>, present: usize) -> Result<()> {
        let size = self.world.size();
        if size == 1 {
            return own.map_or(Ok(()), |own| own.gather_grads(&mut into.shallow_clone()));
        }
        let mut at = 0;
        while at < self.per {
            heartbeat::beat();
            let length = BUCKET.min(self.per - at);
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
        let size = self.world.size();
        let pieces = Tensor::f_zeros([size as i64, length], (Kind::Float, self.device))?;
        for rank in 0..size {
            let (start, owned) = self.range(rank);
            let count = (owned - at).clamp(0, length);
            if let Some(own) = own.filter(|_| count > 0) {
                own.add_grads_from(
                    start + at,
                    &pieces.f_select(0, rank as i64)?.f_narrow(0, 0, count)?,
                )?;
            }
        }
        Ok(pieces)
    }
}

/// The parts of a batch that ranks do, and how many figures each gives.
#[derive(Debug)]
pub struct Units<'a, P> {
    /// In their order, on every rank.
    pub parts: &'a mut [P],
    /// Numbers that a part's work gives.
    pub figures: usize,
}

/// Does `work`, which takes gradients, on this rank's units while the others do theirs; all gradients are in the accumulators of
/// their owners then. What each unit's work gave, on every rank.
///
/// # Errors
/// [`ModelError::Refused`] on all ranks where one of them failed; [`ModelError::World`].
pub fn gradients<P, F>(
    share: &Share,
    (backbone, optimizer): (&mut Backbone, &mut AdamW),
    units: Units<'_, P>,
    pause: &mut Pause<'_>,
    work: F,
) -> Result<Vec<Tensor>>
where
    P: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<Tensor> + Sync,
{
    let (rank, size) = (share.world.rank(), share.world.size());
    let count = units.parts.len();
    let figures = Tensor::f_zeros([count as i64, units.figures as i64], (Kind::Double, Device::Cpu))?;
    let mut own: Vec<&mut P> = units.parts.iter_mut().skip(rank).step_by(size).collect();
    let work = |backbone: &Backbone, part: &mut &mut P, pause: &mut Pause<'_>| work(backbone, part, pause);
    let rounds: Vec<usize> = (0..count.div_ceil(size)).collect();
    for rounds in rounds.chunks(share.at_once) {
        let end = own.len().min(rounds[rounds.len() - 1] + 1);
        let now = &mut own[rounds[0].min(end)..end];
        let done = threads::on_twins(backbone, now, pause, work)
            .and_then(|(made, twins)| Ok((made.into_iter().collect::<Result<Vec<_>>>()?, twins)));
        let (made, mut twins) = share.world.agree(done)?;
        for (number, &round) in rounds.iter().enumerate() {
            let present = size.min(count - round * size);
            let trained = match number {
                _ if number >= made.len() => None,
                0 => Some(backbone.trained_mut()),
                _ => Some(twins[number - 1].trained_mut()),
            };
            let into = optimizer.accumulator();
            tch::no_grad(|| share.exchange(into, trained, present)).map_err(fatal)?;
            if let Some(made) = made.get(number) {
                let unit = (round * size + rank) as i64;
                figures.f_select(0, unit)?.f_copy_(made)?;
            }
        }
    }
    share.world.group(Device::Cpu).all_reduce(&figures, Reduce::Sum)?;
    let figures = figures.f_to_device(backbone.device())?;
    (0..count as i64)
        .map(|unit| Ok(figures.f_select(0, unit)?))
        .collect()
}

/// Whether ranks can take a step with these settings.
///
/// # Errors
/// [`ModelError::Refused`]: Muon, whose update needs whole matrices; moments in bf16, whose rounding follows a number's place in what its
/// owner has.
pub fn admit(optimizer: &AdamW, settings: &StepSettings) -> Result<()> {
    if optimizer.share().is_none() {
        return Ok(());
    }
    if settings.adam.moments == MomentKind::Bf16 {
        return Err(ModelError::Refused(
            "moments in bf16 over ranks: how they are rounded would depend on the number of ranks; use moments = \"f32\"".into(),
        ));
    }
    if settings.adam.muon {
        return Err(ModelError::Refused(
            "muon over ranks: its update needs whole matrices, which no rank has the state of; use Adam"
                .into(),
        ));
    }
    Ok(())
}

/// Pieces of a size that so many are cut into, the last one perhaps smaller.
fn pieces(count: i64, size: i64) -> i64 {
    (count + size - 1) / size
}

/// An error behind which this rank is no longer as its peers are.
fn fatal(error: ModelError) -> ModelError {
    match error {
        world @ ModelError::World(_) => world,
        other => ModelError::World(format!("a fault of this rank's own: {other}")),
    }
}
