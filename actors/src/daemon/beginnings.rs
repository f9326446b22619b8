//! The three ways in which a run starts: a client asks for it, a new daemon continues the run that the last one left,
//! or the user resumes a run that was stopped or failed. Queued runs are in `turns.rs`.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use demask_api::{JoinRole, Shard};
use demask_datasets::data_dir;
use demask_storage::runs::requested::{RequestState, requested};
use demask_storage::{Record, Reply, Run, RunRequest, RunState, Steer, SteerAction, journal, store};

use super::lives::Lives;
use super::run_lifecycle::live;
use super::run_record::{
    LATE, RECORDED, UNCONFIRMED, end_run, first_life, newest_step, recorded_in_time, run_end,
};
use super::server::{Active, Daemon};
use crate::control::known_stops::REMEMBERED;
use crate::control::{Control, OrderError, RESUMED_RUN};
use crate::engine::address::EngineAddress;
use crate::engine::options::EngineOptions;
use crate::home::Home;
use crate::pipeline::sampling_engines::SamplingEngines;
use crate::profile::Profile;
use crate::run::context::RunContext;
use crate::runtime::disk::{of_store, on_disk};
use crate::runtime::ids;
use crate::runtime::recorder::Recorded;

/// The environment variable with the number of ranks that join from the daemon's machine. The script of `demask slurm`
/// sets it.
const RANKS_HERE: &str = "DEMASK_RANKS_HERE";

/// Returns the number of ranks that join from this machine, 0 if it is not known.
fn ranks_here() -> usize {
    let told = std::env::var(RANKS_HERE).ok();
    told.and_then(|number| number.parse().ok()).unwrap_or(0)
}

impl Daemon {
    /// L1: continues the run that did not end. Without such a run, the first queued run starts.
    ///
    /// A run is failed instead if too many daemons died of it, or if this version cannot read its configuration, so
    /// that the daemon itself can start.
    pub(super) async fn go_on(&mut self) -> anyhow::Result<()> {
        let connection = store::open_read_only(&self.home.database())?;
        let found = journal::unfinished(&connection)?;
        self.desk.know_stops(journal::stops(&connection, REMEMBERED)?);
        drop(connection);
        if let Some(run) = found {
            let id = run.id.clone();
            let step = newest_step(&self.home.database(), &id)?;
            let lives = Lives::of(&self.home, &id);
            if let Some(why) = lives.spent() {
                // L9: a run that aborts the daemon must not make the home unusable for ever.
                tracing::error!("run {id}: {why}");
                lives.forget();
                end_run(&self.recorder, &id, RunState::Failed, &why).await?;
            } else if let Err(error) = self.begin_again(run, step).await {
                let why = match error.is::<NoDoor>() {
                    true => error.to_string(),
                    false => format!("this version of demask cannot read the run's configuration: {error:#}"),
                };
                tracing::error!("run {id}: {why}");
                end_run(&self.recorder, &id, RunState::Failed, &why).await?;
            }
        }
        self.begin_next().await;
        Ok(())
    }

    /// Starts another life of a run that was begun before and whose newest checkpoint is of this step.
    async fn begin_again(&mut self, before: Run, step: u64) -> anyhow::Result<()> {
        let (profile, from_scratch) = self.profile_of(&before).await?;
        let generation = before.generation + 1;
        self.begin(Run { generation, ..before }, profile, from_scratch, step)
            .await;
        Ok(())
    }

    /// Reads the profile of a run that was begun before, if this daemon can run it, and whether the run starts from
    /// random weights. Files that the profile names are looked at.
    async fn profile_of(&self, run: &Run) -> anyhow::Result<(Profile, bool)> {
        let configuration = run.config.clone();
        let (profile, from_scratch) = on_disk(move || Profile::of_configuration(configuration)).await??;
        self.can_join(&profile)?;
        Ok((profile, from_scratch))
    }

    /// Refuses a run whose engines are to join where the daemon listens for none.
    fn can_join(&self, profile: &Profile) -> Result<(), NoDoor> {
        let joins = profile.engine.join || profile.rollouts.join;
        match joins && self.engines.lobby().is_none() {
            true => Err(NoDoor),
            false => Ok(()),
        }
    }

    /// Makes the row of the first life of a requested run, and its profile, if this daemon can run it.
    pub(super) async fn begun_by(&self, id: &str, request: &RunRequest) -> anyhow::Result<(Run, Profile)> {
        let (id, request) = (id.to_owned(), request.clone());
        let (begun, profile) = on_disk(move || first_life(&id, &request)).await??;
        self.can_join(&profile)?;
        Ok((begun, profile))
    }

    /// Starts a life of a run whose newest checkpoint is of this step: spawns its engines and runs [`live`] as a task.
    pub(super) async fn begin(&mut self, begun: Run, profile: Profile, from_scratch: bool, step: u64) {
        data_dir::use_folder(profile.data.clone());
        let (run, generation) = (begun.id.clone(), begun.generation);
        tracing::info!("run {run} ({}), life {generation}", profile.name);
        let lives = begun_life(&self.home, &run).await;
        let options = EngineOptions {
            socket_dir: self.home.socket_dir(),
            device: profile.engine.device.clone(),
            dtype: profile.engine.dtype.clone(),
            threads: profile.engine.threads,
            ranks: profile.engine.ranks,
            least_ranks: profile.engine.min_ranks,
            shard: profile.engine.shard,
            log: Some(self.home.engine_log()),
            // The engine may write checkpoints and nothing else.
            writes: Some(vec![self.home.checkpoints("")]),
            joins: profile.engine.join.then_some(JoinRole::Train),
            ..EngineOptions::default()
        };
        let spawn = |name: &str, options| {
            EngineAddress::spawn(&self.supervisor, name, options, Arc::clone(&self.engines))
        };
        let trainers = match profile.engine.join {
            true => ranks_here(),
            false => profile.engine.ranks.unwrap_or(1),
        };
        let samplers = (1..=profile.rollouts.samplers).map(|number| {
            let options = EngineOptions {
                threads: profile.rollouts.threads.or(options.threads),
                writes: Some(Vec::new()),
                ranks: None,
                least_ranks: None,
                shard: Shard::default(),
                joins: profile.rollouts.join.then_some(JoinRole::Sample),
                beside: Some((trainers, number - 1)),
                ..options.clone()
            };
            spawn(&format!("engine/{number}"), options)
        });
        let shared = profile.rollouts.join.then(|| self.home.checkpoints(&run));
        let samplers = SamplingEngines::new(&samplers.collect::<Vec<_>>(), shared);
        let engine = spawn("engine/0", options);
        let control = Arc::new(Control::new(&run, self.driver.knobs(&profile), Vec::new()));
        // L4: the rows of orders that come before the life has begun say the step too.
        control.begin_at(step);
        let context = RunContext {
            home: self.home.clone(),
            recorder: self.recorder.clone(),
            control: Arc::clone(&control),
            engine,
            samplers,
            supervisor: self.supervisor.clone(),
            profile: Arc::new(profile),
            run: run.clone(),
            begun: Arc::new(begun),
            generation,
            lives_before: generation,
            from_scratch,
        };
        let control = Rc::new(RefCell::new(control));
        let task = actix::spawn(live(context, Rc::clone(&self.driver), Rc::clone(&control), step));
        self.desk.begin(&control);
        self.active = Some(Active {
            run,
            control,
            lives,
            task,
        });
    }

    /// Returns the refusal if no run can start now.
    pub(super) fn busy(&self) -> Option<Reply> {
        if let Some(active) = &self.active {
            return Some(Reply::refused(&format!(
                "run {} is active; `demask stop` ends it, `demask run --queue` waits for its end",
                active.run
            )));
        }
        self.desk
            .is_ending()
            .then(|| Reply::refused("the daemon is ending"))
    }

    pub(super) async fn run(&mut self, id: &str, request: &RunRequest) -> Reply {
        if let Some(busy) = self.busy() {
            return busy;
        }
        let first = async { self.begun_by(&checked(id, request)?, request).await };
        let (begun, profile) = match first.await {
            Ok(first) => first,
            Err(error) => return Reply::refused(&format!("{error:#}")),
        };
        let run = begun.id.clone();
        let failed = Record::RunEnd(run_end(&run, RunState::Failed, LATE));
        // On a full disk this wait would keep other runs from being queued.
        let recorded = recorded_in_time(&self.recorder, vec![Record::Run(begun.clone())], Some(failed));
        match recorded.await {
            Ok(Recorded::Yes) => {
                self.begin(begun, profile, request.from_scratch, 0).await;
                Reply::Started { run }
            }
            Ok(Recorded::Never) => Reply::refused(&format!("the run was not started: {LATE}")),
            Ok(Recorded::Unknown) => Reply::refused(&format!("run {run} was not started: {UNCONFIRMED}")),
            Err(error) => Reply::refused(&error.to_string()),
        }
    }

    /// Resumes a run that was stopped or failed, from its last checkpoint.
    pub(super) async fn resume_run(&mut self, id: &str, by: &str, run: &str) -> Reply {
        if let Some(busy) = self.busy() {
            return busy;
        }
        match self.resumed(id, by, run).await {
            Ok(reply) => reply,
            Err(error) => Reply::refused(&format!("{error:#}")),
        }
    }

    async fn resumed(&mut self, id: &str, by: &str, run: &str) -> anyhow::Result<Reply> {
        // The row of the run's end may still be on its way. Without it the run would seem to be under way, and what a
        // refusal takes back would leave it so for ever.
        match tokio::time::timeout(RECORDED, self.recorder.settle()).await {
            Ok(flushed) => flushed?,
            Err(_) => {
                return Ok(Reply::refused(
                    "the store did not record earlier rows in time: is the disk full? The run is unchanged",
                ));
            }
        }
        let (path, named) = (self.home.database(), run.to_owned());
        let found = of_store(move || {
            let connection = store::open_read_only(&path)?;
            let newest = journal::checkpoints(&connection, &named)?
                .first()
                .map(|saved| saved.step);
            let orders = journal::steers(&connection, &named)?;
            let state = requested(&connection, &named)?.map(|run| run.state);
            Ok((journal::run(&connection, &named)?, newest, orders, state))
        });
        let (Some((before, status)), newest, orders, state) = found.await? else {
            return Ok(Reply::refused(&format!(
                "there is no run {run}; `demask runs list` shows them"
            )));
        };
        if let Some(known) = orders.into_iter().find(|order| order.id == id) {
            let was_taken_back = matches!(state, Some(RequestState::Begun { reason, .. }) if reason == LATE);
            // L1: a resumption is done once, also if its message comes again after the run has ended anew.
            return Ok(match known.key.as_deref() {
                Some(RESUMED_RUN) if was_taken_back => {
                    Reply::refused(&format!("the run was not resumed: {LATE}"))
                }
                Some(RESUMED_RUN) => Reply::Started { run: run.to_owned() },
                _ => Reply::refused(&OrderError::known(&known).to_string()),
            });
        }
        if status == RunState::Done {
            return Ok(Reply::refused(&format!(
                "run {run} is done and has no steps left; `demask run PROFILE --from {run}` starts another run from its weights"
            )));
        }
        // Checked before anything is written: if the configuration cannot be read, the run stays as it is.
        let (profile, from_scratch) = self.profile_of(&before).await?;
        let step = newest.unwrap_or(0);
        // L4: the resumption is recorded as a row. Orders from before it, above all a stop, take no effect any more.
        let steer = Steer {
            id: id.to_owned(),
            run: run.to_owned(),
            by: by.to_owned(),
            action: SteerAction::Resume,
            key: Some(RESUMED_RUN.to_owned()),
            old: Some(status.to_string()),
            new: Some(RunState::Running.to_string()),
            asked_step: step,
            applied_step: Some(step),
        };
        // L1: so is the next life, before the answer: a daemon that dies then is followed by one that goes on with the
        // run.
        let life = Run {
            generation: before.generation + 1,
            ..before
        };
        // If the rows come late, the run would seem to go on.
        let ended = Record::RunEnd(run_end(run, status, LATE));
        let rows = vec![Record::Steer(steer), Record::Run(life.clone())];
        match recorded_in_time(&self.recorder, rows, Some(ended)).await? {
            Recorded::Yes => {}
            Recorded::Never => return Ok(Reply::refused(&format!("{LATE} The run is unchanged"))),
            Recorded::Unknown => {
                return Ok(Reply::refused(&format!("the run does not go on: {UNCONFIRMED}")));
            }
        }
        // Nothing may fail from here on: the row says that the run goes on.
        self.begin(life, profile, from_scratch, step).await;
        Ok(Reply::Started { run: run.to_owned() })
    }
}

/// Notes that a life of a run begins in this daemon, and makes the folder of checkpoints. The folder must exist before
/// the engine starts. Otherwise its sandbox permits writes below the nearest existing ancestor, which is the whole home.
async fn begun_life(home: &Home, run: &str) -> Option<Lives> {
    let (home, run) = (home.clone(), run.to_owned());
    let begin = move || {
        let lives = Lives::of(&home, &run);
        lives.begin();
        let folder = home.checkpoints("");
        if let Err(error) = std::fs::create_dir_all(&folder) {
            tracing::warn!("{}: {error}", folder.display());
        }
        lives
    };
    on_disk(begin).await.ok()
}

/// The refusal of a run whose engines are to join a daemon that listens for none.
#[derive(Debug, thiserror::Error)]
#[error(
    "the run waits for engines that join, but this daemon does not listen for any: run `demask daemon stop`, then \
     `demask daemon start --listen ADDR --join-file FILE`"
)]
struct NoDoor;

/// Checks the labels of a request and returns the id of its run, which that of the message decides.
pub(super) fn checked(id: &str, request: &RunRequest) -> anyhow::Result<String> {
    request.labels.check().map_err(anyhow::Error::msg)?;
    Ok(ids::of_run(id).to_string())
}
