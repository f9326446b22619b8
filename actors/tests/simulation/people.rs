//! The users of the daemon: one who starts the run and steers it as scheduled, and one who watches it. Both
//! use the daemon's socket.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use demask_actors::control::client::{Client, ClientError};
use demask_actors::control::is_resumption;
use demask_actors::home::Home;
use demask_storage::{Command, Reply, RunRequest, RunState, Steer, SteerAction, journal, store};
use tokio::time::{Instant, sleep};

use crate::ground::Ground;
use crate::laboratory::SharedLaboratory;
use crate::schedule::{Act, Schedule};

/// Interval at which the watching user asks for the status.
const LOOK: Duration = Duration::from_millis(500);
/// Time after which a user asks again whether the disk has a stop.
const AGAIN: Duration = Duration::from_secs(1);

/// Checkpoints at most that a stop tries to save on a full disk: one that was due, its own, and one that was tried since
/// the last look.
const TRIES: u32 = 3;

/// What the users have done and seen, over all lives of the daemon.
#[derive(Default)]
pub struct Cast {
    acts: Vec<Act>,
    /// The index of the next act. An act whose reply did not arrive is repeated with the same id.
    next: usize,
    /// How long the disk does not answer from just before an act.
    stalls: BTreeMap<usize, Duration>,
    /// How long the disk is full from just before an act.
    fills: BTreeMap<usize, Duration>,
    /// The stop that this life of the daemon has taken, and that the disk has not confirmed.
    taken: Option<usize>,
    /// Stops that this life has taken, and that the user asks for no more because the run has ended. A run that failed
    /// ends before the disk has them.
    past: Vec<usize>,
    pub run: Option<String>,
    /// Acknowledged commands, with their ids.
    pub acknowledged: Vec<(String, Command)>,
    /// Number of acknowledged commands from before a stopped run was resumed. A stop among them no longer
    /// ends the run.
    pub lapsed: usize,
    /// The act whose reply is awaited.
    asking: Option<usize>,
    /// The act that was awaited, or taken and not confirmed, when the stopped run was resumed. A stop is that of before.
    resumed_during: Option<usize>,
    /// How the run ended.
    pub ended: Option<RunState>,
    goes_on_after_stop: bool,
    /// The longest time that something may go on hanging after a stop.
    longest_stop: Duration,
    /// The longest life of a daemon.
    longest_life: Duration,
    stop_asked: Option<Instant>,
    hangs_since: Option<Instant>,
    /// Number of checkpoints for which the disk had no room, at the last look before a stop.
    refused: u32,
    pub log: Vec<String>,
    pub violations: Vec<String>,
}

/// The cast, shared by the users of a schedule.
pub type SharedCast = Rc<RefCell<Cast>>;

impl Cast {
    pub fn of(schedule: &Schedule) -> SharedCast {
        Rc::new(RefCell::new(Self {
            acts: schedule.acts.clone(),
            stalls: schedule.stalls.clone(),
            fills: schedule.fills.clone(),
            goes_on_after_stop: schedule.seed.is_multiple_of(2),
            longest_stop: schedule.setting.longest_stop(),
            longest_life: schedule.longest_life(),
            ..Self::default()
        }))
    }

    /// Starts a new life of the daemon: the times measured in the previous one are forgotten.
    pub fn begin_life(&mut self) {
        (self.stop_asked, self.hangs_since, self.asking) = (None, None, None);
        // L10: a stop that was only taken may be lost with the daemon that took it.
        self.taken = None;
        self.past.clear();
    }

    /// Notes that a daemon has ended without the disk: how the run ended may not be on it, so that the next daemon goes on.
    pub fn without_disk(&mut self) {
        self.ended = None;
    }

    /// Returns whether the users have done everything that is scheduled.
    fn has_acted(&self) -> bool {
        self.next >= self.acts.len()
    }

    pub fn breaks(&mut self, violation: String) {
        self.violations.push(violation);
    }
}

async fn connected(home: &Home) -> Client {
    loop {
        if let Ok(client) = Client::connect(home, "simulation").await {
            return client;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

/// Plays a user who starts the run, then acts as scheduled.
pub async fn steer(home: Home, ground: &Ground, cast: SharedCast, laboratory: SharedLaboratory) {
    let mut client = connected(&home).await;
    if begin(&home, ground, &mut client, &cast).await.is_err() {
        return;
    }
    loop {
        let next = {
            let cast = cast.borrow();
            cast.acts.get(cast.next).cloned().map(|act| (cast.next, act))
        };
        let Some((number, act)) = next else { return };
        let was_taken = cast.borrow().taken == Some(number);
        sleep(if was_taken { AGAIN } else { act.after }).await;
        let stall = cast.borrow_mut().stalls.remove(&number);
        if let Some(stall) = stall {
            laboratory.lock().unwrap().stall(stall);
        }
        let fill = cast.borrow_mut().fills.remove(&number);
        if let Some(fill) = fill {
            laboratory.lock().unwrap().fill(fill);
        }
        let id = id_of(number);
        cast.borrow_mut().asking = Some(number);
        let said = client.ask_as(id.clone(), act.command.clone()).await;
        let mut cast = cast.borrow_mut();
        cast.asking = None;
        cast.log.push(format!("{id} {:?}: {said:?}", act.command));
        let was_resumed = cast.resumed_during == Some(number);
        match said {
            Ok(Reply::Accepted { .. }) => {
                (cast.next, cast.taken) = (cast.next + 1, None);
                acknowledged(&home, &mut cast, id, act.command, was_taken || was_resumed);
            }
            Ok(Reply::Taken { .. }) if act.command == Command::Stop => {
                cast.taken = Some(number);
                if !was_resumed {
                    cast.stop_asked.get_or_insert_with(Instant::now);
                }
            }
            // The run has ended meanwhile. Nobody has said that the row is there.
            Ok(Reply::Refused { .. }) if was_taken => {
                (cast.next, cast.taken) = (cast.next + 1, None);
                cast.past.push(number);
            }
            Ok(_) => cast.next += 1,
            Err(error @ (ClientError::Silent { .. } | ClientError::Unconfirmed { .. })) => {
                return cast.breaks(format!("L10: {error}"));
            }
            // The act is repeated in the daemon's next life.
            Err(_) => return,
        }
    }
}

fn id_of(act: usize) -> String {
    format!("act-{act}")
}

/// Checks L1 and L10: a stop that was taken is not lost by a daemon that ends in good order.
pub fn check_taken(home: &Home, cast: &mut Cast) {
    let run = cast.run.clone().unwrap_or_default();
    let taken: Vec<usize> = cast.past.iter().copied().chain(cast.taken).collect();
    let rows = rows_of(home, &run);
    for number in taken {
        // It may share the row of a stop that was there before, and the run may have been resumed since.
        let is_row = |row: &Steer| row.id == id_of(number) || row.action == SteerAction::Stop;
        if !rows.iter().any(is_row) {
            cast.breaks(format!(
                "L1: {} was taken, and the daemon ended without its row",
                id_of(number)
            ));
        }
    }
}

/// Returns the rows of a run's commands that are on disk, oldest first.
fn rows_of(home: &Home, run: &str) -> Vec<Steer> {
    let connection = store::open_read_only(&home.database()).unwrap();
    journal::steers(&connection, run).unwrap()
}

/// Returns the id of the row of a command that is on disk. A stop of a run that is being stopped has that of the stop
/// which was there before.
fn row_of(home: &Home, run: &str, id: &str, command: &Command) -> Option<String> {
    let rows = rows_of(home, run);
    let mut since_resumption = rows.iter().rev().take_while(|row| !is_resumption(row));
    let own = rows.iter().find(|row| row.id == id);
    let row = own.or_else(|| match command {
        Command::Stop => since_resumption.find(|row| row.action == SteerAction::Stop),
        _ => None,
    });
    row.map(|row| row.id.clone())
}

/// Starts the run unless it is known that it was started. Checks L1: a request whose reply did not arrive is sent again
/// under its id, and starts no other run.
async fn begin(
    home: &Home,
    ground: &Ground,
    client: &mut Client,
    cast: &SharedCast,
) -> Result<(), ClientError> {
    if cast.borrow().run.is_some() {
        return Ok(());
    }
    let request = RunRequest {
        profile: ground.profile.clone(),
        origin: "simulated".into(),
        ..RunRequest::default()
    };
    match client.ask_as("run".into(), Command::Run(request)).await? {
        Reply::Started { run } => {
            if query(home, "SELECT run FROM v_run") != [run.clone()] {
                cast.borrow_mut()
                    .breaks("L1, L4: a run was begun that has no row, or that is not the only one".into());
            }
            cast.borrow_mut().run = Some(run);
        }
        other => cast
            .borrow_mut()
            .breaks(format!("the run was not begun: {other:?}")),
    }
    Ok(())
}

/// Checks L4: an acknowledged command is on disk. A stop that was taken before, or after which the run was resumed before
/// the reply came, has ended the run already.
fn acknowledged(home: &Home, cast: &mut Cast, id: String, command: Command, is_over: bool) {
    if matches!(command, Command::Shutdown) {
        return;
    }
    let run = cast.run.clone().unwrap_or_default();
    let row = row_of(home, &run, &id, &command);
    if row.is_none() {
        cast.breaks(format!("L4: {id} ({command:?}) was acknowledged and has no row"));
    }
    if matches!(command, Command::Sample { .. }) {
        return;
    }
    if command == Command::Stop && !is_over {
        cast.stop_asked = Some(Instant::now());
    }
    cast.acknowledged.push((row.unwrap_or(id), command));
}

/// Plays a user who watches until the run is over, then asks the daemon to shut down.
pub async fn watch(home: Home, cast: SharedCast, laboratory: SharedLaboratory) {
    let mut client = connected(&home).await;
    let began = Instant::now();
    loop {
        sleep(LOOK).await;
        let seen = client.ask(Command::Status).await;
        let overview = match seen {
            Ok(Reply::Status(overview)) => overview,
            Ok(other) => return cast.borrow_mut().breaks(format!("a status is {other:?}")),
            Err(error @ (ClientError::Silent { .. } | ClientError::Unconfirmed { .. })) => {
                return cast.borrow_mut().breaks(format!("L10: {error}"));
            }
            Err(error) => {
                cast.borrow_mut().log.push(format!("who looks: {error}"));
                return std::future::pending().await;
            }
        };
        if began.elapsed() > cast.borrow().longest_life {
            let (state, detail) = (overview.state, overview.detail);
            return cast.borrow_mut().breaks(format!(
                "L10: the run does not end: {state:?} at step {}, {detail}",
                overview.step
            ));
        }
        let (hangs, refused) = {
            let laboratory = laboratory.lock().unwrap();
            (laboratory.hanging > 0, laboratory.refused)
        };
        look_at_what_hangs(&mut cast.borrow_mut(), hangs);
        look_at_full_disk(&mut cast.borrow_mut(), refused);
        let Some(run) = cast.borrow().run.clone() else {
            continue;
        };
        // A daemon that was started after the run's end does not report it, but the rows in the store do.
        let state = match overview.state {
            RunState::Idle => ended_before(&home, &run),
            state if overview.run == run => Some(state),
            _ => None,
        };
        let Some(state) = state else { continue };
        match state {
            RunState::Stopped if cast.borrow().goes_on_after_stop => {
                if let Ok(Reply::Started { .. }) = client.ask(Command::ResumeRun { run }).await {
                    let mut cast = cast.borrow_mut();
                    (cast.goes_on_after_stop, cast.stop_asked) = (false, None);
                    (cast.lapsed, cast.resumed_during) =
                        (cast.acknowledged.len(), cast.asking.or(cast.taken));
                    cast.log.push("the stopped run goes on".into());
                }
            }
            // A pause that has not taken effect before the stop also holds the resumed run.
            RunState::Paused if cast.borrow().has_acted() => {
                client.ask(Command::Resume).await.ok();
            }
            RunState::Done | RunState::Failed | RunState::Stopped => {
                cast.borrow_mut().ended = Some(state);
                cast.borrow_mut()
                    .log
                    .push(format!("{state:?}: {}", overview.detail));
                client.ask(Command::Shutdown).await.ok();
                return std::future::pending().await;
            }
            _ => {}
        }
    }
}

/// Returns how the run ended, or `None` if it has not.
fn ended_before(home: &Home, run: &str) -> Option<RunState> {
    let connection = store::open_read_only(&home.database()).unwrap();
    let (_, status) = journal::run(&connection, run).unwrap()?;
    let is_over = matches!(status, RunState::Done | RunState::Failed | RunState::Stopped);
    is_over.then_some(status)
}

fn look_at_what_hangs(cast: &mut Cast, hangs: bool) {
    let Some(asked) = cast.stop_asked.filter(|_| hangs) else {
        cast.hangs_since = None;
        return;
    };
    let since = *cast.hangs_since.get_or_insert_with(Instant::now);
    if since.max(asked).elapsed() > cast.longest_stop {
        cast.breaks("L10: a stop waits for something that hangs".into());
        cast.stop_asked = None;
    }
}

/// Checks L10: a run that is stopped does not wait for room on the disk.
fn look_at_full_disk(cast: &mut Cast, refused: u32) {
    if cast.stop_asked.is_none() {
        cast.refused = refused;
    } else if refused > cast.refused + TRIES {
        cast.breaks("L10: a stop waits for room on the disk".into());
        cast.stop_asked = None;
    }
}

/// Returns the first column of a query's rows as text.
pub fn query(home: &Home, sql: &str) -> Vec<String> {
    let rows = demask_storage::query::query(&home.database(), sql, 100_000)
        .unwrap()
        .rows;
    let text = |row: Vec<serde_json::Value>| match row.into_iter().next() {
        Some(serde_json::Value::String(text)) => text,
        other => other.map(|value| value.to_string()).unwrap_or_default(),
    };
    rows.into_iter().map(text).collect()
}
