//! `demask-engine`: the process that computes, one per device. It holds the weights and the optimizer state,
//! trains and samples, and takes requests over a Unix socket.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use demask_api::join::{JoiningEngine, PATIENCE};
use demask_api::machine::host_name;
use demask_api::{JoinRole, PROTOCOL, Shard};
use demask_model::ModelError;
use demask_model::device::cuda;
use demask_model::engine::Engine;
use demask_model::engine::device_choice::{Place, give_freed_memory_back, keep_freed_memory};
use demask_model::engine::fault::{FAULT, Fault};
use demask_model::engine::sandbox::Sandbox;
use demask_model::engine::server::{self, Served};
use demask_model::engine::shutdown::{self, ShutdownSignal};
use demask_model::sampler::Limits;
use demask_model::training::ranks::{RankOptions, Reduction};
use demask_model::world::join::clients::{ClientGiver, Clients};
use demask_model::world::join::relay::{Joining, Relay};
use demask_model::world::{Membership, World, member};

/// The longest time in seconds that a rank may be told to wait for its peers.
const LONGEST_PEER_LIMIT: u64 = 86_400;

const HELP: &str = "demask-engine: the process that computes for Demask; usually started by the daemon or the demask command

Usage: demask-engine --socket PATH [--device auto|cpu|cuda:N] [--dtype auto|f32|bf16] [--threads N] [--rows N]
                     [--deterministic on|off] [--die-with PID] [--writes FOLDER]... [--world env] [--reduction exact|fast]
                     [--shard state|weights] [--peer-limit SECONDS]
       demask-engine --join FILE [--role train|sample] [--patience SECONDS] …

--rows: the largest number of sequences that are sampled at the same time (default 64); a sequence with guidance counts twice.
--deterministic: on a GPU, on gives the same bits for the same work where libtorch supports it, off the fastest kernels (default on;
off with DEMASK_DETERMINISTIC=0). DEMASK_NO_CUDA=1: no GPU is used. DEMASK_KERNELS=amx|avx512bf16|avx512|avx2|plain: the
CPU's kernels.
--writes: the engine may write below this folder only; may be repeated; an empty FOLDER forbids all writes. Default: everywhere. If
the kernel has Landlock and seccomp, the engine also has no network and starts no program. DEMASK_SANDBOX=off turns off all of this,
DEMASK_SANDBOX=network allows sockets.
--world env: the process is a rank of a world; torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) give its place. Only
rank 0 has the socket, and it commands the other ranks. A rank that loses a peer exits with 75. Without --world they are ignored.
--join FILE: the engine serves the daemon that wrote FILE (`demask daemon start --listen ADDR --join-file FILE`) instead of a socket. It
is a rank of a world as with --world env, of which only rank 0 connects to the daemon, or with --role sample a single engine that only
samples. It exits with 0 when its work is done, and with 75 when it should be started again: it lost a peer, or it could not reach the
daemon for longer than --patience (default 120 s).
--reduction: exact (default) adds gradients in the order of the units, so the bits do not depend on the number of ranks; with fast
they do.
--shard: what is divided among the ranks: state (the optimizer state; default), or weights (the weights too, which are gathered block
by block); the bits are the same.
--peer-limit: how long a rank waits for a peer within a step, for a sign of life of rank 0, and (at most 60 s) for the file by which
it shows that it sees the daemon's folder (default 120 s, at most a day).
The engine handles one request after the other, but sampling requests of several clients together, until it is asked to exit. SIGTERM
ends it after the requests that have arrived, a second SIGTERM at once.

Example: demask-engine --socket /tmp/engine.sock --device cpu --threads 2";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demask-engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Exits as a rank that lost its peers.
fn lost(error: &ModelError) -> ! {
    member::leave(member::PEER_LOST, error)
}

struct EngineArguments {
    socket: PathBuf,
    device: String,
    dtype: String,
    threads: Option<usize>,
    rows: Option<usize>,
    deterministic: Option<bool>,
    die_with: Option<i32>,
    writes: Option<Vec<PathBuf>>,
    /// Whether this process is a rank of a world, whose place the environment gives.
    world: bool,
    ranks: RankOptions,
    /// The join file of the daemon to serve, and as what.
    join: Option<(PathBuf, JoinRole)>,
    patience: Duration,
    /// How long a rank waits for its peers within a step.
    peer_limit: Duration,
}

impl EngineArguments {
    fn sandbox(&self) -> Sandbox {
        let mut writes = self.writes.clone();
        // An injected fault removes its file when it occurs.
        if let (Some(folders), Some(fault)) = (&mut writes, std::env::var_os(FAULT)) {
            folders.extend(Path::new(&fault).parent().map(Path::to_owned));
        }
        Sandbox {
            writes,
            sockets: self.socket.parent().map(Path::to_owned),
            // Ranks communicate over TCP, and so does an engine with the daemon that it joins.
            network: self.world || self.join.is_some(),
            gpu: Sandbox::may_use_gpu(&self.device),
        }
    }

    /// Checks that the rank has a socket if it serves clients.
    fn check_socket(&self, rank: usize) -> anyhow::Result<()> {
        if rank == 0 && self.join.is_none() && self.socket.as_os_str().is_empty() {
            bail!("--socket PATH is missing: rank 0 of a world serves clients; see --help");
        }
        Ok(())
    }

    /// Returns what this engine joins, given its number of ranks, the dtype that it computes in and that of `auto`.
    fn joining(&self, ranks: usize, (dtype, auto_dtype): (&str, &str)) -> Option<Joining> {
        let (file, role) = self.join.clone()?;
        let engine = JoiningEngine {
            protocol: PROTOCOL,
            role,
            ranks,
            shard: self.ranks.shard,
            dtype: dtype.to_owned(),
            auto_dtype: auto_dtype.to_owned(),
            host: host_name(),
            pid: std::process::id(),
        };
        Some(Joining {
            file,
            patience: self.patience,
            engine,
        })
    }
}

/// Serves the daemon that this engine joins.
fn serve_joined(
    engine: &mut Engine,
    joining: Joining,
    shutdown: &ShutdownSignal,
    fault: Fault,
) -> std::io::Result<Served> {
    let (giver, handed) = ClientGiver::open()?;
    let relay = Relay::start(joining, giver)?;
    let served = server::serve_clients(engine, Clients::Handed(handed), shutdown, fault);
    relay.end();
    served
}

fn run() -> anyhow::Result<()> {
    let Some(options) = parse(std::env::args().skip(1))? else {
        return Ok(());
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // If a log line cannot be written because the disk is full, reporting that would fail in the same way
        // and panic.
        .log_internal_errors(false)
        .init();
    // The sandbox does not apply to threads that exist already, so it comes before all of them.
    let held = options.sandbox().apply();
    // At debug level only, because an engine that a command starts writes to the user's terminal. The process
    // that starts it gets this text in the engine's information, and `demask doctor` shows it.
    tracing::debug!("sandbox: {held}");
    if let Some(parent) = options.die_with {
        shutdown::die_with_parent(parent).context("--die-with")?;
    }
    let shutdown = ShutdownSignal::on_signals(options.die_with.is_some()).context("signals")?;
    match options.ranks.shard {
        Shard::State => keep_freed_memory(),
        Shard::Weights => give_freed_memory_back(),
    }
    let member = match options.world {
        true => Some(Membership::from_variables(&|name| std::env::var(name).ok())?),
        false => None,
    };
    if let Some(member) = &member {
        options.check_socket(member.rank)?;
    }
    let place = Place::choose(&options.device, &options.dtype, options.threads)?;
    if place.device.is_cuda() {
        tracing::info!("{}", place.cuda);
    }
    if let Some(deterministic) = options.deterministic
        && place.device.is_cuda()
    {
        cuda::set_deterministic(deterministic)?;
    }
    let (kind, dtypes) = (place.kind, place.dtypes());
    let mut limits = Limits::default();
    limits.rows = options.rows.unwrap_or(limits.rows).max(1);
    let mut engine = Engine::new(place).with_limits(limits).with_sandbox(held);
    let mut size = 1;
    if let Some(member) = member {
        let rank = member.rank;
        let world = World::join_within(member, engine.device(), member::JOIN_LIMIT, options.peer_limit);
        let world = world.unwrap_or_else(|error| lost(&error));
        match world.check_dtype(kind) {
            Err(error @ ModelError::World(_)) => lost(&error),
            checked => checked?,
        }
        size = world.size();
        tracing::info!("rank {rank} of {size}");
        engine = engine.in_world(Rc::new(world), options.ranks);
        if rank > 0 {
            return match engine.follow() {
                Err(error @ ModelError::World(_)) => lost(&error),
                done => Ok(done?),
            };
        }
    }
    let fault = Fault::from_environment()?;
    let served = match options.joining(size, dtypes) {
        Some(joining) => serve_joined(&mut engine, joining, &shutdown, fault).context("--join")?,
        None => server::serve(&mut engine, &options.socket, &shutdown, fault)
            .with_context(|| format!("socket {}", options.socket.display()))?,
    };
    if let Served::DeviceFailed(_) = served {
        shutdown::at_once();
    }
    Ok(())
}

/// Parses the arguments of the engine. Returns `None` after `--help` and `--version`, which print their text here.
fn parse(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<EngineArguments>> {
    let (mut socket, mut device, mut dtype) = (None, "auto".to_owned(), "auto".to_owned());
    let (mut threads, mut rows, mut deterministic, mut die_with) = (None, None, None, None);
    let mut writes: Option<Vec<PathBuf>> = None;
    let (mut world, mut ranks) = (false, RankOptions::default());
    let (mut join, mut role, mut patience) = (None, None, PATIENCE);
    let mut peer_limit = member::STEP_LIMIT;
    while let Some(flag) = arguments.next() {
        let mut value = || {
            arguments
                .next()
                .with_context(|| format!("{flag} needs a value; see --help"))
        };
        match flag.as_str() {
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            "--version" | "-V" => {
                println!(
                    "demask-engine {} (libtorch {})",
                    env!("CARGO_PKG_VERSION"),
                    cuda::torch_version()
                );
                return Ok(None);
            }
            "--socket" => socket = Some(PathBuf::from(value()?)),
            "--device" => device = value()?,
            "--dtype" => dtype = value()?,
            "--threads" => threads = Some(number(&flag, &value()?)?),
            "--rows" => rows = Some(number(&flag, &value()?)?),
            "--deterministic" => {
                deterministic = Some(match value()?.as_str() {
                    "on" => true,
                    "off" => false,
                    other => bail!("--deterministic {other}: expected on or off"),
                });
            }
            "--world" => match value()?.as_str() {
                "env" => world = true,
                other => bail!("--world {other}: expected env"),
            },
            "--join" => join = Some(PathBuf::from(value()?)),
            "--role" => {
                role = Some(match value()?.as_str() {
                    "train" => JoinRole::Train,
                    "sample" => JoinRole::Sample,
                    other => bail!("--role {other}: expected train or sample"),
                });
            }
            "--patience" => patience = Duration::from_secs(number(&flag, &value()?)?),
            "--peer-limit" => {
                peer_limit =
                    Duration::from_secs(number::<u64>(&flag, &value()?)?.clamp(1, LONGEST_PEER_LIMIT));
            }
            "--reduction" => {
                ranks.reduction = match value()?.as_str() {
                    "exact" => Reduction::Exact,
                    "fast" => Reduction::Fast,
                    other => bail!("--reduction {other}: expected exact or fast"),
                };
            }
            "--shard" => {
                ranks.shard = match value()?.as_str() {
                    "state" => Shard::State,
                    "weights" => Shard::Weights,
                    other => bail!("--shard {other}: expected state or weights"),
                };
            }
            "--die-with" => die_with = Some(number(&flag, &value()?)?),
            "--writes" => {
                let (folder, folders) = (value()?, writes.get_or_insert_default());
                if !folder.is_empty() {
                    folders.push(PathBuf::from(folder));
                }
            }
            other => bail!("unknown argument {other}; see --help"),
        }
    }
    if ranks.shard == Shard::Weights && ranks.reduction == Reduction::Fast {
        bail!(
            "--reduction fast: gradients of sharded weights are always added exactly; leave it out, or use --shard state"
        );
    }
    if role.is_some() && join.is_none() {
        bail!(
            "--role is only for an engine that joins a daemon; give the daemon's join file with --join FILE"
        );
    }
    let join = join.map(|file| (file, role.unwrap_or(JoinRole::Train)));
    if join.is_some() && (socket.is_some() || ranks.reduction == Reduction::Fast) {
        bail!("--join cannot be combined with --socket or with --reduction fast");
    }
    world |= matches!(join, Some((_, JoinRole::Train)));
    // A rank of a world may have no socket: only rank 0 serves clients.
    let socket = match socket {
        None if world || join.is_some() => PathBuf::new(),
        other => other.context("--socket PATH is missing; see --help")?,
    };
    Ok(Some(EngineArguments {
        socket,
        device,
        dtype,
        threads,
        rows,
        deterministic,
        die_with,
        writes,
        world,
        ranks,
        join,
        patience,
        peer_limit,
    }))
}

fn number<T: std::str::FromStr>(flag: &str, text: &str) -> anyhow::Result<T> {
    text.parse()
        .ok()
        .with_context(|| format!("{flag} {text}: expected a number"))
}
