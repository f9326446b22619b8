//! This process as a member of a world: what rank 0 orders, one verdict of all ranks, the end of the process.

use std::cell::Cell;
use std::time::Duration;

use demask_api::DistReport;
use tch::{Device, Kind, Tensor};

use super::environment::{Membership, Rendezvous};
use super::group::{Fabric, ProcessGroup, Reduce};
use super::interface;
use super::report::Identity;
use super::store::Store;
use crate::error::{ModelError, Result};

/// The exit code of a rank that lost a peer: start the world again. Anything else but 0 is a fault of its own.
pub const PEER_LOST: i32 = 75;
/// The exit code of a rank with a fault of its own, of which the others know nothing.
pub const FAULT: i32 = 70;

/// How long a rank waits for its peers within a step.
pub const STEP_LIMIT: Duration = Duration::from_secs(120);
/// The same where files are read and written.
pub const FILES_LIMIT: Duration = Duration::from_secs(1800);
/// How long ranks wait for the last of them to come.
pub const JOIN_LIMIT: Duration = Duration::from_secs(300);
/// How long a rank waits for an order until it looks whether the store still answers.
const ORDER_LOOK: Duration = Duration::from_secs(60);
/// Bytes of an order at most: a batch of token ids (law L9).
const LONGEST_ORDER: i64 = 1 << 30;
/// Bytes of a rank's words about its failure.
const WORDS: usize = 400;

/// A world that this process has joined.
#[derive(Debug)]
pub struct World {
    membership: Membership,
    /// For what lies on the CPU: orders, verdicts, and tensors without a GPU.
    host: ProcessGroup,
    /// For what lies on a GPU.
    gpu: Option<ProcessGroup>,
    /// Dropped last: groups find their peers in it.
    store: Store,
    /// Orders so far.
    orders: Cell<u64>,
    /// Groups opened beside these so far.
    more: Cell<u64>,
    /// How long a call of a step may take.
    step: Duration,
    /// Of all ranks, in their order.
    identities: Vec<Identity>,
}

impl World {
    /// Joins: ends when all ranks have come.
    ///
    /// # Errors
    /// A rank that does not come in time; no store.
    pub fn join(membership: Membership, device: Device) -> Result<Self> {
        Self::join_within(membership, device, JOIN_LIMIT, STEP_LIMIT)
    }

    /// Joins with other patience than that of [`JOIN_LIMIT`] and [`STEP_LIMIT`].
    ///
    /// # Errors
    /// Those of [`Self::join`].
    pub fn join_within(
        membership: Membership,
        device: Device,
        joining: Duration,
        step: Duration,
    ) -> Result<Self> {
        interface::choose(&membership);
        let store = Store::open(&membership, joining)?;
        // Nobody opens a group, which has one limit for both, before all have come.
        let come = store.add("joined", 1)?;
        if come == membership.size as i64 {
            store.set("all", "here")?;
        }
        if !store.wait("all", joining)? {
            let (size, seconds) = (membership.size, joining.as_secs_f64());
            let message = format!("not all of {size} ranks came within {seconds} s");
            return Err(ModelError::World(message));
        }
        let place = (membership.rank, membership.size);
        let open = |fabric| ProcessGroup::open(&store, place, fabric, step);
        let host = open(Fabric::Gloo)?;
        let gpu = device.is_cuda().then(|| open(Fabric::Nccl)).transpose()?;
        // NCCL sets up at its first call: a broken fabric is told before weights are loaded.
        host.barrier()?;
        gpu.as_ref().map_or(Ok(()), ProcessGroup::barrier)?;
        Ok(Self {
            identities: Identity::exchange(&host, device)?,
            membership,
            host,
            gpu,
            store,
            orders: Cell::new(0),
            more: Cell::new(0),
            step,
        })
    }

    /// This process's number.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.membership.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.membership.size
    }

    pub(super) fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// Takes what went between this rank and its peers since this was called last, in the calls that it waited for.
    #[must_use]
    pub fn take_tally(&self) -> DistReport {
        let groups = std::iter::once(&self.host).chain(&self.gpu);
        groups.fold(DistReport::default(), |sum, group| sum.plus(group.take_tally()))
    }

    /// The store, with this world's keys.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The group for tensors on a device.
    #[must_use]
    pub fn group(&self, device: Device) -> &ProcessGroup {
        self.gpu
            .as_ref()
            .filter(|_| device.is_cuda())
            .unwrap_or(&self.host)
    }

    /// One more group of all ranks, whose calls do not stand in a row with those of the others. All ranks ask together.
    ///
    /// # Errors
    /// A peer that does not come.
    pub fn another_group(&self, device: Device) -> Result<ProcessGroup> {
        let number = self.more.replace(self.more.get() + 1);
        let store = self.store.below(&format!("group/{number}"), self.step)?;
        let fabric = if device.is_cuda() {
            Fabric::Nccl
        } else {
            Fabric::Gloo
        };
        ProcessGroup::open(&store, (self.rank(), self.size()), fabric, self.step)
    }

    /// Tells the other ranks, who wait in [`Self::await_order`], what is done next. Rank 0's.
    ///
    /// # Errors
    /// A peer that is gone.
    pub fn order(&self, bytes: &[u8]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        self.store.set(&self.next_order(), "")?;
        let length = Tensor::f_from_slice(&[bytes.len() as i64])?;
        self.host.broadcast(&length, 0)?;
        self.host.broadcast(&Tensor::f_from_slice(bytes)?, 0)
    }

    /// Waits for rank 0's next order, as long as it takes: rank 0 may sample for hours. Its end is seen at once, because the store
    /// is its own or its starter's.
    ///
    /// # Errors
    /// Rank 0 is gone; an order that is too long.
    pub fn await_order(&self) -> Result<Vec<u8>> {
        let key = self.next_order();
        while !self.store.wait(&key, ORDER_LOOK)? {
            // A file outlives those who wrote in it; who started the ranks removes it.
            if let Rendezvous::File(path) = &self.membership.rendezvous
                && !path.exists()
            {
                let message = format!(
                    "the store {} is gone, and with it who gives orders",
                    path.display()
                );
                return Err(ModelError::World(message));
            }
        }
        let length = Tensor::f_zeros([1], (Kind::Int64, Device::Cpu))?;
        self.host.broadcast(&length, 0)?;
        let length = length.f_int64_value(&[0])?;
        if !(0..=LONGEST_ORDER).contains(&length) {
            let message = format!("an order of {length} bytes, expected at most {LONGEST_ORDER}");
            return Err(ModelError::World(message));
        }
        let bytes = Tensor::f_zeros([length], (Kind::Uint8, Device::Cpu))?;
        self.host.broadcast(&bytes, 0)?;
        Ok(Vec::<u8>::try_from(bytes)?)
    }

    fn next_order(&self) -> String {
        let number = self.orders.get() + 1;
        self.orders.set(number);
        format!("order/{number}")
    }

    /// One verdict of all ranks on a piece of work that each has done its part of: what it gave, or the failure of the first rank
    /// that failed, in the same words on every rank, so that all go on alike.
    ///
    /// # Errors
    /// [`ModelError::Refused`]: a rank failed. A peer that is gone, as [`ModelError::World`].
    pub fn agree<T>(&self, own: Result<T>) -> Result<T> {
        // A rank whose device failed cannot go on, nor can one that lost a peer: the others see it leave.
        if let Err(error) = &own
            && (error.is_device_fault() || matches!(error, ModelError::World(_)))
        {
            return own;
        }
        if self.size() == 1 {
            return own;
        }
        let (rank, size) = (self.rank() as i64, self.size() as i64);
        let first = Tensor::f_from_slice(&[if own.is_ok() { size } else { rank }])?;
        self.host.all_reduce(&first, Reduce::Least)?;
        let first = first.f_int64_value(&[0])?;
        if first == size {
            return own;
        }
        let mut words = own
            .err()
            .map_or_else(String::new, |error| error.to_string())
            .into_bytes();
        words.resize(WORDS, 0);
        let words = Tensor::f_from_slice(&words)?;
        self.host.broadcast(&words, usize::try_from(first).unwrap_or(0))?;
        let words = Vec::<u8>::try_from(words)?;
        let words = String::from_utf8_lossy(&words);
        let words = words.trim_end_matches('\0');
        Err(ModelError::Refused(format!("rank {first}: {words}")))
    }

    /// Does what may take long, such as reading and writing files, with patience for it.
    ///
    /// # Errors
    /// Those of the work.
    pub fn patiently<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.host.set_limit(FILES_LIMIT)?;
        let done = work();
        self.host.set_limit(self.step)?;
        done
    }
}

/// Ends this process at once, without destructors: closed sockets tell the peers, while closing a group on which a call hangs would
/// wait for it.
pub fn leave(code: i32, why: &dyn std::fmt::Display) -> ! {
    tracing::error!("this rank leaves with {code}: {why}");
    // SAFETY: takes a number and does not return.
    unsafe { libc::_exit(code) }
}
