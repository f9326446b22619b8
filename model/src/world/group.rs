//! The collective calls of c10d, which all ranks of a group must make in the same order. A call returns when
//! this rank's part is done, and fails if a peer is gone or the group's time limit is over. A group is
//! unusable after a failed call.

use std::cell::Cell;
use std::time::{Duration, Instant};

use demask_api::DistReport;
use tch::{Device, Kind, Tensor};

use super::exit::{PEER_LOST, leave};
use super::ffi::{Object, call};
use super::nccl::CallWatch;
use super::store::{Store, millis};
#[cfg(fused)]
use crate::device::kernels::ffi::handle;
use crate::error::{ModelError, Result};
use crate::weights::shards::chunks;

/// The chunks whose squares are summed in one operation on a GPU. One operation per chunk would be half a million
/// launches for eight billion parameters, which take longer than the rest of a step.
const CHUNKS_AT_ONCE: i64 = 64;

/// The backend that carries a group's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// Gloo over TCP, for tensors on the CPU.
    Gloo,
    /// NCCL, for tensors on a GPU. It has not been run with more than one GPU yet. A call returns when it is queued, and
    /// this process exits if it is not done within the time limit ([`ProcessGroup::watch`]).
    Nccl,
}

/// The reduction of an all-reduce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// The sum, in c10d's order of summands: see [`ProcessGroup::all_reduce`].
    Sum = 0,
    /// The mean.
    Mean = 1,
    /// The minimum.
    Least = 3,
    /// The maximum.
    Most = 4,
}

/// A process group: ranks that make collective calls together. One thread owns it.
#[derive(Debug)]
pub struct ProcessGroup {
    object: Object,
    rank: usize,
    size: usize,
    /// The communication of all completed calls.
    tally: Cell<DistReport>,
    /// The watch over NCCL's calls.
    watch: Option<CallWatch>,
}

// SAFETY: only this value drops the counted pointer, and every call borrows it.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Opens a group of all ranks. `limit` is the time limit of each later call.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a rank does not join within the limit, or if NCCL is asked for
    /// without libtorch's CUDA libraries.
    pub fn open(
        store: &Store,
        (rank, size): (usize, usize),
        fabric: Fabric,
        limit: Duration,
    ) -> Result<Self> {
        let mut object = std::ptr::null_mut();
        let over_nccl = i32::from(fabric == Fabric::Nccl);
        let (number, count) = (rank as i64, size as i64);
        let ms = millis(limit);
        call!(demask_group_open(
            store.object(),
            number,
            count,
            ms,
            over_nccl,
            &mut object
        ))?;
        let mut group = Self {
            object,
            rank,
            size,
            tally: Cell::default(),
            watch: None,
        };
        if fabric == Fabric::Nccl {
            group.watch(limit)?;
        }
        Ok(group)
    }

    /// Watches the group's calls from now on: this process exits with [`PEER_LOST`] if one of them is not done within the
    /// limit, wherever it hangs. A group over NCCL is watched from the start. Gloo keeps its own limit.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the system starts no thread.
    pub fn watch(&mut self, limit: Duration) -> Result<()> {
        self.watch = None;
        let watch = CallWatch::begin(self.object, limit, |why| leave(PEER_LOST, &why))?;
        self.watch = Some(watch);
        Ok(())
    }

    /// Makes the first call of a group over NCCL, which connects the ranks, and waits for its end. A network that does
    /// not work is thus reported before weights are loaded. All ranks call together, each with its device.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the ranks cannot be connected, and [`ModelError::Refused`] if NCCL finds two of
    /// them on one GPU.
    pub fn meet(&self, device: Device) -> Result<()> {
        let one = Tensor::f_ones([1], (Kind::Float, device))?;
        let met = call!(demask_group_meet(self.object, handle(&one)));
        met.map_err(|error| match error {
            ModelError::World(words) if words.contains("Duplicate GPU") => ModelError::Refused(words),
            other => other,
        })?;
        let found = one.f_double_value(&[0])?;
        if found != self.size as f64 {
            let message = format!("{} ranks counted {found} of them over NCCL", self.size);
            return Err(ModelError::World(message));
        }
        Ok(())
    }

    /// Returns the rank of this process.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Returns the number of ranks.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes what crossed in this group since this was called last, in the calls that were waited for. On a GPU the
    /// host's waiting is short, because a stream waits in its place.
    #[must_use]
    pub fn take_tally(&self) -> DistReport {
        self.tally.take()
    }

    /// Makes a call and counts its time, and the bytes that come in it.
    fn counted(&self, bytes: usize, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let began = Instant::now();
        let done = call();
        let seconds = began.elapsed().as_secs_f64();
        self.tally.set(self.tally.get().plus(DistReport {
            wait_seconds: seconds,
            seconds,
            bytes: bytes as u64,
        }));
        done
    }

    /// Sets the time limit of later calls.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn set_limit(&self, limit: Duration) -> Result<()> {
        call!(demask_group_limit(self.object, millis(limit)))?;
        Ok(())
    }

    /// Broadcasts the tensor of rank `from` to every rank's `tensor`.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over.
    pub fn broadcast(&self, tensor: &Tensor, from: usize) -> Result<()> {
        contiguous(tensor)?;
        let comes = if from == self.rank { 0 } else { bytes(tensor) };
        self.counted(comes, || {
            call!(demask_group_broadcast(self.object, handle(tensor), from as i64))?;
            Ok(())
        })
    }

    /// Reduces `tensor` over all ranks, in place. c10d chooses the order of a sum. The order is the same on
    /// all ranks and in every run, but it depends on the number of ranks and on the position of an element in
    /// the tensor. A sum that must not depend on the number of ranks is computed by the rank that owns it
    /// ([`Self::all_to_all`]), or has only one summand that is not zero.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over.
    pub fn all_reduce(&self, tensor: &Tensor, how: Reduce) -> Result<()> {
        contiguous(tensor)?;
        // A ring brings each part twice: to be summed, and as the sum.
        let comes = 2 * bytes(tensor) * (self.size - 1) / self.size;
        self.counted(comes, || {
            call!(demask_group_all_reduce(self.object, handle(tensor), how as i64))?;
            Ok(())
        })
    }

    /// Sends row r of `from` to rank r, and receives row r of `to` from rank r. Both have the shape [size,
    /// …].
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over.
    pub fn all_to_all(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        contiguous(to)?;
        contiguous(from)?;
        let comes = bytes(to) * (self.size - 1) / self.size;
        self.counted(comes, || {
            call!(demask_group_all_to_all(self.object, handle(to), handle(from)))?;
            Ok(())
        })
    }

    /// Gathers the pieces of all ranks: on every rank, piece r becomes that of rank r. An empty piece is
    /// skipped. On Gloo this is several times faster than c10d's own all-gather, which copies through one
    /// flat buffer.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over, and refuses a number of
    /// pieces that differs from the number of ranks.
    pub fn all_gather(&self, pieces: &[Tensor]) -> Result<()> {
        if pieces.len() != self.size {
            let message = format!("found {} pieces for {} ranks", pieces.len(), self.size);
            return Err(ModelError::Refused(message));
        }
        pieces.iter().try_for_each(contiguous)?;
        let mut handles: Vec<_> = pieces.iter().map(handle).collect();
        let all: usize = pieces.iter().map(bytes).sum();
        self.counted(all - bytes(&pieces[self.rank]), || {
            call!(demask_group_all_gather(
                self.object,
                handles.as_mut_ptr(),
                pieces.len() as i64
            ))?;
            Ok(())
        })
    }

    /// Starts to broadcast each piece from the rank beside it. No piece may be empty.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the group is unusable.
    pub fn begin_gather(&self, pieces: &[(usize, Tensor)]) -> Result<PendingCalls> {
        pieces.iter().try_for_each(|(_, piece)| contiguous(piece))?;
        let roots: Vec<i64> = pieces.iter().map(|(root, _)| *root as i64).collect();
        let mut handles: Vec<_> = pieces.iter().map(|(_, piece)| handle(piece)).collect();
        let mut calls = PendingCalls(std::ptr::null_mut());
        let count = pieces.len() as i64;
        call!(demask_group_begin_gather(
            self.object,
            handles.as_mut_ptr(),
            roots.as_ptr(),
            count,
            &mut calls.0
        ))?;
        Ok(calls)
    }

    /// Exchanges as [`Self::begin_exchange`] does, and waits for the end.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over, and the refusals of
    /// [`Self::begin_exchange`].
    pub fn exchange(&self, to: (&Tensor, &[i64]), from: (&Tensor, &[i64])) -> Result<()> {
        let (received, lengths) = to;
        let own = usize::try_from(lengths.get(self.rank).copied().unwrap_or(0)).unwrap_or(0);
        let comes = bytes(received) - own * received.kind().elt_size_in_bytes();
        self.counted(comes, || self.begin_exchange(to, from)?.wait().map(drop))
    }

    /// Starts an all-to-all with unequal lengths. The first `sent[0]` numbers of `from` go to rank 0, the
    /// next `sent[1]` to rank 1, and so on. `to` receives `received[r]` numbers from each rank r, in the
    /// order of ranks.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if the group is unusable, and refuses lengths that do not match the
    /// ranks or the tensors.
    pub fn begin_exchange(
        &self,
        (to, received): (&Tensor, &[i64]),
        (from, sent): (&Tensor, &[i64]),
    ) -> Result<PendingCalls> {
        contiguous(to)?;
        contiguous(from)?;
        let fits = |tensor: &Tensor, lengths: &[i64]| {
            lengths.len() == self.size && lengths.iter().sum::<i64>() == tensor.numel() as i64
        };
        if !fits(to, received) || !fits(from, sent) {
            let message = format!("lengths {sent:?} and {received:?} for {} ranks", self.size);
            return Err(ModelError::Refused(message));
        }
        let mut calls = PendingCalls(std::ptr::null_mut());
        let size = self.size as i64;
        call!(demask_group_begin_exchange(
            self.object,
            handle(to),
            handle(from),
            received.as_ptr(),
            sent.as_ptr(),
            size,
            &mut calls.0
        ))?;
        Ok(calls)
    }

    /// Waits until all ranks have made this call.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over.
    pub fn barrier(&self) -> Result<()> {
        self.counted(0, || {
            call!(demask_group_barrier(self.object))?;
            Ok(())
        })
    }
}

/// Asynchronous collective calls in progress, on c10d's own threads or streams.
#[derive(Debug)]
pub struct PendingCalls(Object);

// SAFETY: only this value owns the handle, and every call borrows it.
unsafe impl Send for PendingCalls {}

impl PendingCalls {
    /// Waits until this rank's part of all calls is done. Returns when they began and ended, in seconds of a
    /// steady clock.
    ///
    /// # Errors
    /// Returns [`ModelError::World`] if a peer is gone or the time limit is over.
    pub fn wait(self) -> Result<(f64, f64)> {
        let mut times = [0.0; 2];
        call!(demask_calls_wait(self.0, times.as_mut_ptr()))?;
        Ok((times[0], times[1]))
    }
}

impl Drop for PendingCalls {
    fn drop(&mut self) {
        #[cfg(fused)]
        if !self.0.is_null() {
            // SAFETY: this value owns the handle, which is not used again.
            unsafe { super::ffi::names::demask_calls_drop(self.0) };
        }
    }
}

#[cfg(not(fused))]
fn handle(_: &Tensor) -> Object {
    std::ptr::null_mut()
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.watch = None;
        #[cfg(fused)]
        // SAFETY: this value owns the handle, which is not used again.
        unsafe {
            super::ffi::names::demask_group_drop(self.object);
        }
    }
}

fn bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

fn contiguous(tensor: &Tensor) -> Result<()> {
    if tensor.is_contiguous() {
        return Ok(());
    }
    Err(ModelError::Refused(
        "ranks can only exchange contiguous tensors".into(),
    ))
}

/// Returns the sum of squares of each chunk of `chunk` numbers of a flat f32 tensor, as f64. The order of
/// summation depends neither on the number of threads nor on where else the tensor is cut at multiples of a
/// chunk.
///
/// # Errors
/// Returns libtorch's errors.
pub fn chunk_squares(flat: &Tensor, chunk: i64) -> Result<Tensor> {
    if cfg!(fused) && !flat.device().is_cuda() {
        let count = chunks(flat.numel() as i64, chunk);
        let sums = Tensor::f_zeros([count], (Kind::Double, flat.device()))?;
        call!(demask_chunk_squares(handle(flat), chunk, handle(&sums)))?;
        return Ok(sums);
    }
    composed_chunk_squares(flat, chunk)
}

/// Computes [`chunk_squares`] with libtorch's operators, several chunks at a time.
fn composed_chunk_squares(flat: &Tensor, chunk: i64) -> Result<Tensor> {
    let count = flat.numel() as i64;
    let sums = Tensor::f_zeros([chunks(count, chunk)], (Kind::Double, flat.device()))?;
    let whole = CHUNKS_AT_ONCE * chunk;
    for at in (0..count).step_by(usize::try_from(whole).unwrap_or(1)) {
        let length = whole.min(count - at);
        let part = flat.f_narrow(0, at, length)?.f_to_kind(Kind::Double)?;
        // Always as many chunks, the last of them zeros, because a kernel may sum fewer rows in another order.
        let part = part
            .f_constant_pad_nd([0, whole - length])?
            .f_view([CHUNKS_AT_ONCE, chunk])?;
        let own = part
            .f_square()?
            .f_sum_dim_intlist([-1].as_slice(), false, Kind::Double)?;
        let present = chunks(length, chunk);
        sums.f_narrow(0, at / chunk, present)?
            .f_copy_(&own.f_narrow(0, 0, present)?)?;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Every number of chunks around a whole operation's, with a last one that is full and one that is not.
    #[test]
    fn chunks_are_summed_by_operators_as_by_the_kernel_wherever_they_lie() {
        const CHUNK: i64 = 100;
        let longest = (2 * CHUNKS_AT_ONCE + 3) * CHUNK;
        let all = Tensor::arange(longest, (Kind::Float, Device::Cpu)).sin();
        let numbers = |sums: Tensor| Vec::<f64>::try_from(sums).unwrap();
        let whole = numbers(composed_chunk_squares(&all, CHUNK).unwrap());
        for count in [1, CHUNK, 64 * CHUNK - 1, 64 * CHUNK, 64 * CHUNK + 1, longest] {
            let part = all.narrow(0, 0, count);
            let found = numbers(composed_chunk_squares(&part, CHUNK).unwrap());
            let expected = numbers(chunk_squares(&part, CHUNK).unwrap());
            assert_eq!(found.len() as i64, chunks(count, CHUNK), "{count}");
            for (found, expected) in found.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() <= 1e-12 * expected,
                    "{count}: {found} {expected}"
                );
            }
            // L11: a full chunk has the same bits whatever follows it.
            let full = usize::try_from(count / CHUNK).unwrap();
            assert_eq!(found[..full], whole[..full], "{count}");
        }
    }
}
