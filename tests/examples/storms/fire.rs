//! Runs under attack: a process of the home is killed at a moment that the kind determines, then the home is served
//! again.

use std::path::Path;
use std::time::Duration;

use demask_actors::control::client::Client;
use demask_api::memory::resident;
use demask_storage::{Command as Ask, Record, Reply, RunRequest};
use demask_tests::Place;
use demask_tests::acknowledged::Acknowledged;
use demask_tests::dice::Dice;
use demask_tests::likeness::{deeds, differences, litter};
use demask_tests::processes::children;
use demask_tests::weights::{last_checkpoint, tensor_hashes};

use crate::kinds::Kind;
use crate::{Struck, disk};

/// The most kills per round; with more, a run would never make progress.
const BLOWS_A_ROUND: u32 = 8;
/// The number of runs in a queue.
const QUEUED: usize = 3;
/// The most events between two kills, not counting examples, which arrive in bulk.
const EVENTS: u64 = 14;
/// The most microseconds between the last event and the kill, so that kills also fall between commits.
const DELAY_US: u64 = 20_000;
/// The most microseconds after a new daemon's first reply until it is killed while it resumes a run.
const RESUME_US: u64 = 700_000;
/// The most kills in a row that leave no time for a step; a run is given up after twelve.
const IN_A_ROW: u32 = 4;

/// A home under attack.
pub struct Fire {
    pub place: Place,
    pub told: Acknowledged,
    pub struck: Struck,
    client: Client,
}

impl Fire {
    async fn new(runs: usize) -> Self {
        let mut place = Place::default();
        let mut client = place.serve().await;
        client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
        Self {
            place,
            told: Acknowledged::of_runs(runs),
            struck: Struck::default(),
            client,
        }
    }

    /// Reads a random number of events, then waits a moment.
    async fn hear_some(&mut self, dice: &mut Dice) {
        let mut left = 1 + dice.below(EVENTS);
        let enough = |record: &Record| {
            left -= u64::from(record.is_durable() && !matches!(record, Record::Example(_)));
            left == 0
        };
        self.told.hear(&mut self.client, enough).await;
        tokio::time::sleep(Duration::from_micros(dice.below(DELAY_US))).await;
    }

    /// Reads events for a while.
    pub async fn hear_for(&mut self, time: Duration) {
        let hearing = self.told.hear(&mut self.client, |_| false);
        tokio::time::timeout(time, hearing).await.ok();
    }

    /// Reads events until a checkpoint is being written.
    async fn hear_of_saving(&mut self, dice: &mut Dice) {
        let checkpoints = self.place.path().join("checkpoints");
        while !self.told.is_over() && !is_saving(&checkpoints) {
            self.hear_for(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_micros(dice.below(DELAY_US))).await;
    }

    /// Records the daemon's memory.
    pub fn weigh(&mut self) {
        let pid = self.place.pid().map_or(0, u64::from);
        self.struck.peak = self.struck.peak.max(resident(pid).1);
    }

    /// Kills the daemon just after a command, and starts another.
    async fn kill_daemon(&mut self) {
        self.told.order(&mut self.client).await;
        self.kill_daemon_unasked(|| ()).await;
    }

    /// Kills the daemon and starts another. `make_room` is called in between.
    pub async fn kill_daemon_unasked(&mut self, make_room: impl FnOnce()) {
        self.weigh();
        self.place.kill();
        make_room();
        self.client = self.place.serve().await;
        let since = self.told.last.max(1);
        self.client.ask(Ask::Subscribe { since }).await.expect("a daemon");
    }

    /// Kills the daemon or one of its children.
    async fn strike(&mut self, dice: &mut Dice) {
        let daemon = self.place.pid().and_then(|pid| i32::try_from(pid).ok());
        let children = daemon.map_or(Vec::new(), children);
        match dice.below(children.len() as u64 + 1) {
            0 => self.kill_daemon().await,
            // SAFETY: sends a signal to a process that its parent, our child, has not been seen to reap.
            child => unsafe {
                libc::kill(children[child as usize - 1], libc::SIGKILL);
            },
        }
        self.struck.blows += 1;
    }
}

/// Whether a run's folder has a partial checkpoint.
fn is_saving(checkpoints: &Path) -> bool {
    let runs = std::fs::read_dir(checkpoints).into_iter().flatten().flatten();
    runs.flat_map(|run| std::fs::read_dir(run.path()).into_iter().flatten().flatten())
        .any(|entry| entry.file_name().to_string_lossy().ends_with("-saving"))
}

/// Starts the runs of a kind; returns their ids.
async fn begin(fire: &mut Fire, kind: Kind, runs: usize) -> Vec<String> {
    let profile = kind.profile(fire.place.path());
    if runs == 1 {
        return vec![demask_tests::begin(&mut fire.client, &profile, kind.is_from_scratch()).await];
    }
    let mut ids = Vec::new();
    for _ in 0..runs {
        let request = RunRequest {
            profile: profile.clone(),
            origin: "storm".into(),
            from_scratch: kind.is_from_scratch(),
            ..RunRequest::default()
        };
        match fire.client.ask(Ask::Enqueue(request)).await.expect("a daemon") {
            Reply::Queued { run, .. } => ids.push(run),
            other => panic!("the run does not wait: {other:?}"),
        }
    }
    ids
}

pub async fn round(kind: Kind, dice: &mut Dice, most: u32, calm: &[String]) -> Struck {
    let runs = if kind == Kind::Queue { QUEUED } else { 1 };
    let mut fire = Fire::new(runs).await;
    let ids = begin(&mut fire, kind, runs).await;
    let mut in_a_row = 0;
    while fire.struck.blows < most.min(BLOWS_A_ROUND) && !fire.told.is_over() {
        match kind {
            Kind::FirstCheckpoint if has_checkpoint(&fire.told) => break,
            Kind::FirstCheckpoint | Kind::Save if in_a_row < IN_A_ROW => fire.hear_of_saving(dice).await,
            Kind::Resume if in_a_row < IN_A_ROW => {
                fire.hear_for(Duration::from_micros(dice.below(RESUME_US))).await;
            }
            _ => {
                fire.hear_some(dice).await;
                in_a_row = 0;
            }
        }
        if fire.told.is_over() {
            break;
        }
        if kind == Kind::Disk {
            disk::fill_and_free(&mut fire, dice).await;
        } else {
            fire.strike(dice).await;
        }
        in_a_row += 1;
    }
    fire.told.hear(&mut fire.client, |_| false).await;
    fire.weigh();
    check(fire, &ids, calm)
}

fn has_checkpoint(told: &Acknowledged) -> bool {
    told.bodies
        .iter()
        .any(|body| body.contains("\"record\":\"checkpoint\""))
}

/// Checks that nothing was lost and that every result equals that of an undisturbed run.
fn check(mut fire: Fire, ids: &[String], calm: &[String]) -> Struck {
    let told = &fire.told;
    let all_done = told.ended.values().all(|end| end.starts_with("done"));
    assert!(all_done, "{:?}", told.ended);
    assert_eq!(fire.place.terminate(), Some(0), "SIGTERM exits 0");
    let lost = told.lost(&fire.place);
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    for id in ids {
        let litter = litter(fire.place.path(), id);
        assert!(
            litter.is_empty(),
            "half-written checkpoints were left: {litter:?}"
        );
        let differences = match ids {
            [_] => differences(&deeds(&fire.place, id), calm),
            // The other rows contain several runs.
            _ => {
                let hashes = tensor_hashes(&last_checkpoint(fire.place.path(), id)).join(" ");
                differences(&[hashes], calm)
            }
        };
        assert!(
            differences.is_empty(),
            "not as if nobody had disturbed it: {differences:?}"
        );
    }
    fire.struck.acknowledged = told.bodies.len() + told.orders.len();
    fire.struck
}
