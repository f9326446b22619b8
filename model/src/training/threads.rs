//! Computes the gradients of parts of a batch on several threads, each with leaves of its own.
//!
//! The operations of a small model are too short to be divided among threads, which would wait for the
//! slowest of them at every operation. Here each thread takes some rows through the whole network, and the
//! gradients are added once per step. They are added in the order of the parts, so a batch gives the same
//! sums each time (L8).

use crate::device::kernels::threads::meet_threads;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::loss::LossRow;

/// The smallest number of rows of a part.
const LEAST_ROWS: usize = demask_api::plan::LEAST_ROWS as usize;

/// Returns how many parts of a batch are computed at one time.
#[must_use]
pub fn at_once(backbone: &Backbone) -> usize {
    // Weights that are gathered block by block are gathered once for all rows that use them, so there is one
    // part.
    if backbone.device().is_cuda() || backbone.parameters().sharded().is_some() {
        return 1;
    }
    meet_threads();
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// Divides the rows, by index, into one part per thread, with a similar mix of short and long rows in each.
/// If the network's batches are divided into units, the number of parts depends on the number of rows only,
/// not on the number of threads.
#[must_use]
pub fn parts(backbone: &Backbone, rows: &[LossRow]) -> Vec<Vec<usize>> {
    let most = if backbone.room().is_cut_in_units() {
        usize::MAX
    } else {
        at_once(backbone)
    };
    let count = most.min(rows.len() / LEAST_ROWS).max(1);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&at| rows[at].ids.len() - rows[at].left_pad);
    let mut parts = vec![Vec::with_capacity(rows.len() / count + 1); count];
    for (number, at) in order.into_iter().enumerate() {
        // The direction alternates, so that no part always gets the longer row.
        let (round, place) = (number / count, number % count);
        parts[if round % 2 == 0 { place } else { count - 1 - place }].push(at);
    }
    parts
}

/// Runs `work` on all parts, several at a time. The calling thread computes the first part of each round, and
/// only it is given `pause`.
///
/// # Errors
/// Returns the error of the first part that failed.
pub fn each<P, T, F>(backbone: &Backbone, parts: &mut [P], pause: &mut Pause<'_>, work: F) -> Result<Vec<T>>
where
    P: Send,
    T: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<T> + Sync,
{
    let mut made = Vec::with_capacity(parts.len());
    for parts in parts.chunks_mut(at_once(backbone)) {
        made.extend(on_twins(backbone, parts, pause, &work)?.0);
    }
    made.into_iter().collect()
}

/// Runs `work` on the first part with the backbone itself on this thread, and on each other part with a twin
/// on another thread. Returns the results and the twins.
pub(super) fn on_twins<P, T, F>(
    backbone: &Backbone,
    parts: &mut [P],
    pause: &mut Pause<'_>,
    work: F,
) -> Result<(Vec<Result<T>>, Vec<Backbone>)>
where
    P: Send,
    T: Send,
    F: Fn(&Backbone, &mut P, &mut Pause<'_>) -> Result<T> + Sync,
{
    let Some((first, others)) = parts.split_first_mut() else {
        return Ok((Vec::new(), Vec::new()));
    };
    if others.is_empty() {
        // A unit must have the same bits whether or not other units run beside it, so it always runs on one
        // thread.
        let _restored = Threads(tch::get_num_threads());
        if backbone.room().is_cut_in_units() && !backbone.device().is_cuda() {
            tch::set_num_threads(1);
        }
        return Ok((vec![work(backbone, first, pause)], Vec::new()));
    }
    let twins: Vec<Backbone> = others
        .iter()
        .map(|_| backbone.training_twin())
        .collect::<Result<_>>()?;
    let _restored = Threads(tch::get_num_threads());
    let work = &work;
    let done = std::thread::scope(|scope| {
        let start = |(twin, part)| {
            scope.spawn(move || {
                meet_threads();
                tch::set_num_threads(1);
                (work(&twin, part, &mut |_| Ok(())), twin)
            })
        };
        let started: Vec<_> = twins.into_iter().zip(others).map(start).collect();
        tch::set_num_threads(1);
        let mut made = vec![work(backbone, first, pause)];
        let mut twins = Vec::with_capacity(started.len());
        for thread in started {
            let (one, twin) = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            made.push(one);
            twins.push(twin);
        }
        (made, twins)
    });
    Ok(done)
}

/// Restores the number of threads of the CPU's libraries when dropped, also after a panic.
pub(super) struct Threads(i32);

impl Threads {
    /// Sets one thread.
    pub fn one() -> Self {
        let before = Self(tch::get_num_threads());
        tch::set_num_threads(1);
        before
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.0);
    }
}
