//! This process as a member of a world: joining it, the orders of rank 0, and leaving.

use std::cell::Cell;
use std::time::{Duration, Instant};

use demask_api::{DistReport, RankReport};
use tch::{Device, Kind, Tensor};

use super::environment::{Membership, Rendezvous};
use super::group::{Fabric, ProcessGroup};
use super::pulse::{PulseVigil, PulseWatch, RankPulse, pause};
use super::report::{Identity, check_devices, exchange_reports};
use super::store::Store;
use super::{interface, nccl};
use crate::error::{ModelError, Result};

/// How long a rank waits for its peers within a step.
pub const STEP_LIMIT: Duration = Duration::from_secs(120);
/// How long a rank waits for its peers while files are read or written.
pub const FILES_LIMIT: Duration = Duration::from_secs(1800);
/// How long the ranks wait until all have joined.
pub const JOIN_LIMIT: Duration = Duration::from_secs(300);
/// Time between two looks of a rank that waits for the others whether one of them cannot join.
const JOIN_LOOK: Duration = Duration::from_secs(1);
/// The largest size of an order in bytes: a batch of token ids (law L9).
const LONGEST_ORDER: i64 = 1 << 30;
/// The prefix of the keys of rank 0's signs of life.
const PULSE: &str = "pulse";

/// A world that this process has joined.
#[derive(Debug)]
pub struct World {
    /// The signs of life of rank 0, if this is rank 0 and other ranks wait for it. Its thread ends before the store.
    _pulse: Option<RankPulse>,
    membership: Membership,
    /// The group for the CPU: orders, agreements, and tensors on the CPU.
    host: ProcessGroup,
    /// The group for tensors on a GPU.
    gpu: Option<ProcessGroup>,
    /// The store, in which the groups find their peers. Its drop comes after theirs, by the order of fields.
    store: Store,
    /// The number of orders so far.
    orders: Cell<u64>,
    /// The number of additional groups so far.
    more: Cell<u64>,
    /// The time limit of a call within a step.
    step: Duration,
    /// The identities of all ranks, by rank.
    pub(super) identities: Vec<Identity>,
}

impl World {
    /// Joins the world. Returns when all ranks have joined.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a rank does not join in time or says that it cannot
    /// ([`cannot_join`](super::cannot_join)), [`ModelError::Refused`] on every rank if two of them have the same GPU or
    /// devices of different kinds, and an error if the store cannot be opened or this rank's device does not work.
    pub fn join(membership: Membership, device: Device) -> Result<Self> {
        Self::join_within(membership, device, JOIN_LIMIT, STEP_LIMIT)
    }

    /// Joins with other time limits than [`JOIN_LIMIT`] and [`STEP_LIMIT`].
    ///
    /// # Errors
    /// Returns the errors of [`Self::join`].
    pub fn join_within(
        membership: Membership,
        device: Device,
        joining: Duration,
        step: Duration,
    ) -> Result<Self> {
        let has_way = interface::choose(&membership);
        if device.is_cuda() {
            nccl::set_variables();
        }
        let store = Store::open(&membership, joining)?;
        // A rank whose cable was out has found no interface, and Gloo would take the loopback. The store has been
        // reached, so there is one now.
        if !has_way {
            interface::choose(&membership);
        }
        // A group has one time limit for opening and for its calls. Ranks therefore wait for one another in
        // the store, with the longer limit, before any of them opens a group.
        let come = store.add("joined", 1)?;
        if come == membership.size as i64 {
            store.set("all", "here")?;
        }
        let began = Instant::now();
        while !store.wait("all", JOIN_LOOK.min(joining))? {
            store.all_can_join(&membership)?;
            if began.elapsed() >= joining {
                let (size, seconds) = (membership.size, joining.as_secs_f64());
                let message = format!("not all of {size} ranks joined within {seconds} s");
                return Err(ModelError::World(message));
            }
        }
        let place = (membership.rank, membership.size);
        let host = ProcessGroup::open(&store, place, Fabric::Gloo, step)?;
        let identities = Identity::exchange(&host, device)?;
        check_devices(&identities)?;
        let is_watched = membership.rank == 0 && membership.size > 1 && has_pulse(&membership);
        let mut world = Self {
            _pulse: None,
            identities,
            membership,
            host,
            gpu: None,
            store,
            orders: Cell::new(0),
            more: Cell::new(0),
            step,
        };
        // L10: a rank whose device does not work would leave the others waiting in NCCL, so it says so before.
        let gpu = device.is_cuda().then(|| {
            Tensor::f_ones([1], (Kind::Float, device))?.f_double_value(&[0])?;
            ProcessGroup::open(&world.store, place, Fabric::Nccl, step)
        });
        world.gpu = world.all_ready(gpu.transpose())?;
        if let Some(gpu) = &world.gpu {
            connect(gpu, device, (joining, step))?;
        }
        let pulse = is_watched.then(|| RankPulse::begin(world.store.below(PULSE, step)?, step));
        let _pulse = pulse.transpose()?;
        Ok(Self { _pulse, ..world })
    }

    /// Returns the rank of this process.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.membership.rank
    }

    /// Returns the number of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.membership.size
    }

    /// Returns the reports of all ranks about a step that took this one so long, of which `dist` went between it
    /// and its peers. All ranks call together.
    ///
    /// # Errors
    /// A peer that is gone.
    pub fn reports(&self, device: Device, seconds: f64, dist: DistReport) -> Result<Vec<RankReport>> {
        exchange_reports(self.group(Device::Cpu), &self.identities, device, seconds, dist)
    }

    /// Takes what went between this rank and its peers since this was called last, in the calls that it waited for.
    #[must_use]
    pub fn take_tally(&self) -> DistReport {
        let groups = std::iter::once(&self.host).chain(&self.gpu);
        groups.fold(DistReport::default(), |sum, group| sum.plus(group.take_tally()))
    }

    /// Returns the store with this world's keys.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Returns the group for tensors on a device.
    #[must_use]
    pub fn group(&self, device: Device) -> &ProcessGroup {
        self.gpu
            .as_ref()
            .filter(|_| device.is_cuda())
            .unwrap_or(&self.host)
    }

    /// Opens an additional group of all ranks, whose calls are not ordered with those of other groups. This
    /// is a collective call of all ranks.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer does not join.
    pub fn another_group(&self, device: Device) -> Result<ProcessGroup> {
        let number = self.more.replace(self.more.get() + 1);
        let store = self.store.below(&format!("group/{number}"), self.step)?;
        let fabric = if device.is_cuda() {
            Fabric::Nccl
        } else {
            Fabric::Gloo
        };
        let group = ProcessGroup::open(&store, (self.rank(), self.size()), fabric, self.step)?;
        if fabric == Fabric::Nccl {
            connect(&group, device, (JOIN_LIMIT, self.step))?;
        }
        Ok(group)
    }

    /// Sends an order to the other ranks, which wait in [`Self::await_order`]. Only rank 0 calls this.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone.
    pub fn order(&self, bytes: &[u8]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        self.store.set(&self.next_order(), "")?;
        let length = Tensor::f_from_slice(&[bytes.len() as i64])?;
        self.host.broadcast(&length, 0)?;
        self.host.broadcast(&Tensor::f_from_slice(bytes)?, 0)
    }

    /// Waits for rank 0's next order. There is no time limit, because rank 0 may sample for hours. With a
    /// store over TCP, the end of rank 0 or of its starter is noticed at once, because one of them serves the
    /// store, and a rank 0 that is suspended is noticed after the time limit of a step; this process exits then if
    /// the store does not answer either. With a store file the end of rank 0 is noticed within seconds, once the
    /// file has been removed.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if rank 0 is gone or an order is too long.
    pub fn await_order(&self) -> Result<Vec<u8>> {
        self.await_key(&self.next_order())?;
        let length = Tensor::f_zeros([1], (Kind::Int64, Device::Cpu))?;
        self.host.broadcast(&length, 0)?;
        let length = length.f_int64_value(&[0])?;
        if !(0..=LONGEST_ORDER).contains(&length) {
            let message = format!("an order has {length} bytes, expected at most {LONGEST_ORDER}");
            return Err(ModelError::World(message));
        }
        let bytes = Tensor::f_zeros([length], (Kind::Uint8, Device::Cpu))?;
        self.host.broadcast(&bytes, 0)?;
        Ok(Vec::<u8>::try_from(bytes)?)
    }

    /// Waits until rank 0 sets a key, as long as it lives.
    fn await_key(&self, key: &str) -> Result<()> {
        let watch = || PulseWatch::begin(self.store.below(PULSE, self.step)?, self.step);
        let mut watch = has_pulse(&self.membership).then(watch).transpose()?;
        while !self.store.wait(key, pause(self.step))? {
            if let Some(watch) = &mut watch {
                watch.look()?;
            }
            // A store file outlives its writers. The process that started the ranks removes it when it ends
            // them.
            if let Rendezvous::File(path) = &self.membership.rendezvous
                && !path.exists()
            {
                let message = format!(
                    "the rendezvous file {} is gone, so the process that gives orders has ended",
                    path.display()
                );
                return Err(ModelError::World(message));
            }
        }
        Ok(())
    }

    fn next_order(&self) -> String {
        let number = self.orders.get() + 1;
        self.orders.set(number);
        format!("order/{number}")
    }

    /// Returns how long a rank waits for its peers within a step.
    #[must_use]
    pub fn step_limit(&self) -> Duration {
        self.step
    }

    /// Runs work that may take long, such as reading or writing files, with the longer time limit
    /// [`FILES_LIMIT`] for the calls that are made in it. On a GPU such a call may still wait for its peers when the work
    /// is done on this rank: it keeps its limit. Ranks other than 0 watch meanwhile for rank 0's signs of life: if its
    /// machine is cut off, no socket closes, and they would wait for half an hour. This process exits then. Rank 0 is
    /// watched by who gave it the work.
    ///
    /// # Errors
    /// Returns the errors of the work.
    pub fn patiently<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.limit_calls(FILES_LIMIT)?;
        let is_watching = self.rank() > 0 && has_pulse(&self.membership);
        let watch = is_watching.then(|| PulseVigil::begin(self.store.below(PULSE, self.step)?, self.step));
        let watch = watch.transpose()?;
        let done = work();
        drop(watch);
        self.limit_calls(self.step)?;
        done
    }

    /// Sets the time limit of later calls, in both groups.
    fn limit_calls(&self, limit: Duration) -> Result<()> {
        self.host.set_limit(limit)?;
        self.gpu.as_ref().map_or(Ok(()), |gpu| gpu.set_limit(limit))
    }
}

/// Connects the ranks of a group over NCCL, which may take longer than a call within a step, as joining does.
fn connect(group: &ProcessGroup, device: Device, (joining, step): (Duration, Duration)) -> Result<()> {
    group.set_limit(joining.max(step))?;
    group.meet(device)?;
    group.set_limit(step)
}

/// Returns whether rank 0 shows signs of life, which it does not where ranks meet in a file.
fn has_pulse(membership: &Membership) -> bool {
    matches!(membership.rendezvous, Rendezvous::Tcp { .. })
}
