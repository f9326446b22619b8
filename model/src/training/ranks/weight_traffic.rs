//! Weights on their way to where they are computed with, and gradients to their owners, while something else is computed.
//!
//! A group of weights comes by one broadcast from each rank that owns a part of it; the next group's is begun before the present one is
//! computed with. A group's gradients go in one exchange from all to all, and are waited for when the next ones go. One thread begins
//! all calls, in the same order on every rank; c10d's own threads (on a GPU a stream) carry them.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use demask_api::DistReport;
use tch::{Device, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::parameters::Parameters;
use crate::weights::shards::gather::Gather;
use crate::weights::shards::leaves::{OutgoingGradients, ShardedLeaves};
use crate::world::{PendingCalls, ProcessGroup, World};

/// Says `0` where nothing is to be begun before it is waited for: to measure what is hidden.
const PREFETCH: &str = "DEMASK_PREFETCH";

/// The traffic of one model's weights.
#[derive(Debug)]
pub(super) struct WeightTraffic(Mutex<Traffic>);

#[derive(Debug)]
struct Traffic {
    group: ProcessGroup,
    /// Whether something is begun before it is waited for.
    prefetches: bool,
    /// A group of weights that is on its way.
    coming: Option<(usize, Option<PendingCalls>)>,
    /// Gradients that are on their way.
    going: Option<Going>,
    /// What the last gradients lay in, sent and received, for the next ones.
    spare: Option<(Tensor, Tensor)>,
    round: Round,
    tally: DistReport,
    /// When the last call that was waited for ended.
    last_end: f64,
}

/// What the gradients of a round become.
#[derive(Debug, Default)]
struct Round {
    /// The accumulator of what this rank owns.
    into: Option<Tensor>,
    /// So many ranks have a unit.
    present: usize,
    /// Whether the ways there and back have been gone.
    swept: bool,
}

#[derive(Debug)]
struct Going {
    group: usize,
    calls: Option<PendingCalls>,
    /// What each rank sends, one's behind the other's.
    received: Tensor,
    /// What is sent stays until it has gone.
    sent: Tensor,
}

impl WeightTraffic {
    /// Opens a group for it. All ranks ask together.
    ///
    /// # Errors
    /// A peer that does not come.
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

    /// Says that gradients of the first so many ranks' units are to be added to an accumulator.
    pub fn begin_round(&self, into: &Tensor, present: usize) {
        self.locked().round = Round {
            into: Some(into.shallow_clone()),
            present,
            swept: false,
        };
    }

    /// Whether the round's ways there and back have been gone.
    pub fn has_swept(&self) -> bool {
        self.locked().round.swept
    }

    /// Ends when all gradients of the round are in the accumulator.
    ///
    /// # Errors
    /// A peer that is gone.
    pub fn end_round(&self, parameters: &Parameters) -> Result<()> {
        let mut traffic = self.locked();
        traffic.settle(sharded(parameters)?)?;
        traffic.spare = None;
        traffic.round = Round::default();
        Ok(())
    }

    /// Brings all groups together: they stay until a step begins, where they are wanted here.
    ///
    /// # Errors
    /// A peer that is gone.
    pub fn unshard_all(&self, parameters: &Parameters, stay: bool) -> Result<()> {
        let groups = sharded(parameters)?.map().groups().len();
        // The same on all ranks, of which one may have had them.
        self.begin(parameters)?;
        for group in 0..groups {
            self.unshard(parameters, group, (group + 1 < groups).then_some(group + 1))?;
            if !stay {
                self.reshard(parameters, group)?;
            }
        }
        Ok(())
    }

    /// What has crossed since this was asked last.
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
        self.locked()
            .reduce(sharded(parameters)?, group)
            .map_err(ModelError::fatal)
    }
}

impl Traffic {
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

    fn reduce(&mut self, leaves: &ShardedLeaves, group: usize) -> Result<()> {
        self.settle(leaves)?;
        self.send(leaves, group)?;
        if !self.prefetches {
            self.settle(leaves)?;
        }
        Ok(())
    }

    /// Begins to bring a group, unless it is on its way.
    fn bring(&mut self, parameters: &Parameters, group: usize) -> Result<()> {
        if let Some((coming, _)) = &self.coming {
            if *coming == group {
                return Ok(());
            }
            // A fault of this crate: what was begun is waited for by all, or by none.
            let message = format!("group {group} is wanted, {coming} is on its way");
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

    /// Waits for gradients that are on their way and adds them, in the order of the ranks.
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

    fn wait(&mut self, calls: PendingCalls) -> Result<()> {
        let waiting = Instant::now();
        let (began, ended) = calls.wait()?;
        self.tally.wait_seconds += waiting.elapsed().as_secs_f64();
        // Calls that were under way together are counted once.
        self.tally.seconds += (ended - began.max(self.last_end)).max(0.0);
        self.last_end = self.last_end.max(ended);
        Ok(())
    }
}

fn bytes<'a>(tensors: impl Iterator<Item = &'a Tensor>) -> u64 {
    tensors
        .map(|tensor| (tensor.numel() * tensor.kind().elt_size_in_bytes()) as u64)
        .sum()
}

fn sharded(parameters: &Parameters) -> Result<&ShardedLeaves> {
    parameters
        .sharded()
        .ok_or_else(|| ModelError::Refused("these weights are whole (a fault of this crate)".into()))
}
