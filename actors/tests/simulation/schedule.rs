//! What happens in a schedule, determined by its seed: what the users ask and when, when the daemon is
//! killed, which faults the engine and the disk have, and which actors panic.

use std::collections::BTreeMap;
use std::time::Duration;

use demask_actors::runtime::fault_injection::SeededBug;
use demask_storage::Command;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::faults::{
    EngineFaults, HANGS, Hang, LAST_ACTS, LastAct, REWARD_FAULTS, RewardFault, TEACHER_FAULTS, TeacherFault,
};

/// A bug that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    Actors(SeededBug),
    /// The disk acknowledges rows before it has written them.
    LateRows,
}

/// What a run uses beside the engine that trains. Each setting has a profile and faults of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    /// Nothing: one engine does everything.
    Alone,
    /// Nothing, on a disk that does not answer, or is full, for a while when the user stops the run or the daemon.
    Disk,
    /// Engines that only sample, one step ahead of the engine that trains.
    Samplers,
    /// Engines that only sample, with the newest weights, up to two steps ahead.
    Freshest,
    /// An external reward, which also scores a benchmark.
    Rewards,
    /// A teacher, which writes most traces.
    Teacher,
    /// A world of [`RANKS`] ranks, which may lose one of them for good.
    Ranks,
    /// Nothing, with the engine behind a socket under the watchdog of every engine.
    Watched,
}

/// The ranks of a world, and the fewest with which a run goes on.
pub const RANKS: usize = 3;
pub const LEAST_RANKS: usize = 2;

impl Setting {
    /// Returns the longest time that something may go on hanging after a stop (L10). A run that waits for something
    /// outside its engines has a grace period.
    pub fn longest_stop(self) -> Duration {
        match self {
            Self::Alone | Self::Disk | Self::Samplers | Self::Freshest | Self::Ranks | Self::Watched => {
                Duration::from_secs(5)
            }
            Self::Rewards | Self::Teacher => Duration::from_secs(8),
        }
    }

    /// Returns the longest life of a daemon, whatever happens in it (L10). An engine that has come out of a long pause
    /// is waited for ten times as long.
    pub fn longest_life(self) -> Duration {
        match self {
            Self::Watched => Duration::from_secs(3600),
            _ => Duration::from_secs(900),
        }
    }
}

/// A user's command, and its delay after the previous one.
#[derive(Clone, Debug)]
pub struct Act {
    pub after: Duration,
    pub command: Command,
}

/// A schedule.
#[derive(Clone, Debug)]
pub struct Schedule {
    pub seed: u64,
    pub setting: Setting,
    pub bug: Option<Bug>,
    pub acts: Vec<Act>,
    /// How long the disk does not answer from just before an act, by the act's index.
    pub stalls: BTreeMap<usize, Duration>,
    /// How long the disk has no room for checkpoints from just before an act, by the act's index.
    pub fills: BTreeMap<usize, Duration>,
    /// The times after which the first lives of the daemon are killed.
    pub kills: Vec<Duration>,
    /// Faults of the engine that trains.
    pub engine: EngineFaults,
    /// The number of requests to the engine that trains after which a rank of its world is lost for good.
    pub lost_rank: Option<u32>,
    /// Faults of the engines that only sample.
    pub samplers: EngineFaults,
    /// What engines behind sockets do in the middle of requests, the first one last.
    pub hangs: Vec<Hang>,
    /// What they do when they are asked to exit, the first one last.
    pub last_acts: Vec<LastAct>,
    /// Faults of the external reward, the first one last.
    pub rewards: Vec<RewardFault>,
    /// Faults of the teacher.
    pub teacher: Vec<TeacherFault>,
    /// The usual upper limit of a request's duration.
    pub slowest: Duration,
    /// The upper limit of a commit's duration.
    pub slowest_commit: Duration,
    pub panics: Vec<(&'static str, u64)>,
}

/// Actors, and the steps at which each may panic. The panic comes after the work of the step, before it is
/// reported.
const PANICS: [(&str, &[u64]); 5] = [
    ("curator", &[0, 1, 2, 4, 6, 7]),
    ("trainer", &[0, 2, 3, 5, 6, 7]),
    ("reasoner", &[3]),
    ("rollout", &[6, 7]),
    ("scorer", &[3, 6, 7]),
];

impl Schedule {
    /// Returns the longest life of a daemon. With a watchdog that never gives up, every engine that hangs takes all of it,
    /// and the rest of it shows nothing more.
    pub fn longest_life(&self) -> Duration {
        match self.bug {
            Some(Bug::Actors(SeededBug::AnyHeartbeat)) => Duration::from_secs(300),
            _ => self.setting.longest_life(),
        }
    }

    /// Returns a schedule without any disturbance.
    pub fn calm(setting: Setting) -> Self {
        Self {
            seed: u64::MAX,
            setting,
            bug: None,
            acts: Vec::new(),
            stalls: BTreeMap::new(),
            fills: BTreeMap::new(),
            kills: Vec::new(),
            engine: EngineFaults::default(),
            lost_rank: None,
            samplers: EngineFaults::default(),
            hangs: Vec::new(),
            last_acts: Vec::new(),
            rewards: Vec::new(),
            teacher: Vec::new(),
            slowest: Duration::from_millis(20),
            slowest_commit: Duration::from_millis(1),
            panics: Vec::new(),
        }
    }

    /// Returns whether nothing dies in this schedule. A daemon that is told to end may end without a disk that does not
    /// answer, when it is told again. A run that ends on a full disk does steps again later.
    pub fn is_undisturbed(&self) -> bool {
        let is_told_to_end = self.acts.iter().any(|act| act.command == Command::Shutdown);
        let kills = |faults: &EngineFaults| faults.deaths + faults.hangs + faults.failed_starts;
        let losses = kills(&self.engine) + kills(&self.samplers) + u32::from(self.lost_rank.is_some());
        let keeps_disk = self.fills.is_empty() && (self.stalls.is_empty() || !is_told_to_end);
        losses == 0 && self.hangs.is_empty() && self.kills.is_empty() && self.panics.is_empty() && keeps_disk
    }

    /// Returns the schedule of a seed.
    pub fn of(seed: u64, setting: Setting, bug: Option<Bug>) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let slowest = Duration::from_millis(*[2, 20, 200, 900].choose(&mut rng).unwrap());
        let mut schedule = Self {
            seed,
            bug,
            acts: acts(&mut rng, slowest),
            slowest,
            slowest_commit: Duration::from_millis(*[0, 5, 80, 700].choose(&mut rng).unwrap()),
            ..Self::calm(setting)
        };
        // There are few enough faults that no restart budget is exhausted: the run must survive each of them.
        for _ in 0..rng.random_range(0..4) {
            match rng.random_range(0..8) {
                0 | 1 => {
                    let whole = slowest * 60;
                    schedule.kills.push(whole.mul_f64(rng.random::<f64>()));
                }
                2 | 3 => schedule.engine.deaths += 1,
                4 => schedule.engine.hangs = 1,
                5 => schedule.engine.full_disks += 1,
                6 => schedule.engine.failed_starts = 1,
                _ => {
                    let (actor, steps) = *PANICS.choose(&mut rng).unwrap();
                    schedule.panics.push((actor, *steps.choose(&mut rng).unwrap()));
                }
            }
        }
        match setting {
            Setting::Alone => {}
            Setting::Disk => schedule.with_stall(&mut rng),
            Setting::Samplers | Setting::Freshest => schedule.with_samplers(&mut rng),
            // Several in a row exhaust the reward's restarts, and the run is paused until the user resumes it.
            Setting::Rewards => {
                let count = rng.random_range(0..7);
                let fault = |_| *REWARD_FAULTS.choose(&mut rng).unwrap();
                schedule.rewards = (0..count).map(fault).collect();
            }
            Setting::Teacher => schedule.with_teacher(&mut rng),
            Setting::Ranks if rng.random_ratio(3, 4) => {
                schedule.lost_rank = Some(rng.random_range(1..40));
            }
            Setting::Ranks => {}
            Setting::Watched => schedule.with_hangs(&mut rng),
        }
        schedule
    }

    /// Has the user stop the run, at times the daemon, just when the disk stops to answer. It answers again before the
    /// client of another command would give up. At times the user tells the daemon to end once more, and at times the disk
    /// has no room for checkpoints meanwhile, and for longer.
    fn with_stall(&mut self, rng: &mut ChaCha8Rng) {
        let command = match rng.random_ratio(3, 4) {
            true => Command::Stop,
            false => Command::Shutdown,
        };
        let after = (self.slowest * 30).mul_f64(rng.random::<f64>());
        let at = rng.random_range(0..=self.acts.len());
        self.acts.insert(at, Act { after, command });
        self.stalls
            .insert(at, Duration::from_secs(rng.random_range(1..=25)));
        if self.acts[at].command == Command::Shutdown && rng.random() {
            let again = Act {
                after: self.slowest,
                command: Command::Shutdown,
            };
            self.acts.insert(at + 1, again);
        }
        if rng.random_ratio(1, 3) {
            self.fills
                .insert(at, Duration::from_secs(rng.random_range(10..=60)));
        }
    }

    /// Adds faults of a teacher, fewer than a question has tries, so that each question is answered or refused in the
    /// end as in the undisturbed run. At times the reasoner dies of what the teacher wrote.
    fn with_teacher(&mut self, rng: &mut ChaCha8Rng) {
        let count = rng.random_range(0..5);
        let fault = |_| *TEACHER_FAULTS.choose(rng).unwrap();
        self.teacher = (0..count).map(fault).collect();
        if rng.random_ratio(1, 4) {
            self.panics.push(("reasoner", 3));
        }
    }

    /// Has the engine hang, or only seem to, in the middle of requests and at times when it is asked to exit. At times
    /// the user stops the run meanwhile.
    fn with_hangs(&mut self, rng: &mut ChaCha8Rng) {
        // The watchdog notices this one too.
        let endless = std::mem::take(&mut self.engine.hangs);
        self.hangs = (0..endless).map(|_| Hang::Endless).collect();
        for _ in 0..rng.random_range(1..3) {
            self.hangs.push(*HANGS.choose(rng).unwrap());
        }
        for _ in 0..rng.random_range(0..3) {
            self.last_acts.push(*LAST_ACTS.choose(rng).unwrap());
        }
        if rng.random() {
            // Most requests are short, so that an act this late comes while the engine hangs.
            let after = self.slowest * 20 + Duration::from_secs(rng.random_range(0..40));
            let command = Command::Stop;
            let at = rng.random_range(0..=self.acts.len());
            self.acts.insert(at, Act { after, command });
        }
    }

    /// Adds faults of sampling engines, and a knob whose turn discards the groups that were drawn ahead.
    fn with_samplers(&mut self, rng: &mut ChaCha8Rng) {
        for _ in 0..rng.random_range(0..4) {
            match rng.random_range(0..6) {
                0..=2 => self.samplers.deaths += 1,
                3 => self.samplers.hangs = 1,
                4 => self.samplers.late = 1,
                _ => self.samplers.failed_starts = 1,
            }
        }
        if rng.random() {
            let command = Command::Set {
                key: "temperature".into(),
                value: 0.75,
            };
            let after = (self.slowest * 12).mul_f64(rng.random::<f64>());
            let at = rng.random_range(0..=self.acts.len());
            self.acts.insert(at, Act { after, command });
        }
    }
}

fn acts(rng: &mut ChaCha8Rng, slowest: Duration) -> Vec<Act> {
    let mut acts = Vec::new();
    let mut is_held = false;
    for _ in 0..rng.random_range(0..7) {
        let command = match rng.random_range(0..16) {
            0..=4 => Command::Set {
                key: "learning_rate".into(),
                value: *[0.0005, 0.002, 0.004].choose(rng).unwrap(),
            },
            5 => Command::Set {
                key: "kl".into(),
                value: 0.5,
            },
            6 | 7 => {
                is_held = true;
                Command::Pause
            }
            8 => {
                is_held = false;
                Command::Resume
            }
            9 | 10 => Command::Checkpoint,
            11 => Command::Sample {
                prompt: "Tom starts with 3 pens and finds 4. Count the pens of Tom.".into(),
                picture: false,
            },
            12 => Command::Actors,
            13 | 14 => Command::Shutdown,
            _ => Command::Stop,
        };
        let most = slowest * 12;
        acts.push(Act {
            after: most.mul_f64(rng.random::<f64>().powi(2)),
            command,
        });
    }
    if is_held {
        acts.push(Act {
            after: slowest * 5,
            command: Command::Resume,
        });
    }
    acts
}
