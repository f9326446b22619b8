//! The communication of sharded weights and their gradients, overlapped with computation.
//!
//! A group of weights is gathered by broadcasts, one for each part, from the rank that owns the part. The gather of the
//! next group starts before the current group is used (prefetch). The gradients of a group are sent to their owners in
//! one all-to-all exchange. The end of an exchange is awaited when the next one is about to start. One thread starts
//! all calls, in the same order on every rank. The calls are carried out by c10d's own threads, or on a GPU by a
//! stream.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use demask_api::{DistReport, Purpose};
use tch::{Device, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::parameters::Parameters;
use crate::weights::shards::gather::Gather;
use crate::weights::shards::leaves::{OutgoingGradients, ShardedLeaves};
use crate::world::{PendingCalls, ProcessGroup, World};

/// The environment variable that turns overlap off if its value is `0`. It serves to measure how much communication
/// time the overlap hides.
const PREFETCH: &str = "DEMASK_PREFETCH";

/// The communication of one model's weights and gradients.
#[derive(Debug)]
pub(super) struct WeightTraffic(Mutex<Traffic>);

#[derive(Debug)]
struct Traffic {
    group: ProcessGroup,
    /// Whether communication overlaps with computation.
    prefetches: bool,
    /// The group of weights that is being gathered. A single rank makes no calls.
    coming: Option<(usize, Option<PendingCalls>)>,
    /// The gradients that are being exchanged.
    going: Option<Going>,
    /// The send and the receive buffer of the last exchange, which the next one reuses.
    spare: Option<(Tensor, Tensor)>,
    round: Round,
    tally: DistReport,
    /// The end of the last call that was awaited, in seconds on the clock of [`PendingCalls::wait`].
    last_end: f64,
}

/// The current round of units.
#[derive(Debug, Default)]
struct Round {
    /// The gradient accumulator of this rank's own parameters. `None` outside a round.
    into: Option<Tensor>,
    /// The number of ranks that have a unit in this round. They are the first ones.
    present: usize,
    /// Whether a sweep has begun in this round.
    swept: bool,
}

/// An exchange of gradients in progress.
#[derive(Debug)]
struct Going {
    group: usize,
    calls: Option<PendingCalls>,
    /// The receive buffer: this rank's part of the gradient from every rank, in the order of the ranks.
    received: Tensor,
    /// The send buffer, which must live until the exchange has ended.
    sent: Tensor,
}

impl WeightTraffic {
    /// Opens a process group for this communication. All ranks must call this together.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer does not join.
    pub fn open(world: &World, device: Device) -> Result<Self> {
        Ok(Self(Mutex::new(Traffic {
            group: world.another_group(device)?,
            prefetches: std::env::var(PREFETCH).as_deref() != Ok("0"),
            coming: None,
            going: None,
            spare: None,
            round: Round::default(),
            tally: DistReport::default(),
            last_end: 0.0,
        })))
    }

    fn locked(&self) -> MutexGuard<'_, Traffic> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a round in which the first `present` ranks have a unit. Their gradients will be added to the accumulator
    /// `into`.
    pub fn begin_round(&self, into: &Tensor, present: usize) {
        self.locked().round = Round {
            into: Some(into.shallow_clone()),
            present,
            swept: false,
        };
    }

    /// Returns whether a sweep has begun in this round.
    pub fn has_swept(&self) -> bool {
        self.locked().round.swept
    }

    /// Ends the round: waits for the last exchange and adds its gradients to the accumulator.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer is gone.
    pub fn end_round(&self, parameters: &Parameters) -> Result<()> {
        let mut traffic = self.locked();
        traffic.settle(sharded(parameters)?)?;
        traffic.spare = None;
        traffic.round = Round::default();
        Ok(())
    }

    /// Gathers all groups of weights. If `stay` is true, they stay gathered on this rank until the next sweep begins.
    /// Otherwise each group is freed at once.
    ///
    /// # Errors
    /// [`ModelError::World`] if a peer is gone.
    pub fn unshard_all(&self, parameters: &Parameters, stay: bool) -> Result<()> {
        let groups = sharded(parameters)?.map().groups().len();
        // All ranks must gather the same groups, but some ranks may still have them from an earlier call. Therefore all
        // ranks free them first.
        self.begin(parameters)?;
        for group in 0..groups {
            self.unshard(parameters, group, (group + 1 < groups).then_some(group + 1))?;
            if !stay {
                self.reshard(parameters, group)?;
            }
        }
        Ok(())
    }

    /// Returns the communication counters and resets them.
    pub fn take_report(&self) -> DistReport {
        std::mem::take(&mut self.locked().tally)
    }
}

impl Gather for WeightTraffic {
    fn begin(&self, parameters: &Parameters) -> Result<()> {
        let leaves = sharded(parameters)?;
        for group in 0..leaves.map().groups().len() {
            if leaves.are_here(group) {
                leaves.let_go(group)?;
            }
        }
        self.locked().round.swept = true;
        Ok(())
    }

    fn unshard(&self, parameters: &Parameters, group: usize, next: Option<usize>) -> Result<()> {
        self.locked()
            .unshard(parameters, group, next)
            .map_err(ModelError::fatal)
    }

    fn reshard(&self, parameters: &Parameters, group: usize) -> Result<()> {
        sharded(parameters)?.let_go(group).map_err(ModelError::fatal)
    }

    fn reduce(&self, parameters: &Parameters, group: usize) -> Result<()> {
        if parameters.purpose() == Purpose::Sample {
            // Frozen weights have no gradients.
            return Ok(());
        }
        self.locked()
            .reduce(sharded(parameters)?, group)
            .map_err(ModelError::fatal)
    }
}

impl Traffic {
    /// Makes a group readable, waiting for its gather if necessary, and then starts to prefetch `next`.
    fn unshard(&mut self, parameters: &Parameters, group: usize, next: Option<usize>) -> Result<()> {
        let leaves = sharded(parameters)?;
        if !leaves.are_here(group) {
            self.bring(parameters, group)?;
            if let Some((_, Some(calls))) = self.coming.take() {
                self.wait(calls)?;
            }
            leaves.arrived(group);
        }
        match next.filter(|&next| self.prefetches && !leaves.are_here(next)) {
            Some(next) => self.bring(parameters, next),
            None => Ok(()),
        }
    }

    /// Starts to send the gradients of a group, after the previous exchange has ended.
    fn reduce(&mut self, leaves: &ShardedLeaves, group: usize) -> Result<()> {
        self.settle(leaves)?;
        self.send(leaves, group)?;
        if !self.prefetches {
            self.settle(leaves)?;
        }
        Ok(())
    }

    /// Starts to gather a group, unless its gather is already in progress.
    fn bring(&mut self, parameters: &Parameters, group: usize) -> Result<()> {
        if let Some((coming, _)) = &self.coming {
            if *coming == group {
                return Ok(());
            }
            // A bug in this crate. A gather in progress cannot be abandoned, because every rank must wait for it.
            let message = format!("group {group} is needed, but group {coming} is being gathered");
            return Err(ModelError::World(message));
        }
        let pieces = sharded(parameters)?.make_room(group, parameters.master())?;
        let own = self.group.rank();
        let crossing = pieces.iter().filter(|(segment, _)| segment.rank != own);
        self.tally.bytes += bytes(crossing.map(|(_, piece)| piece));
        let pieces: Vec<(usize, Tensor)> = pieces
            .into_iter()
            .map(|(segment, piece)| (segment.rank, piece))
            .collect();
        let calls = (self.group.size() > 1)
            .then(|| self.group.begin_gather(&pieces))
            .transpose()?;
        self.coming = Some((group, calls));
        Ok(())
    }

    /// Starts to send the gradients of a group to their owners.
    fn send(&mut self, leaves: &ShardedLeaves, group: usize) -> Result<()> {
        let (sent, received) = self.spare.take().unzip();
        let OutgoingGradients { flat, lengths } = leaves.take_gradients(group, sent)?;
        let (rank, size) = (self.group.rank(), self.group.size());
        let own = lengths[rank];
        let (received, calls) = if size == 1 {
            (flat.shallow_clone(), None)
        } else {
            let count = size as i64 * own;
            let received = match received.filter(|spare| spare.numel() as i64 == count) {
                Some(spare) => spare,
                None => Tensor::f_empty([count], (flat.kind(), flat.device()))?,
            };
            let others = size as u64 - 1;
            self.tally.bytes += bytes([&received].into_iter()) / size as u64 * others;
            let own = vec![own; size];
            let calls = self.group.begin_exchange((&received, &own), (&flat, &lengths))?;
            (received, Some(calls))
        };
        self.going = Some(Going {
            group,
            calls,
            received,
            sent: flat,
        });
        Ok(())
    }

    /// Waits for the exchange in progress, if any, and adds its gradients to the accumulator in the order of the ranks
    /// (law L11).
    fn settle(&mut self, leaves: &ShardedLeaves) -> Result<()> {
        let Some(going) = self.going.take() else {
            return Ok(());
        };
        let Going {
            group,
            calls,
            received,
            sent,
        } = going;
        if let Some(calls) = calls {
            self.wait(calls)?;
        }
        let Some(into) = &self.round.into else {
            return Ok(());
        };
        let map = leaves.map();
        let own = map.within(map.groups()[group]).into_iter();
        let own: Vec<_> = own.filter(|segment| segment.rank == map.own().rank).collect();
        let count: i64 = own.iter().map(|segment| segment.length).sum();
        tch::no_grad(|| -> Result<()> {
            for rank in 0..self.round.present as i64 {
                let mut at = rank * count;
                for segment in &own {
                    let part = received.f_narrow(0, at, segment.length)?;
                    let _ = into.f_narrow(0, segment.at, segment.length)?.f_add_(&part)?;
                    at += segment.length;
                }
            }
            Ok(())
        })?;
        self.spare = Some((sent, received));
        Ok(())
    }

    /// Waits for calls and adds their times to the counters.
    fn wait(&mut self, calls: PendingCalls) -> Result<()> {
        let waiting = Instant::now();
        let (began, ended) = calls.wait()?;
        self.tally.wait_seconds += waiting.elapsed().as_secs_f64();
        // Time in which several calls were in progress is counted once.
        self.tally.seconds += (ended - began.max(self.last_end)).max(0.0);
        self.last_end = self.last_end.max(ended);
        Ok(())
    }
}

/// Returns the total size of tensors in bytes.
fn bytes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
    tensors
        .map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64)
        .sum()
}

fn sharded(parameters: &Parameters) -> Result<&ShardedLeaves> {
    parameters
        .sharded()
        .ok_or_else(|| ModelError::Refused("these weights are not sharded (a bug in this crate)".into()))
}
