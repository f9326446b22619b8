//! The state that outlives the doubles of a schedule: the faults to come, the samples that were drawn, and the
//! violations of laws that a double can see.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use demask_actors::engine::options::EngineOptions;
use demask_api::{PolicyGroup, Request, ViewScores};
use demask_storage::{journal, query, store};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tokio::time::Instant;

use crate::drawn::DrawnSamples;
use crate::faults::{EngineFaults, Hang, LastAct, RewardFault, TeacherFault};
use crate::ground::Ground;
use crate::schedule::{LEAST_RANKS, Schedule};
use crate::weights::{Weights, rate_at};

/// How long a late engine takes beyond the usual time; less than after which it would be given up.
const LATE: Duration = Duration::from_secs(90);
/// How long an engine writes before it finds that the disk is full.
const WRITTEN: Duration = Duration::from_secs(1);
/// Beginning of the note about a smaller world, before the number of its ranks.
pub const SMALLER: &str = "a smaller world begins, of ranks:";

/// What an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Trains,
    Samples,
}

impl Role {
    /// Returns the role of an engine. An engine that only samples may write nowhere.
    pub fn of(options: &EngineOptions) -> Self {
        match options.writes.as_deref() {
            Some([]) => Self::Samples,
            _ => Self::Trains,
        }
    }
}

/// State that outlives engines: the faults to come, the samples that were drawn, and the violations of laws.
pub struct Laboratory {
    pub ground: Arc<Ground>,
    database: PathBuf,
    rng: ChaCha8Rng,
    faults: EngineFaults,
    /// Number of requests to the engine that trains until a rank is lost; 0 if it is lost.
    until_lost: Option<u32>,
    samplers: EngineFaults,
    /// What engines behind sockets do in the middle of requests, and when they are asked to exit.
    hangs: Vec<Hang>,
    last_acts: Vec<LastAct>,
    /// Number of sockets of engines so far.
    sockets: u32,
    /// Faults of the external reward, the first one last.
    pub rewards: Vec<RewardFault>,
    teacher: Vec<TeacherFault>,
    /// The seeds of the questions that the teacher answered in this life of the daemon.
    taught: HashSet<u64>,
    /// Number of questions that the teacher is asked at this moment.
    pub asked: u32,
    slowest: Duration,
    drawn: DrawnSamples,
    /// Time at which the disk answers again.
    stalled_until: Option<Instant>,
    /// Time at which the disk has room again.
    full_until: Option<Instant>,
    /// Number of checkpoints for which it had none.
    pub refused: u32,
    /// Number of doubles that hang at this moment.
    pub hanging: u32,
    pub violations: Vec<String>,
    pub log: Vec<String>,
}

/// The laboratory, shared by all engines of a schedule.
pub type SharedLaboratory = Arc<Mutex<Laboratory>>;

/// A note that a double hangs. Its drop takes the note back: the double was given up, or its daemon was killed.
pub struct Hanging(SharedLaboratory);

impl Hanging {
    pub fn note(laboratory: &SharedLaboratory) -> Self {
        laboratory.lock().unwrap().hanging += 1;
        Self(Arc::clone(laboratory))
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hanging -= 1;
    }
}

/// What happens to a request.
pub enum Fate {
    Answered,
    /// The engine dies, before (`done` is false) or after it has executed the request.
    Dies {
        done: bool,
    },
    /// The engine makes no progress for this long, and answers then; for ever with `None`.
    Hangs {
        until: Option<Duration>,
    },
    /// The engine is behind a socket and does this in the middle of the request.
    Stalls(Hang),
    /// The disk has no more room after this long.
    DiskFull {
        after: Duration,
    },
}

impl Laboratory {
    pub fn of(schedule: &Schedule, ground: &Arc<Ground>, database: PathBuf) -> SharedLaboratory {
        Arc::new(Mutex::new(Self {
            ground: Arc::clone(ground),
            database,
            rng: ChaCha8Rng::seed_from_u64(schedule.seed ^ 0x00e9_6123),
            faults: schedule.engine.clone(),
            until_lost: schedule.lost_rank,
            samplers: schedule.samplers.clone(),
            hangs: schedule.hangs.clone(),
            last_acts: schedule.last_acts.clone(),
            sockets: 0,
            rewards: schedule.rewards.clone(),
            teacher: schedule.teacher.clone(),
            taught: HashSet::new(),
            asked: 0,
            slowest: schedule.slowest,
            drawn: DrawnSamples::default(),
            stalled_until: None,
            full_until: None,
            refused: 0,
            hanging: 0,
            violations: Vec::new(),
            log: Vec::new(),
        }))
    }

    /// Starts a new life of the daemon, with a clock of its own: answers that were not written to the disk are lost with
    /// the previous one.
    pub fn begin_life(&mut self) {
        self.taught.clear();
        (self.stalled_until, self.full_until) = (None, None);
    }

    pub fn breaks(&mut self, violation: String) {
        self.violations.push(violation);
    }

    pub fn delay(&mut self) -> Duration {
        let share = self.rng.random::<f64>().powi(3);
        // One request in 40 is slow.
        let times = if self.rng.random_ratio(1, 40) { 6.0 } else { 1.0 };
        self.slowest.mul_f64(share * times)
    }

    pub fn fate(&mut self, role: Role, ranks: Option<usize>, request: &Request) -> Fate {
        if role == Role::Trains && self.is_short_of_ranks(ranks) {
            return Fate::Dies {
                done: self.rng.random(),
            };
        }
        if let Some(hang) = self.hang() {
            return Fate::Stalls(hang);
        }
        // A sampling engine has fewer requests, so its faults come sooner.
        let (faults, sides) = match role {
            Role::Trains => (&mut self.faults, 24),
            Role::Samples => (&mut self.samplers, 8),
        };
        let dice = self.rng.random_range(0..sides);
        if dice == 0 && faults.deaths > 0 {
            faults.deaths -= 1;
            return Fate::Dies {
                done: self.rng.random(),
            };
        }
        if dice == 1 && faults.hangs > 0 {
            faults.hangs -= 1;
            return Fate::Hangs { until: None };
        }
        if dice == 2 && faults.late > 0 {
            faults.late -= 1;
            return Fate::Hangs { until: Some(LATE) };
        }
        let saves = matches!(request, Request::Save { .. });
        if saves && self.full_until.is_some_and(|until| Instant::now() < until) {
            self.refused += 1;
            return Fate::DiskFull { after: WRITTEN };
        }
        if dice < 12 && faults.full_disks > 0 && saves {
            faults.full_disks -= 1;
            let after = Duration::ZERO;
            return Fate::DiskFull { after };
        }
        Fate::Answered
    }

    /// Returns what an engine behind a socket does in the middle of this request.
    fn hang(&mut self) -> Option<Hang> {
        if self.hangs.is_empty() || !self.rng.random_ratio(1, 16) {
            return None;
        }
        let hang = self.hangs.pop();
        self.log.push(format!("the engine does: {hang:?}"));
        hang
    }

    /// Returns what an engine behind a socket does that is asked to exit; `None` if it exits.
    pub fn last_act(&mut self) -> Option<LastAct> {
        let act = self.last_acts.pop();
        self.log
            .push(format!("the engine is asked to exit, it does: {act:?}"));
        act
    }

    /// Returns a path for the socket of an engine.
    pub fn socket(&mut self) -> PathBuf {
        self.sockets += 1;
        self.database
            .with_file_name(format!("engine-{}.sock", self.sockets))
    }

    /// Counts a request to the engine that trains, and returns whether its world has a rank that is lost.
    fn is_short_of_ranks(&mut self, ranks: Option<usize>) -> bool {
        if let Some(left) = &mut self.until_lost {
            *left = left.saturating_sub(1);
        }
        self.has_lost_rank(ranks)
    }

    fn has_lost_rank(&self, ranks: Option<usize>) -> bool {
        self.until_lost == Some(0) && ranks.is_some_and(|ranks| ranks > LEAST_RANKS)
    }

    /// Returns whether an engine starts. Checks L11: no world is smaller than it must be.
    pub fn starts(&mut self, role: Role, ranks: Option<usize>) -> bool {
        if let Some(ranks) = ranks.filter(|&ranks| ranks <= LEAST_RANKS) {
            self.log.push(format!("{SMALLER} {ranks}"));
            if ranks < LEAST_RANKS || self.until_lost != Some(0) {
                self.breaks(format!("L11: a world has {ranks} ranks without need"));
            }
        }
        // A world with a lost rank fails at once, or at its first request.
        if role == Role::Trains && self.has_lost_rank(ranks) && self.rng.random() {
            return false;
        }
        let faults = match role {
            Role::Trains => &mut self.faults,
            Role::Samples => &mut self.samplers,
        };
        let fails = faults.failed_starts > 0 && self.rng.random();
        faults.failed_starts -= u32::from(fails);
        !fails
    }

    /// Returns the fault of the external reward at its next batch. A failed start follows its death.
    pub fn reward_fault(&mut self) -> Option<RewardFault> {
        match self.rewards.last().copied() {
            Some(RewardFault::NoStart) => Some(RewardFault::NoStart),
            Some(_) if self.rng.random_ratio(3, 4) => self.rewards.pop(),
            _ => None,
        }
    }

    /// Returns the fault of the teacher at its next question.
    pub fn teacher_fault(&mut self) -> Option<TeacherFault> {
        match self.teacher.is_empty() || self.rng.random() {
            true => None,
            false => self.teacher.pop(),
        }
    }

    /// Notes that the teacher answered the question with this seed.
    pub fn taught(&mut self, seed: u64) {
        self.taught.insert(seed);
    }

    /// Checks L1: a question is not asked again whose answer is on the disk, or was given to this daemon.
    pub fn check_question(&mut self, seed: u64) {
        let sql = format!(
            "SELECT id FROM trace WHERE seed = {} AND generator LIKE 'teacher:%'",
            seed as i64
        );
        let is_written = !query::query(&self.database, &sql, 1).unwrap().rows.is_empty();
        if is_written || self.taught.contains(&seed) {
            self.breaks(format!(
                "L1: the teacher is asked again for the trace with seed {seed}, on the disk: {is_written}"
            ));
        }
    }

    /// Checks L3 and L4: the learning rate of a step is the one that the rows on disk give for it at this moment.
    pub fn check_rate(&mut self, step: u64, rate: f64) {
        let found = store::open_read_only(&self.database)
            .and_then(|connection| {
                let run = journal::unfinished(&connection)?
                    .map(|run| run.id)
                    .unwrap_or_default();
                journal::steers(&connection, &run)
            })
            .unwrap();
        let wanted = rate_at(step, found.iter());
        if (wanted - rate).abs() > 1e-12 {
            self.breaks(format!(
                "L4: step {step} is computed with the learning rate {rate}, the rows on the disk say {wanted}"
            ));
        }
    }

    /// Notes a sample that was drawn by these weights, and returns its first commit steps, which name it.
    pub fn draw(&mut self, weights: &Weights) -> [u16; 4] {
        self.drawn.draw(weights)
    }

    /// Checks L5 and L7 for the training samples of a policy step.
    pub fn check_drawn(
        &mut self,
        weights: &Weights,
        step: u64,
        groups: &[PolicyGroup],
        behaviour: &[Vec<f32>],
    ) {
        let broken = self.drawn.check(&self.ground, weights, step, groups, behaviour);
        self.violations.extend(broken);
    }

    /// Checks L7: views are scored by the weights that drew their samples.
    pub fn check_views(&mut self, weights: &Weights, views: &ViewScores) {
        self.violations.extend(self.drawn.check_views(weights, views));
    }

    /// Has the disk not answer for this long.
    pub fn stall(&mut self, time: Duration) {
        self.log.push(format!("the disk does not answer for {time:?}"));
        self.stalled_until = Some(Instant::now() + time);
    }

    /// Has the disk have no room for checkpoints for this long.
    pub fn fill(&mut self, time: Duration) {
        self.log.push(format!("the disk is full for {time:?}"));
        self.full_until = Some(Instant::now() + time);
    }

    /// Returns how long the disk does not answer from now on.
    pub fn stall_left(&self) -> Duration {
        self.stalled_until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}
