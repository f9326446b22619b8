//! `demask-engine`: the process that computes, one per device. It holds the weights and the optimizer state,
//! trains and samples, and takes requests over a Unix socket.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::Context as _;
use demask_api::Shard;
use demask_model::ModelError;
use demask_model::device::cuda;
use demask_model::engine::Engine;
use demask_model::engine::device_choice::{Place, give_freed_memory_back, keep_freed_memory};
use demask_model::engine::process::arguments::{EngineArguments, Invocation};
use demask_model::engine::process::fault::Fault;
use demask_model::engine::process::shutdown::{self, ShutdownSignal};
use demask_model::engine::seat::Seat;
use demask_model::engine::server::{self, Served};
use demask_model::sampler::Limits;
use demask_model::world::join::clients::{ClientGiver, Clients};
use demask_model::world::join::relay::{Joining, Relay};
use demask_model::world::{Membership, World, cannot_join, exit, member};

fn main() -> ExitCode {
    let invoked = EngineArguments::parse(std::env::args().skip(1)).map_err(anyhow::Error::from);
    let done = invoked.and_then(|invoked| match invoked {
        Invocation::Compute(options) => compute(&options),
        Invocation::Print(text) => {
            println!("{text}");
            Ok(())
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demask-engine: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Exits as a rank that lost its peers.
fn lost(error: &ModelError) -> ! {
    exit::leave(exit::PEER_LOST, error)
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

/// Computes until a client, a signal or the end of the parent ends this process.
fn compute(options: &EngineArguments) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
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
    let seat = match &member {
        Some(member) => Seat::of(member),
        None => options.seat(&|name| std::env::var(name).ok()),
    };
    let place = Place::choose_at(&options.device, &options.dtype, options.threads, seat);
    if let (Err(error), Some(member)) = (&place, &member) {
        cannot_join(member, error);
    }
    let place = place?;
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
    let mut fault = Fault::from_environment()?;
    if let Some(member) = member {
        let rank = member.rank;
        let world = World::join_within(member, engine.device(), member::JOIN_LIMIT, options.peer_limit);
        let world = match world {
            // What all ranks refuse alike, another start would not change; nor would it mend this rank's device.
            Err(own @ (ModelError::Refused(_) | ModelError::Torch(_))) => return Err(own.into()),
            Err(error) => lost(&error),
            Ok(world) => world,
        };
        match world.check_dtype(kind) {
            Err(error @ ModelError::World(_)) => lost(&error),
            checked => checked?,
        }
        size = world.size();
        tracing::info!("rank {rank} of {size}");
        engine = engine.in_world(Rc::new(world), options.ranks);
        if rank > 0 {
            return match engine.follow(&mut fault) {
                Err(error @ ModelError::World(_)) => lost(&error),
                // As on rank 0, nothing is freed on a device that failed.
                Err(error) if error.is_device_fault() => exit::leave(exit::FAULT, &error),
                done => Ok(done?),
            };
        }
    }
    let served = match options.joining(size, dtypes) {
        Some(joining) => serve_joined(&mut engine, joining, &shutdown, fault).context("--join")?,
        None => {
            let socket = options.socket.clone().unwrap_or_default();
            server::serve(&mut engine, &socket, &shutdown, fault)
                .with_context(|| format!("socket {}", socket.display()))?
        }
    };
    if let Served::DeviceFailed(why) = served {
        exit::leave(exit::FAULT, &why);
    }
    Ok(())
}
