//! What ranks do together: c10d's collective calls, which all ranks of a group begin in the same order. Each call ends when this
//! rank's part is done, or fails when a peer is gone or the group's limit is over; a group of which a call failed is dead.

use std::cell::Cell;
use std::time::{Duration, Instant};

use demask_api::DistReport;
use tch::Tensor;

use super::ffi::{Object, call};
use super::store::{Store, millis};
#[cfg(fused)]
use crate::device::kernels::ffi::handle;
use crate::error::{ModelError, Result};

/// What carries a group's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// TCP, for tensors on the CPU.
    Gloo,
    /// NVIDIA's, for tensors on a GPU. Never run with more than one GPU so far: none was at hand.
    Nccl,
}

/// How values of several ranks become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Their sum, in whichever order c10d likes: see [`ProcessGroup::all_reduce`].
    Sum = 0,
    /// Their mean.
    Mean = 1,
    /// The least.
    Least = 3,
    /// The most.
    Most = 4,
}

/// Ranks that call together. One thread owns it.
#[derive(Debug)]
pub struct ProcessGroup {
    object: Object,
    rank: usize,
    size: usize,
    /// What crossed in the calls that were waited for.
    tally: Cell<DistReport>,
}

// SAFETY: the handle is a counted pointer that this alone drops, and every call borrows it.
unsafe impl Send for ProcessGroup {}

impl ProcessGroup {
    /// Opens a group of all ranks; `limit` holds for each later call.
    ///
    /// # Errors
    /// A rank that does not come within the limit; NCCL without libtorch's CUDA half.
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
        Ok(Self {
            object,
            rank,
            size,
            tally: Cell::default(),
        })
    }

    /// This process's number.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many ranks there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.size
    }

    /// Takes what crossed in this group since this was called last, in the calls that were waited for. On a GPU the host's
    /// waiting is short, because a stream waits in its place.
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

    /// Other patience for the calls that follow.
    ///
    /// # Errors
    /// libtorch's.
    pub fn set_limit(&self, limit: Duration) -> Result<()> {
        call!(demask_group_limit(self.object, millis(limit)))?;
        Ok(())
    }

    /// Every rank's tensor becomes that of one.
    ///
    /// # Errors
    /// A peer that is gone, or the limit.
    pub fn broadcast(&self, tensor: &Tensor, from: usize) -> Result<()> {
        contiguous(tensor)?;
        let comes = if from == self.rank { 0 } else { bytes(tensor) };
        self.counted(comes, || {
            call!(demask_group_broadcast(self.object, handle(tensor), from as i64))?;
            Ok(())
        })
    }

    /// Every rank's tensor becomes the one of all. The order of a sum is c10d's: it is the same on all ranks and each time, but
    /// another for another number of ranks, and within a tensor it depends on where an element lies. What must not depend on
    /// the number of ranks is summed by whoever owns it ([`Self::all_to_all`]), or has one summand that is not zero.
    ///
    /// # Errors
    /// A peer that is gone, or the limit.
    pub fn all_reduce(&self, tensor: &Tensor, how: Reduce) -> Result<()> {
        contiguous(tensor)?;
        // A ring brings each part twice: to be summed, and as the sum.
        let comes = 2 * bytes(tensor) * (self.size - 1) / self.size;
        self.counted(comes, || {
            call!(demask_group_all_reduce(self.object, handle(tensor), how as i64))?;
            Ok(())
        })
    }

    /// Row r of `from` goes to rank r, and row r of the answer came from rank r. [size, …] both.
    ///
    /// # Errors
    /// A peer that is gone, or the limit.
    pub fn all_to_all(&self, to: &Tensor, from: &Tensor) -> Result<()> {
        contiguous(to)?;
        contiguous(from)?;
        let comes = bytes(to) * (self.size - 1) / self.size;
        self.counted(comes, || {
            call!(demask_group_all_to_all(self.object, handle(to), handle(from)))?;
            Ok(())
        })
    }

    /// Piece r becomes that of rank r. An empty one stays as it is. On Gloo this is several times faster than its own call of the
    /// name, which copies through one flat buffer.
    ///
    /// # Errors
    /// A peer that is gone, or the limit; another number of pieces than of ranks.
    pub fn all_gather(&self, pieces: &[Tensor]) -> Result<()> {
        if pieces.len() != self.size {
            let message = format!("{} pieces for {} ranks", pieces.len(), self.size);
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

    /// Each piece, none of them empty, begins to come from the rank beside it.
    ///
    /// # Errors
    /// A group that is dead.
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

    /// Of `from` the first so many numbers begin to go to rank 0, the next to rank 1 and so on; from each rank as many as `received`
    /// says begin to come, one rank's behind the other's in `to`.
    ///
    /// # Errors
    /// A group that is dead; lengths that are not those of the ranks or of the tensors.
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

    /// Waits until all ranks have come here.
    ///
    /// # Errors
    /// A peer that is gone, or the limit.
    pub fn barrier(&self) -> Result<()> {
        self.counted(0, || {
            call!(demask_group_barrier(self.object))?;
            Ok(())
        })
    }
}

/// Calls that are on their way, on threads or streams of c10d's own.
#[derive(Debug)]
pub struct PendingCalls(Object);

// SAFETY: the handle is owned by this alone, and every call borrows it.
unsafe impl Send for PendingCalls {}

impl PendingCalls {
    /// Waits until this rank's part of all of them is done; when they began and ended, in seconds of a steady clock.
    ///
    /// # Errors
    /// A peer that is gone, or the limit.
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
            // SAFETY: the handle is this one's own and is not used again.
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
        #[cfg(fused)]
        // SAFETY: the handle is this one's own and is not used again.
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
        "ranks exchange contiguous tensors only".into(),
    ))
}

/// The sum of squares of each `chunk` numbers of a flat f32 tensor, f64, in an order that nothing changes: neither threads nor where
/// else the tensor is cut at multiples of a chunk.
///
/// # Errors
/// libtorch's.
pub fn chunk_squares(flat: &Tensor, chunk: i64) -> Result<Tensor> {
    use tch::Kind;
    let (count, device) = (flat.numel() as i64, flat.device());
    let sums = Tensor::f_zeros([(count + chunk - 1) / chunk], (Kind::Double, device))?;
    if cfg!(fused) && !device.is_cuda() {
        call!(demask_chunk_squares(handle(flat), chunk, handle(&sums)))?;
        return Ok(sums);
    }
    for (number, at) in (0..count)
        .step_by(usize::try_from(chunk).unwrap_or(1))
        .enumerate()
    {
        let part = flat
            .f_narrow(0, at, chunk.min(count - at))?
            .f_to_kind(Kind::Double)?;
        let sum = part.f_square()?.f_sum(Kind::Double)?;
        sums.f_select(0, number as i64)?.f_copy_(&sum)?;
    }
    Ok(sums)
}
