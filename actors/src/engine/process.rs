//! An engine process as the daemon and the command see it: its start, its requests, its supervision and its end.
//!
//! An engine may die at any instruction (law L1). Every call can therefore return [`EngineFailure::Died`] with the exit
//! status and the engine's last words, and the caller starts another engine from the last checkpoint.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use demask_api::machine::host_name;
use demask_api::{
    Answer, EngineError, EngineInfo, JoinRole, PROTOCOL, Request, SampleFrame, Shard, limits, wire,
};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex as AsyncMutex;
use tokio::time::Instant;

use super::body::EngineBody;
use super::child::EngineChild;
use super::error_log::ErrorLog;
use super::join::bridge::JoinedEngine;
use super::join::lobby::{Lobby, WantedEngine};
use super::liveness::{Liveness, Urgency};
use super::world::Meeting;
use crate::runtime::fault_injection::FaultInjection;
use crate::runtime::ids;

/// Longest start of an engine. An engine that exits is noticed at once, but a busy machine may load one slowly.
const START_LIMIT: Duration = Duration::from_secs(300);
/// Time between two attempts to connect to a new engine.
const START_RETRY: Duration = Duration::from_millis(15);

/// The options with which an engine is started.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Path of the program; absent: `DEMASK_ENGINE`, else beside this program, else on the PATH.
    pub program: Option<PathBuf>,
    /// Folder of the engine's socket.
    pub socket_dir: PathBuf,
    /// Device: `auto`, `cpu`, `cuda`, `cuda:0`.
    pub device: String,
    /// CPU threads; absent: the engine decides.
    pub threads: Option<usize>,
    /// Precision: `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// Sequences that are sampled at a time; absent: the engine decides.
    pub rows: Option<usize>,
    /// File that its standard error is appended to; absent: standard error is inherited.
    pub log: Option<PathBuf>,
    /// Flag that is set once the user wants the engine's work to end.
    pub urgency: Urgency,
    /// Folders that it may write below; absent: everywhere.
    pub writes: Option<Vec<PathBuf>>,
    /// Number of processes that train together; absent: one process without ranks.
    pub ranks: Option<usize>,
    /// Fewest processes of a world that joins; absent: as many as `ranks`.
    pub least_ranks: Option<usize>,
    /// What is sharded among the ranks: the optimizer state, or the weights too.
    pub shard: Shard,
    /// Role of the joined engine to use; absent: a process is started.
    pub joins: Option<JoinRole>,
    /// Of an engine that only samples: the number of processes that train on this machine, and its own number among the
    /// engines beside them, by which they divide the GPUs.
    pub beside: Option<(usize, usize)>,
}

impl EngineOptions {
    /// Returns the threads of each process. Ranks share the cores.
    fn threads_each(&self) -> Option<usize> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let most = limits::THREADS.most as usize;
        self.threads
            .or_else(|| Some((cores() / self.ranks?).clamp(1, most)))
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            program: None,
            socket_dir: std::env::temp_dir(),
            device: "auto".into(),
            threads: None,
            dtype: "auto".into(),
            rows: None,
            log: None,
            urgency: Urgency::default(),
            writes: None,
            ranks: None,
            least_ranks: None,
            shard: Shard::default(),
            joins: None,
            beside: None,
        }
    }
}

/// The reason why an engine gave no proper answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineFailure {
    /// The engine could not be started.
    #[error("cannot start the engine {program}: {message}")]
    Start {
        /// The program.
        program: String,
        /// The reason.
        message: String,
    },
    /// The engine speaks another protocol version. Another start does not help.
    #[error("the engine {program} speaks another protocol than this daemon ({PROTOCOL}): {message}")]
    Protocol {
        /// The program.
        program: String,
        /// The engine's reply.
        message: String,
    },
    /// The process or its socket ended during a request.
    #[error("the engine died ({status}){tail}")]
    Died {
        /// Exit status or signal.
        status: String,
        /// Last lines of the engine's output, if they were logged.
        tail: String,
    },
    /// The engine answered with an error.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine answered with another kind of answer than the request expects.
    #[error("expected the answer {expected} from the engine, found {found}")]
    Unexpected {
        /// Name of the expected answer.
        expected: &'static str,
        /// The start of the answer that came.
        found: String,
    },
}

/// A running engine. It handles requests in the order in which they arrive, but it samples requests that arrive
/// together in one batch.
#[derive(Debug)]
pub struct EngineProcess {
    body: EngineBody,
    /// Idle connections. A request opens another one if none is idle.
    idle: Mutex<Vec<UnixStream>>,
    socket: PathBuf,
    liveness: Liveness,
    log: ErrorLog,
    info: EngineInfo,
    /// Whether the engine was given up. What it still answers is not used (law L1).
    given_up: AtomicBool,
}

impl EngineProcess {
    /// Starts an engine and waits for its hello.
    ///
    /// # Errors
    /// [`EngineFailure::Start`] if the program is missing or exits at once; [`EngineFailure::Protocol`] if it has
    /// another version.
    pub async fn start(options: &EngineOptions) -> Result<Self, EngineFailure> {
        let program = options.program.clone().unwrap_or_else(find_program);
        let start_error = |message: String| EngineFailure::Start {
            program: program.display().to_string(),
            message,
        };
        let socket = new_socket(options);
        let command = || command(&program, options);
        let mut first = command();
        first.arg("--socket").arg(&socket);
        let log = ErrorLog::begin(options.log.as_deref());
        let (log, errors) = log.map_err(|(path, error)| start_error(format!("{path}: {error}")))?;
        let meeting = options.ranks.map(Meeting::of).transpose();
        let meeting = meeting.map_err(|error| start_error(format!("a world: {error}")))?;
        if let Some(meeting) = &meeting {
            meeting.invite(&mut first, 0);
        }
        let mut child = first
            .stderr(errors)
            .spawn()
            .map_err(|error| start_error(missing_hint(&error)))?;
        // Rank 0 serves the socket. The other ranks run the same command without one.
        let errors = || {
            let begun = ErrorLog::begin(options.log.as_deref());
            begun.map(|(_, errors)| errors).map_err(|(_, error)| error)
        };
        let others = meeting.map(|meeting| meeting.start_others(command, errors));
        let others = others
            .transpose()
            .map_err(|error| start_error(error.to_string()))?;
        // Rank 0 serves its socket once all ranks are there, so the end of another rank is the end of the start.
        let lost = async {
            match &others {
                Some(others) => others.lost().await,
                None => std::future::pending().await,
            }
        };
        let stream = tokio::select! {
            reached = reach(&mut child, &socket, &log, &options.urgency) => reached,
            why = lost => Err(why + " during startup" + &log.tail(&options.urgency).await),
        };
        let stream = stream.map_err(start_error)?;
        let liveness = Liveness::new(socket.clone(), child.id(), options.urgency.clone());
        let child: Box<dyn EngineChild> = Box::new(child);
        let mut engine = Self {
            body: EngineBody::Started(AsyncMutex::new(child), others),
            idle: Mutex::new(vec![stream]),
            liveness,
            socket,
            log,
            info: placeholder_info(),
            given_up: AtomicBool::new(false),
        };
        engine.greet(&program.display().to_string()).await?;
        if options.log.is_some() {
            tracing::info!("engine, process {}: {}", engine.info.pid, engine.info.sandbox);
        }
        Ok(engine)
    }

    /// Takes a process that serves this socket, and waits for its hello. Simulations script the process, and inject a
    /// bug that they must find; its requests, its watchdog and its end are those of every engine.
    ///
    /// # Errors
    /// The errors of the hello.
    pub async fn of_child(
        child: Box<dyn EngineChild>,
        socket: PathBuf,
        urgency: Urgency,
        faults: FaultInjection,
    ) -> Result<Self, EngineFailure> {
        let liveness = Liveness::new(socket.clone(), None, urgency).with_faults(faults);
        let mut engine = Self {
            body: EngineBody::Started(AsyncMutex::new(child), None),
            idle: Mutex::default(),
            liveness,
            socket,
            log: ErrorLog::none(),
            info: placeholder_info(),
            given_up: AtomicBool::new(false),
        };
        engine.greet("that is scripted").await?;
        Ok(engine)
    }

    /// Waits for an engine that joins, and for its hello.
    ///
    /// # Errors
    /// [`EngineFailure::Start`] if the daemon does not listen for engines, and once the user wants the run to end; the
    /// errors of the hello.
    pub async fn join(
        options: &EngineOptions,
        role: JoinRole,
        lobby: Option<&Lobby>,
    ) -> Result<Self, EngineFailure> {
        let start_error = |message: String| EngineFailure::Start {
            program: "that joins".to_owned(),
            message,
        };
        let ranks = options.ranks.unwrap_or(1);
        let wanted = WantedEngine {
            role,
            ranks,
            least_ranks: options.least_ranks.unwrap_or(ranks),
            shard: options.shard,
            dtype: options.dtype.clone(),
        };
        let lobby = lobby.ok_or_else(|| start_error("the daemon does not listen for engines".to_owned()))?;
        let session = lobby.take(&wanted, &options.urgency).await;
        let session = session.map_err(start_error)?;
        let named = format!("of process {} on {}", session.engine.pid, session.engine.host);
        let found = session.engine.ranks;
        if found < ranks {
            tracing::warn!("the world {named} has {found} of {ranks} ranks, with which the run may go on");
        }
        // Of a process on another machine nothing can be seen here.
        let pid = (session.engine.host == host_name()).then_some(session.engine.pid);
        let socket = new_socket(options);
        let joined = JoinedEngine::open(session, &socket);
        let joined = joined.map_err(|error| start_error(format!("{}: {error}", socket.display())))?;
        let mut engine = Self {
            body: EngineBody::Joined(joined),
            idle: Mutex::default(),
            liveness: Liveness::new(socket.clone(), pid, options.urgency.clone()),
            socket,
            log: ErrorLog::none(),
            info: placeholder_info(),
            given_up: AtomicBool::new(false),
        };
        engine.greet(&named).await?;
        engine.info.pid = pid.unwrap_or_default();
        tracing::info!("the engine {named} serves the run: {}", engine.info.sandbox);
        Ok(engine)
    }

    /// Asks for the engine's description of itself, and refuses an engine of another protocol.
    async fn greet(&mut self, program: &str) -> Result<(), EngineFailure> {
        let other_protocol = |message: String| EngineFailure::Protocol {
            program: program.to_owned(),
            message,
        };
        match self.ask(&Request::Hello { protocol: PROTOCOL }).await {
            Ok(Answer::Hello(info)) if info.protocol == PROTOCOL => {
                self.info = info;
                Ok(())
            }
            Ok(Answer::Hello(info)) => Err(other_protocol(format!("it speaks protocol {}", info.protocol))),
            Ok(other) => Err(unexpected("hello", &other)),
            Err(EngineFailure::Engine(refusal)) => Err(other_protocol(refusal.to_string())),
            Err(failure) => Err(failure),
        }
    }

    /// Returns the engine's description of itself.
    #[must_use]
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// Returns the process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.info.pid
    }

    /// Sends a request and waits for the answer. Denoising frames on the way are dropped.
    ///
    /// # Errors
    /// [`EngineFailure::Died`] or [`EngineFailure::Engine`].
    pub async fn ask(&self, request: &Request) -> Result<Answer, EngineFailure> {
        self.ask_watched(request, &mut |_| ()).await
    }

    /// Sends a request and waits for the answer. Each denoising frame is passed to `on_frame` as it arrives.
    ///
    /// # Errors
    /// [`EngineFailure::Died`] or [`EngineFailure::Engine`].
    pub async fn ask_watched(
        &self,
        request: &Request,
        on_frame: &mut (dyn FnMut(SampleFrame) + Send),
    ) -> Result<Answer, EngineFailure> {
        let answered = tokio::select! {
            biased;
            answered = self.converse(request, on_frame) => answered,
            // L10: an engine that makes no progress is given up; another one continues from the last checkpoint.
            why = self.liveness.hangs() => Err(std::io::Error::other(why)),
            // On `Exit` the ranks end in any order, so their loss is no failure.
            why = self.body.lost(), if *request != Request::Exit => Err(std::io::Error::other(why)),
        };
        match answered {
            // After a device error the engine exits. It is marked dead at once, so that the next request goes to a new
            // engine.
            Ok(Answer::Failed(error @ EngineError::Device { .. })) => Err(self.died(error.to_string()).await),
            // L1: another engine does its work again, so an answer that comes while it is killed is not used.
            Ok(_) if self.given_up.load(Relaxed) => {
                Err(self.died("it answered after it had been abandoned".into()).await)
            }
            Ok(Answer::Failed(error)) => Err(error.into()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.died(error.to_string()).await),
        }
    }

    /// Sends one request and reads its answer. A connection is reused only if its answer was read to the end.
    async fn converse(
        &self,
        request: &Request,
        on_frame: &mut (dyn FnMut(SampleFrame) + Send),
    ) -> std::io::Result<Answer> {
        let idle = self.idle().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => UnixStream::connect(&self.socket).await?,
        };
        wire::write_async(&mut stream, request).await?;
        loop {
            match wire::read_async::<Answer>(&mut stream).await? {
                Some(Answer::Frame(frame)) => on_frame(frame),
                Some(answer) => {
                    self.idle().push(stream);
                    return Ok(answer);
                }
                None => return Err(std::io::Error::other("its socket closed")),
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<UnixStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the engine to exit, and waits until it has. An engine that does not is killed.
    pub async fn stop(&self) {
        if self.ask(&Request::Exit).await.is_ok() {
            self.body.has_ended(self.liveness.urgency()).await;
        }
    }

    async fn died(&self, why: String) -> EngineFailure {
        self.given_up.store(true, Relaxed);
        EngineFailure::Died {
            status: self.body.give_up(why, self.liveness.urgency()).await,
            tail: self.log.tail(self.liveness.urgency()).await,
        }
    }
}

impl Drop for EngineProcess {
    fn drop(&mut self) {
        std::fs::remove_file(&self.socket).ok();
    }
}

/// Returns the failure of an answer that does not fit the request.
#[must_use]
pub fn unexpected(expected: &'static str, found: &Answer) -> EngineFailure {
    let text = serde_json::to_string(found).unwrap_or_default();
    EngineFailure::Unexpected {
        expected,
        found: text.chars().take(120).collect(),
    }
}

/// Finds the engine's program: `DEMASK_ENGINE`, else beside this program, else on the PATH.
#[must_use]
pub fn find_program() -> PathBuf {
    const NAME: &str = "demask-engine";
    if let Some(named) = std::env::var_os("DEMASK_ENGINE") {
        return named.into();
    }
    let own = std::env::current_exe().unwrap_or_default();
    // Tests run from `target/release/deps`, one folder below the programs.
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(NAME))
        .find(|path| path.is_file())
        .unwrap_or_else(|| NAME.into())
}

/// Builds an engine's command line, except the arguments of its rank.
fn command(program: &Path, options: &EngineOptions) -> Command {
    let mut command = Command::new(program);
    command.args(["--device", &options.device, "--dtype", &options.dtype]);
    command.arg("--die-with").arg(std::process::id().to_string());
    if let Some(threads) = options.threads_each() {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(folders) = &options.writes {
        // An empty folder permits writing nowhere.
        command.args(["--writes", ""]);
        for folder in folders {
            command.arg("--writes").arg(folder);
        }
    }
    if options.ranks.is_some() && options.shard == Shard::Weights {
        command.args(["--shard", "weights"]);
    }
    if let Some((trainers, number)) = options.beside {
        command.args(["--beside", &format!("{trainers},{number}")]);
    }
    if let Some(rows) = options.rows {
        command.args(["--rows", &rows.to_string()]);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true);
    command
}

async fn reach(
    child: &mut Child,
    socket: &Path,
    log: &ErrorLog,
    urgency: &Urgency,
) -> Result<UnixStream, String> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if let Ok(stream) = UnixStream::connect(socket).await {
            return Ok(stream);
        }
        if let Ok(Some(status)) = child.try_wait() {
            let tail = log.tail(urgency).await;
            return Err(format!("it exited during startup ({status}){tail}"));
        }
        if urgency.is_set() {
            return Err("the run is being stopped".into());
        }
        if Instant::now() > deadline {
            return Err(format!("it did not answer within {} s", START_LIMIT.as_secs()));
        }
        tokio::time::sleep(START_RETRY).await;
    }
}

fn missing_hint(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "not found; build it with `make build`, or set DEMASK_ENGINE to its path".into()
        }
        _ => error.to_string(),
    }
}

/// Returns a path for an engine's socket that no other engine has.
fn new_socket(options: &EngineOptions) -> PathBuf {
    let id = ids::new_id().simple().to_string();
    let short: String = id.chars().skip(18).collect();
    options.socket_dir.join(format!("engine-{short}.sock"))
}

fn placeholder_info() -> EngineInfo {
    let device = demask_api::DeviceInfo {
        name: String::new(),
        threads: 0,
        compute: String::new(),
        kernels: None,
        matmul_gflops: None,
        cuda: demask_api::Cuda::default(),
    };
    EngineInfo {
        protocol: 0,
        version: String::new(),
        libtorch: String::new(),
        pid: 0,
        device,
        sandbox: String::new(),
    }
}
