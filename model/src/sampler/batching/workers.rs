//! The running batch on several threads. Each thread has its own batch, and their forward passes do not wait for each
//! other.
//!
//! The operators of a small model are too short to gain from several threads (see `training/threads.rs`). Rows are
//! therefore distributed over worker threads, each of which computes with a single thread. A row that arrives alone is
//! sampled on the caller's thread, with all of libtorch's threads.
//!
//! A row gets its worker when it is submitted, and the choice depends only on the rows that are open then. One request
//! on an idle engine is therefore batched in the same way each time (law L8).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{Builder, JoinHandle};

use demask_api::{Sample, SampleFrame, SampleRequest};

use super::batch::{Batch, OnFrame, numbered};
use super::limits::Limits;
use super::shelf::Shelf;
use crate::device::kernels::threads::meet_threads;
use crate::error::{ModelError, Result};
use crate::network::backbone::Backbone;
use crate::sampler::row::SamplingRow;

/// The largest number of parameters of a small network. The operators of a larger one gain from several threads.
const SMALL: u64 = 64_000_000;

/// The rows that run, in one batch or several, and those that wait for admission.
#[derive(Debug)]
pub struct WorkerPool<'a> {
    backbone: &'a Backbone,
    limits: Limits,
    threads: usize,
    /// The batch of the caller's thread.
    own: Batch<'a>,
    /// The worker threads, started when there is work for them.
    workers: Option<Workers>,
    submitted: usize,
    /// The shelf that the cache of the caller's thread came from and returns to, unless a pass failed.
    shelf: Option<&'a Shelf>,
}

impl<'a> WorkerPool<'a> {
    /// Creates an empty pool: as many threads as libtorch uses for a small network on a CPU, one otherwise.
    #[must_use]
    pub fn new(backbone: &'a Backbone, limits: Limits) -> Self {
        meet_threads();
        let small = !backbone.device().is_cuda() && backbone.count() <= SMALL;
        let threads = if small { tch::get_num_threads() } else { 1 };
        Self::on(backbone, limits, usize::try_from(threads).unwrap_or(1))
    }

    /// Creates an empty pool with this number of threads.
    #[must_use]
    pub fn on(backbone: &'a Backbone, limits: Limits, threads: usize) -> Self {
        Self {
            backbone,
            limits,
            threads,
            own: Batch::new(backbone, limits),
            workers: None,
            submitted: 0,
            shelf: None,
        }
    }

    /// Takes the cache from a shelf, and returns it when the pool is dropped.
    #[must_use]
    pub fn keeping(mut self, shelf: &'a Shelf) -> Self {
        self.own = Batch::new(self.backbone, self.limits).keeping(shelf.take());
        self.shelf = Some(shelf);
        self
    }

    /// Queues rows and returns their tickets, which count up from 0.
    ///
    /// # Errors
    /// An error if the settings of a request do not fit its target, and nothing is queued then; or if no thread can be
    /// started.
    pub fn submit(&mut self, requests: Vec<SampleRequest>) -> Result<Range<usize>> {
        let rows = numbered(self.backbone, requests, self.submitted)?;
        let tickets = self.submitted..self.submitted + rows.len();
        // Idle workers may still have reports about withdrawn rows. If one of them is an error, its worker has ended,
        // and all workers are started again.
        if self
            .workers
            .as_ref()
            .is_some_and(|workers| workers.is_idle() && workers.is_over())
        {
            self.workers = None;
        }
        if self.threads < 2 || (self.is_empty() && tickets.len() < 2) {
            self.own.queue(rows);
        } else {
            let workers = match &mut self.workers {
                Some(workers) => workers,
                none => none.insert(Workers::start(self.backbone, self.limits, self.threads)?),
            };
            workers.deal(rows);
        }
        self.submitted = tickets.end;
        Ok(tickets)
    }

    /// Removes rows whose samples are no longer wanted, whether they wait or run.
    pub fn withdraw(&mut self, tickets: &Range<usize>) {
        self.own.withdraw(tickets);
        for worker in self.workers.iter_mut().flat_map(|workers| &mut workers.all) {
            worker.open.retain(|ticket, _| !tickets.contains(ticket));
            worker.running.retain(|ticket| !tickets.contains(ticket));
            worker.instruct(Instruction::Withdraw(tickets.clone()));
        }
    }

    /// Returns the tickets of the running rows, in no particular order. For worker threads these are the rows of their
    /// last report.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let workers = self.workers.iter().flat_map(|workers| &workers.all);
        self.own
            .running()
            .chain(workers.flat_map(|worker| worker.running.iter().copied()))
    }

    /// Returns whether no row runs or waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.workers.as_ref().is_none_or(Workers::is_idle)
    }

    /// Runs one step on the caller's thread, or waits until a worker has finished one if the caller's thread has no
    /// rows. Returns the rows that are done, with their tickets.
    ///
    /// # Errors
    /// The errors of [`Batch::step`]. The pool is unusable after an error.
    pub fn step(&mut self, on_frame: OnFrame<'_>) -> Result<Vec<(usize, Sample)>> {
        let mut done = Vec::new();
        let waits = self.own.is_empty();
        if !waits {
            done = self.own.step(on_frame).inspect_err(|_| self.shelf = None)?;
        }
        if let Some(workers) = self.workers.as_mut().filter(|workers| !workers.is_idle()) {
            workers.receive(waits, on_frame, &mut done)?;
        }
        Ok(done)
    }
}

impl Drop for WorkerPool<'_> {
    fn drop(&mut self) {
        if let Some(shelf) = self.shelf {
            shelf.put(self.own.take_kept());
        }
    }
}

/// The worker threads.
#[derive(Debug)]
struct Workers {
    all: Vec<Worker>,
    /// The reports of all workers. The channel is bounded (law L2), so it is dropped before the threads are joined: a
    /// worker may block on sending to it.
    reports: Option<Receiver<WorkerReport>>,
}

/// A worker thread, as the caller's thread sees it.
#[derive(Debug)]
struct Worker {
    instructions: Option<Sender<Instruction>>,
    thread: Option<JoinHandle<()>>,
    /// The unfinished rows of the worker: ticket and length in tokens.
    open: BTreeMap<usize, usize>,
    running: Vec<usize>,
}

/// An instruction to a worker.
#[derive(Debug)]
enum Instruction {
    Rows(VecDeque<(usize, SamplingRow)>),
    Withdraw(Range<usize>),
}

/// The report of a worker after a step.
struct WorkerReport {
    worker: usize,
    passed: Result<Passed>,
}

/// The result of a worker's step.
struct Passed {
    done: Vec<(usize, Sample)>,
    frames: Vec<PictureFrame>,
    running: Vec<usize>,
}

/// A frame of a watched row, and for a picture the current guess of its codes.
struct PictureFrame {
    ticket: usize,
    frame: SampleFrame,
    guess: Option<Vec<u32>>,
}

impl Workers {
    /// Starts at most `count` workers, and divides the limits among them. There are no more workers than rows that may
    /// run.
    fn start(backbone: &Backbone, limits: Limits, count: usize) -> Result<Self> {
        let count = count.min(limits.rows).max(1);
        let part = |whole: usize, number: usize| whole / count + usize::from(number < whole % count);
        let (report, reports) = sync_channel(count);
        backbone.ready_to_sample()?;
        let all = (0..count).map(|number| {
            let share = Limits {
                rows: part(limits.rows, number),
                tokens: part(limits.tokens, number),
            };
            Worker::start(backbone.twin()?, share, number, report.clone())
        });
        Ok(Self {
            all: all.collect::<Result<_>>()?,
            reports: Some(reports),
        })
    }

    /// Reads the reports that are left, which concern withdrawn rows. Returns whether a worker has ended with an error.
    fn is_over(&self) -> bool {
        let left = std::iter::from_fn(|| self.reports.as_ref()?.try_recv().ok());
        left.filter(|reports| reports.passed.is_err()).count() > 0
    }

    fn is_idle(&self) -> bool {
        self.all.iter().all(|worker| worker.open.is_empty())
    }

    /// Gives each row to the worker with the fewest open tokens.
    fn deal(&mut self, rows: VecDeque<(usize, SamplingRow)>) {
        let mut dealt: Vec<VecDeque<(usize, SamplingRow)>> =
            self.all.iter().map(|_| VecDeque::new()).collect();
        for (ticket, row) in rows {
            let workers = self.all.iter_mut().zip(&mut dealt);
            if let Some((worker, dealt)) =
                workers.min_by_key(|(worker, _)| worker.open.values().sum::<usize>())
            {
                worker.open.insert(ticket, row.state().request.ids.len());
                dealt.push_back((ticket, row));
            }
        }
        for (worker, rows) in self.all.iter_mut().zip(dealt) {
            worker.instruct(Instruction::Rows(rows));
        }
    }

    /// Applies the reports that have arrived, at most as many as there are workers. If `waits` is true, it blocks until
    /// there is at least one.
    fn receive(&mut self, waits: bool, on_frame: OnFrame<'_>, done: &mut Vec<(usize, Sample)>) -> Result<()> {
        let Some(reports) = &self.reports else {
            return Ok(());
        };
        let first = if waits { reports.recv().ok() } else { None };
        let rest = std::iter::from_fn(|| reports.try_recv().ok());
        for WorkerReport { worker, passed } in first.into_iter().chain(rest).take(self.all.len()) {
            let passed = passed?;
            let worker = &mut self.all[worker];
            worker.running = passed.running;
            worker.running.retain(|ticket| worker.open.contains_key(ticket));
            for frame in passed.frames {
                on_frame(frame.ticket, frame.frame, frame.guess.as_deref())?;
            }
            worker
                .open
                .retain(|ticket, _| passed.done.iter().all(|(done, _)| done != ticket));
            done.extend(passed.done);
        }
        Ok(())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.reports = None;
        for worker in &mut self.all {
            worker.instructions = None;
        }
        for thread in self.all.iter_mut().filter_map(|worker| worker.thread.take()) {
            thread.join().ok();
        }
    }
}

impl Worker {
    /// Starts the thread of a worker. A panic of the thread is caught and reported as an error, because the caller's
    /// thread would otherwise wait for its report forever.
    fn start(
        backbone: Backbone,
        limits: Limits,
        number: usize,
        report: SyncSender<WorkerReport>,
    ) -> Result<Self> {
        let (instructions, received) = channel();
        let work = move || {
            meet_threads();
            tch::set_num_threads(1);
            let worked = std::panic::catch_unwind(AssertUnwindSafe(|| {
                work(&backbone, limits, &received, &|passed| {
                    let reports = WorkerReport {
                        worker: number,
                        passed,
                    };
                    report.send(reports).is_ok()
                });
            }));
            if worked.is_err() {
                let passed = Err(ModelError::Refused("a sampling thread panicked".into()));
                report
                    .send(WorkerReport {
                        worker: number,
                        passed,
                    })
                    .ok();
            }
        };
        let started = Builder::new().name(format!("worker-{number}")).spawn(work);
        let thread = started.map_err(|error| {
            ModelError::Refused(format!(
                "cannot start a thread for sampling: {error}; give the engine fewer threads"
            ))
        })?;
        Ok(Self {
            instructions: Some(instructions),
            thread: Some(thread),
            open: BTreeMap::new(),
            running: Vec::new(),
        })
    }

    /// Sends an instruction. A failed send is ignored: a worker that has ended has reported the reason.
    fn instruct(&self, instruction: Instruction) {
        if let Some(instructions) = &self.instructions {
            instructions.send(instruction).ok();
        }
    }
}

/// Runs a worker's batch until the channel of instructions or the channel of reports is closed, or a step fails.
fn work(
    backbone: &Backbone,
    limits: Limits,
    instructions: &Receiver<Instruction>,
    report: &dyn Fn(Result<Passed>) -> bool,
) {
    let mut batch = Batch::new(backbone, limits);
    loop {
        let instruction = if batch.is_empty() {
            instructions.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            instructions.try_recv()
        };
        match instruction {
            Ok(Instruction::Rows(rows)) => batch.queue(rows),
            Ok(Instruction::Withdraw(tickets)) => batch.withdraw(&tickets),
            Err(TryRecvError::Disconnected) => return,
            Err(TryRecvError::Empty) => {
                let passed = pass(&mut batch);
                let over = passed.is_err();
                if !report(passed) || over {
                    return;
                }
            }
        }
    }
}

/// Runs one step of a worker's batch.
fn pass(batch: &mut Batch<'_>) -> Result<Passed> {
    let mut frames = Vec::new();
    let done = batch.step(&mut |ticket, frame, guess| {
        let guess = guess.map(<[u32]>::to_vec);
        frames.push(PictureFrame { ticket, frame, guess });
        Ok(())
    })?;
    Ok(Passed {
        done,
        frames,
        running: batch.running().collect(),
    })
}
