//! The running batch on several threads: each has a batch of its own, and no pass waits for another's.
//!
//! The operations of a small model are too short to be worth dividing among threads (as in `training/threads.rs`), so rows are dealt to
//! threads whose operations use one each. A row that comes alone is done by the caller's thread, with as many as libtorch
//! has. Who gets a row is decided when it comes and by nothing but what is open then, so one request on an idle engine has the
//! same company each time (law L8).

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

/// The parameters of a network up to which it is small: beyond, its operations are worth dividing.
const SMALL: u64 = 64_000_000;

/// Rows on their way in one batch or several, and those that wait for room.
#[derive(Debug)]
pub struct WorkerPool<'a> {
    backbone: &'a Backbone,
    limits: Limits,
    threads: usize,
    /// The batch of the thread that calls.
    own: Batch<'a>,
    /// The other threads, once there is work for them.
    workers: Option<Workers>,
    submitted: usize,
    /// Where the caller's thread's cache came from and goes back to, unless something failed on it.
    shelf: Option<&'a Shelf>,
}

impl<'a> WorkerPool<'a> {
    /// Nothing runs yet; as many threads as libtorch has here.
    #[must_use]
    pub fn new(backbone: &'a Backbone, limits: Limits) -> Self {
        meet_threads();
        let small = !backbone.device().is_cuda() && backbone.count() <= SMALL;
        let threads = if small { tch::get_num_threads() } else { 1 };
        Self::on(backbone, limits, usize::try_from(threads).unwrap_or(1))
    }

    /// Nothing runs yet; on so many threads.
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

    /// Takes the cache that lies on a shelf, and puts it back in the end.
    #[must_use]
    pub fn keeping(mut self, shelf: &'a Shelf) -> Self {
        self.own = Batch::new(self.backbone, self.limits).keeping(shelf.take());
        self.shelf = Some(shelf);
        self
    }

    /// Queues rows; gives their tickets, the next ones, which are counted from 0.
    ///
    /// # Errors
    /// Settings that do not fit a target, and nothing is queued then; no threads to be had.
    pub fn submit(&mut self, requests: Vec<SampleRequest>) -> Result<Range<usize>> {
        let rows = numbered(self.backbone, requests, self.submitted)?;
        let tickets = self.submitted..self.submitted + rows.len();
        // The last reports of idle workers are about rows that were withdrawn. A worker may have ended with such a report; then
        // all are started anew.
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

    /// Takes rows out that nobody waits for any more.
    pub fn withdraw(&mut self, tickets: &Range<usize>) {
        self.own.withdraw(tickets);
        for worker in self.workers.iter_mut().flat_map(|workers| &mut workers.all) {
            worker.open.retain(|ticket, _| !tickets.contains(ticket));
            worker.running.retain(|ticket| !tickets.contains(ticket));
            worker.instruct(Instruction::Withdraw(tickets.clone()));
        }
    }

    /// The tickets of the rows that were on their way when last heard of, in no order.
    pub fn running(&self) -> impl Iterator<Item = usize> {
        let workers = self.workers.iter().flat_map(|workers| &workers.all);
        self.own
            .running()
            .chain(workers.flat_map(|worker| worker.running.iter().copied()))
    }

    /// Whether nothing runs and nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.workers.as_ref().is_none_or(Workers::is_idle)
    }

    /// Does a pass or waits until another thread has done one (as long as [`Batch::step`] is at it); gives the rows that are
    /// done, with their tickets.
    ///
    /// # Errors
    /// The errors of [`Batch::step`]: nothing here is of any use then.
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

/// Threads that sample.
#[derive(Debug)]
struct Workers {
    all: Vec<Worker>,
    /// Gone before the hands are waited for: who has reports waits until they are heard (law L2).
    reports: Option<Receiver<WorkerReport>>,
}

#[derive(Debug)]
struct Worker {
    instructions: Option<Sender<Instruction>>,
    thread: Option<JoinHandle<()>>,
    /// How long each row is that it has and is not done with.
    open: BTreeMap<usize, usize>,
    running: Vec<usize>,
}

#[derive(Debug)]
enum Instruction {
    Rows(VecDeque<(usize, SamplingRow)>),
    Withdraw(Range<usize>),
}

/// What a worker says after a pass.
struct WorkerReport {
    worker: usize,
    passed: Result<Passed>,
}

struct Passed {
    done: Vec<(usize, Sample)>,
    frames: Vec<PictureFrame>,
    running: Vec<usize>,
}

struct PictureFrame {
    ticket: usize,
    frame: SampleFrame,
    guess: Option<Vec<u32>>,
}

impl Workers {
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

    /// Hears what was left to say, of rows that are gone; whether one of the hands has ended.
    fn is_over(&self) -> bool {
        let left = std::iter::from_fn(|| self.reports.as_ref()?.try_recv().ok());
        left.filter(|reports| reports.passed.is_err()).count() > 0
    }

    fn is_idle(&self) -> bool {
        self.all.iter().all(|worker| worker.open.is_empty())
    }

    /// Each row to whoever has the least to do.
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

    /// Takes in what was said, at least once where it `waits`, and no more than once from each on average.
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
                "no thread for sampling: {error}; give the engine fewer threads"
            ))
        })?;
        Ok(Self {
            instructions: Some(instructions),
            thread: Some(thread),
            open: BTreeMap::new(),
            running: Vec::new(),
        })
    }

    /// One that has ended has said why.
    fn instruct(&self, instruction: Instruction) {
        if let Some(instructions) = &self.instructions {
            instructions.send(instruction).ok();
        }
    }
}

/// Does what is ordered until nobody instructions or listens any more.
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
