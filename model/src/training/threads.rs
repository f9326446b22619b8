//! Gradients of the parts of a batch on several threads, each thread with leaves of its own.
//!
//! A small model's operations are too short to be worth dividing among threads: each waits for the slowest at every one of
//! them. Here a thread takes part of the rows through the whole network, and gradients meet once a step. They are added in
//! the order of the parts, so a batch gives the same sums each time (L8).

use crate::device::kernels::threads::meet_threads;
use crate::error::Result;
use crate::network::backbone::Backbone;
use crate::training::interlude::Pause;
use crate::training::loss::LossRow;

/// Rows that a part has at least.
const LEAST_ROWS: usize = 4;

/// Parts of a batch that are done at one time here.
#[must_use]
pub fn at_once(backbone: &Backbone) -> usize {
    // Weights that come block by block come once for all that are computed with them.
    if backbone.device().is_cuda() || backbone.parameters().sharded().is_some() {
        return 1;
    }
    meet_threads();
    usize::try_from(tch::get_num_threads()).unwrap_or(1).max(1)
}

/// The rows in as many parts as there are threads, as indices: each part has as many short and long ones. In a network whose
/// batches are cut into units there are as many parts as the rows are enough for, whoever does them.
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
        // There and back again, so that no part always has the longer one.
        let (round, place) = (number / count, number % count);
        parts[if round % 2 == 0 { place } else { count - 1 - place }].push(at);
    }
    parts
}

/// Does `work` on each part at the same time. The first part is done by the thread that calls, and is given `pause`.
///
/// # Errors
/// The first part's that failed.
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

/// The first part is done here, with the backbone itself; the others each by a twin in a thread, which come back.
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
        // A unit's bits are its own, whoever has another one to do beside it.
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

/// As many threads as there were, after a panic too.
struct Threads(i32);

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.0);
    }
}
