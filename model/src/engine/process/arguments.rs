//! The command line of an engine: its arguments, and what they mean for its sandbox and for the daemon that it joins.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use demask_api::join::{JoiningEngine, PATIENCE};
use demask_api::limits::{self, CountRange};
use demask_api::machine::host_name;
use demask_api::{JoinRole, PROTOCOL, Shard};

use super::fault::FAULT;
use super::sandbox::Sandbox;
use crate::device::cuda;
use crate::engine::seat::Seat;
use crate::training::ranks::{RankOptions, Reduction};
use crate::world::join::relay::Joining;
use crate::world::member::STEP_LIMIT;

const HELP: &str = "demask-engine: the process that computes for Demask; usually started by the daemon or the demask command

Usage: demask-engine --socket PATH [--device auto|cpu|cuda|cuda:N] [--dtype auto|f32|bf16] [--threads N] [--rows N]
                     [--deterministic on|off] [--die-with PID] [--writes FOLDER]... [--world env] [--reduction exact|fast]
                     [--shard state|weights] [--peer-limit SECONDS] [--beside TRAINERS,NUMBER]
       demask-engine --join FILE [--role train|sample] [--patience SECONDS] …

--device: auto is cuda if a GPU can be used, else cpu. With cuda a rank takes the GPU of its number on this machine (LOCAL_RANK,
SLURM_LOCALID), or the only one that it sees; cuda:N is the same N for every rank. No two ranks may have the same GPU.
--beside TRAINERS,NUMBER: the engine is the NUMBER-th (from 0) that samples beside TRAINERS processes that train on this machine. With
cuda it takes a GPU that none of them has, in turn, or shares theirs in turn if there is none.

--rows: the largest number of sequences that are sampled at the same time (default 64); a sequence with guidance counts twice.
--deterministic: on a GPU, on gives the same bits for the same work where libtorch supports it, off the fastest kernels (default on;
off with DEMASK_DETERMINISTIC=0). DEMASK_NO_CUDA=1: no GPU is used. DEMASK_KERNELS=amx|avx512bf16|avx512|avx2|plain: the
CPU's kernels.
--writes: the engine may write below this folder only; may be repeated; an empty FOLDER forbids all writes. Default: everywhere. If
the kernel has Landlock and seccomp, the engine also has no network and starts no program. DEMASK_SANDBOX=off turns off all of this,
DEMASK_SANDBOX=network allows sockets.
--world env: the process is a rank of a world; torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) give its place. Only
rank 0 has the socket, and it commands the other ranks. A rank that loses a peer exits with 75. Without --world they are ignored.
--join FILE: the engine serves the daemon that wrote FILE (`demask daemon start --listen ADDR --join-file FILE`) instead of a socket. It
is a rank of a world as with --world env, of which only rank 0 connects to the daemon, or with --role sample a single engine that only
samples. It exits with 0 when its work is done, and with 75 when it should be started again: it lost a peer, or it could not reach the
daemon for longer than --patience (default 120 s, at most a day).
--reduction: exact (default) adds gradients in the order of the units, so the bits do not depend on the number of ranks; with fast
they do.
--shard: what is divided among the ranks: state (the optimizer state; default), or weights (the weights too, which are gathered block
by block); the bits are the same.
--peer-limit: how long a rank waits for a peer within a step, for a sign of life of rank 0, and (at most 60 s) for the file by which
it shows that it sees the daemon's folder (default 120 s, at most a day).
The engine handles one request after the other, but sampling requests of several clients together, until it is asked to exit. SIGTERM
ends it after the requests that have arrived, a second SIGTERM at once. It exits with 70 if its device failed.

Example: demask-engine --socket /tmp/engine.sock --device cpu --threads 2";

/// The error that the arguments of an engine cannot be used, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ArgumentError(String);

/// What the command line of an engine asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To compute.
    Compute(Box<EngineArguments>),
    /// To print this text.
    Print(String),
}

/// The arguments of an engine.
#[derive(Clone, Debug)]
pub struct EngineArguments {
    /// The socket on which it serves clients.
    pub socket: Option<PathBuf>,
    /// Device: `auto`, `cpu`, `cuda`, `cuda:N`.
    pub device: String,
    /// Compute dtype: `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// CPU threads; absent: the engine decides.
    pub threads: Option<usize>,
    /// The largest number of sequences that are sampled at the same time; absent: the engine decides.
    pub rows: Option<usize>,
    /// Whether a GPU gives the same bits for the same work; absent: the environment decides.
    pub deterministic: Option<bool>,
    /// The process with which this one ends.
    pub die_with: Option<i32>,
    /// The folders below which it may write; absent: everywhere.
    pub writes: Option<Vec<PathBuf>>,
    /// Whether this process is a rank of a world, whose place the environment gives.
    pub world: bool,
    /// The options of training on several ranks.
    pub ranks: RankOptions,
    /// The join file of the daemon to serve.
    pub join: Option<PathBuf>,
    /// The role in which it joins.
    pub role: Option<JoinRole>,
    /// How long it tries to reach the daemon that it joins.
    pub patience: Duration,
    /// How long a rank waits for its peers within a step.
    pub peer_limit: Duration,
    /// The seat of a sampling engine that the daemon starts beside the processes that train.
    pub beside: Option<Seat>,
}

impl Default for EngineArguments {
    fn default() -> Self {
        Self {
            socket: None,
            device: "auto".to_owned(),
            dtype: "auto".to_owned(),
            threads: None,
            rows: None,
            deterministic: None,
            die_with: None,
            writes: None,
            world: false,
            ranks: RankOptions::default(),
            join: None,
            role: None,
            patience: PATIENCE,
            peer_limit: STEP_LIMIT,
            beside: None,
        }
    }
}

impl EngineArguments {
    /// Parses the arguments after the program's name.
    ///
    /// # Errors
    /// Returns [`ArgumentError`] if one of them is unknown or has a wrong value, or if they exclude one another.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Invocation, ArgumentError> {
        let mut parsed = Self::default();
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--help" | "-h" => return Ok(Invocation::Print(HELP.to_owned())),
                "--version" | "-V" => return Ok(Invocation::Print(version())),
                flag => parsed.set(flag, &mut arguments)?,
            }
        }
        parsed
            .checked()
            .map(|parsed| Invocation::Compute(Box::new(parsed)))
    }

    /// Sets what one argument says. Its value is the next argument.
    fn set(&mut self, flag: &str, arguments: &mut impl Iterator<Item = String>) -> Result<(), ArgumentError> {
        let mut value = || {
            let missing = || ArgumentError(format!("{flag} needs a value; see --help"));
            arguments.next().ok_or_else(missing)
        };
        match flag {
            "--socket" => {
                self.socket = Some(PathBuf::from(value()?)).filter(|path| !path.as_os_str().is_empty())
            }
            "--device" => self.device = value()?,
            "--dtype" => self.dtype = value()?,
            "--threads" => self.threads = Some(count(flag, &value()?, limits::THREADS)?),
            "--rows" => self.rows = Some(count(flag, &value()?, limits::ROWS)?),
            "--deterministic" => {
                let words = [("on", true), ("off", false)];
                self.deterministic = Some(one_of(flag, &value()?, &words)?);
            }
            "--world" => self.world = one_of(flag, &value()?, &[("env", true)])?,
            "--join" => self.join = Some(PathBuf::from(value()?)),
            "--role" => {
                let roles = [("train", JoinRole::Train), ("sample", JoinRole::Sample)];
                self.role = Some(one_of(flag, &value()?, &roles)?);
            }
            "--patience" => self.patience = Duration::from_secs(seconds(flag, &value()?)?),
            "--peer-limit" => {
                self.peer_limit = Duration::from_secs(seconds(flag, &value()?)?.max(1));
            }
            "--reduction" => {
                let reductions = [("exact", Reduction::Exact), ("fast", Reduction::Fast)];
                self.ranks.reduction = one_of(flag, &value()?, &reductions)?;
            }
            "--shard" => {
                let shards = [("state", Shard::State), ("weights", Shard::Weights)];
                self.ranks.shard = one_of(flag, &value()?, &shards)?;
            }
            "--beside" => {
                let text = value()?;
                let seat = text.parse::<Seat>();
                self.beside = Some(seat.map_err(|wrong| ArgumentError(format!("{flag} {text}: {wrong}")))?);
            }
            "--die-with" => self.die_with = Some(number(flag, &value()?)?),
            "--writes" => {
                let (folder, folders) = (value()?, self.writes.get_or_insert_default());
                if !folder.is_empty() {
                    folders.push(PathBuf::from(folder));
                }
            }
            other => return wrong(&format!("unknown argument {other}; see --help")),
        }
        Ok(())
    }

    /// Checks the arguments together.
    fn checked(mut self) -> Result<Self, ArgumentError> {
        let is_fast = self.ranks.reduction == Reduction::Fast;
        if self.ranks.shard == Shard::Weights && is_fast {
            return wrong(
                "--reduction fast: gradients of sharded weights are always added exactly; leave it out, or use --shard state",
            );
        }
        if self.role.is_some() && self.join.is_none() {
            return wrong(
                "--role is only for an engine that joins a daemon; give the daemon's join file with --join FILE",
            );
        }
        if self.join.is_some() && (self.socket.is_some() || is_fast) {
            return wrong("--join cannot be combined with --socket or with --reduction fast");
        }
        self.world |= self.join.is_some() && self.role != Some(JoinRole::Sample);
        // A rank of a world may have no socket: only rank 0 serves clients.
        if self.socket.is_none() && !self.world && self.join.is_none() {
            return wrong("--socket PATH is missing; see --help");
        }
        Ok(self)
    }

    /// Returns the sandbox of this process.
    #[must_use]
    pub fn sandbox(&self) -> Sandbox {
        let mut writes = self.writes.clone();
        // An injected fault removes its file when it occurs.
        if let (Some(folders), Some(fault)) = (&mut writes, std::env::var_os(FAULT)) {
            folders.extend(Path::new(&fault).parent().map(Path::to_owned));
        }
        let socket = self.socket.as_deref();
        Sandbox {
            writes,
            sockets: socket.and_then(Path::parent).map(Path::to_owned),
            // Ranks communicate over TCP, and so does an engine with the daemon that it joins.
            network: self.world || self.join.is_some(),
            gpu: Sandbox::may_use_gpu(&self.device),
        }
    }

    /// Returns the seat of this engine if it is no rank of a world. `get` returns a variable's value: sampling engines
    /// that join are started by srun or torchrun, which number them.
    #[must_use]
    pub fn seat(&self, get: &dyn Fn(&str) -> Option<String>) -> Seat {
        let joins = self.join.as_ref().and_then(|_| {
            let number = get("LOCAL_RANK").or_else(|| get("SLURM_LOCALID"))?;
            let (number, trainers) = (number.parse().ok()?, 0);
            Some(Seat::Sampler { number, trainers })
        });
        self.beside.or(joins).unwrap_or_default()
    }

    /// Checks that the rank has a socket if it serves clients.
    ///
    /// # Errors
    /// Returns [`ArgumentError`] if it has none.
    pub fn check_socket(&self, rank: usize) -> Result<(), ArgumentError> {
        match rank == 0 && self.join.is_none() && self.socket.is_none() {
            true => wrong("--socket PATH is missing: rank 0 of a world serves clients; see --help"),
            false => Ok(()),
        }
    }

    /// Returns what this engine joins, given its number of ranks, the dtype that it computes in and that of `auto`.
    #[must_use]
    pub fn joining(&self, ranks: usize, (dtype, auto_dtype): (&str, &str)) -> Option<Joining> {
        let engine = JoiningEngine {
            protocol: PROTOCOL,
            role: self.role.unwrap_or(JoinRole::Train),
            ranks,
            shard: self.ranks.shard,
            dtype: dtype.to_owned(),
            auto_dtype: auto_dtype.to_owned(),
            host: host_name(),
            pid: std::process::id(),
        };
        Some(Joining {
            file: self.join.clone()?,
            patience: self.patience,
            engine,
        })
    }
}

fn version() -> String {
    let (own, libtorch) = (env!("CARGO_PKG_VERSION"), cuda::torch_version());
    format!("demask-engine {own} (libtorch {libtorch})")
}

fn wrong<T>(message: &str) -> Result<T, ArgumentError> {
    Err(ArgumentError(message.to_owned()))
}

/// Returns what one of these words stands for.
fn one_of<T: Copy>(flag: &str, found: &str, words: &[(&str, T)]) -> Result<T, ArgumentError> {
    if let Some((_, meant)) = words.iter().find(|(word, _)| *word == found) {
        return Ok(*meant);
    }
    let expected: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    wrong(&format!("{flag} {found}: expected {}", expected.join(" or ")))
}

/// Parses a number that has to be in a range.
fn count(flag: &str, text: &str, range: CountRange) -> Result<usize, ArgumentError> {
    match number::<usize>(flag, text)? {
        number if range.contains(number as u64) => Ok(number),
        _ => wrong(&format!(
            "{flag} {text}: expected a number from {} to {}",
            range.least, range.most
        )),
    }
}

/// Parses a time to wait in seconds, which may be 0.
fn seconds(flag: &str, text: &str) -> Result<u64, ArgumentError> {
    let most = limits::SECONDS.most;
    match number::<u64>(flag, text)? {
        seconds if seconds <= most => Ok(seconds),
        _ => wrong(&format!("{flag} {text}: expected at most {most} seconds")),
    }
}

fn number<T: FromStr>(flag: &str, text: &str) -> Result<T, ArgumentError> {
    let not_one = |_| ArgumentError(format!("{flag} {text}: expected a number"));
    text.parse().map_err(not_one)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parsed(line: &str) -> Result<EngineArguments, String> {
        match EngineArguments::parse(line.split_whitespace().map(ToOwned::to_owned)) {
            Ok(Invocation::Compute(arguments)) => Ok(*arguments),
            Ok(Invocation::Print(text)) => Err(text),
            Err(wrong) => Err(wrong.to_string()),
        }
    }

    #[test]
    fn an_engine_that_joins_to_train_is_a_rank_and_one_that_samples_is_none() {
        assert!(parsed("--join f").unwrap().world);
        assert!(!parsed("--join f --role sample").unwrap().world);
        let rank = parsed("--world env --shard weights --peer-limit 0").unwrap();
        assert_eq!(rank.peer_limit, Duration::from_secs(1));
        assert_eq!(rank.ranks.shard, Shard::Weights);
        assert!(rank.check_socket(0).is_err() && rank.check_socket(1).is_ok());
    }

    #[test]
    fn a_sampling_engine_has_the_seat_that_its_starter_gives_it() {
        let numbered = |name: &str| (name == "SLURM_LOCALID").then(|| "3".to_owned());
        let seat = |line: &str| parsed(line).unwrap().seat(&numbered);
        let sampler = |trainers, number| Seat::Sampler { number, trainers };
        assert_eq!(seat("--socket s --beside 2,1"), sampler(2, 1));
        assert_eq!(seat("--join f --role sample"), sampler(0, 3));
        // A variable that was left in a shell means nothing to an engine that joins nobody.
        assert_eq!(seat("--socket s"), Seat::Alone);
        assert_eq!(
            parsed("--join f --role sample").unwrap().seat(&|_| None),
            Seat::Alone
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words() {
        for (line, words) in [
            ("", "--socket PATH is missing"),
            ("--socket", "--socket needs a value"),
            ("--sockets s", "unknown argument --sockets"),
            ("--socket s --threads many", "--threads many: expected a number"),
            (
                "--socket s --threads 99999999999",
                "--threads 99999999999: expected a number from 1 to 1024",
            ),
            (
                "--socket s --rows 0",
                "--rows 0: expected a number from 1 to 65536",
            ),
            (
                "--join f --patience 18446744073709551615",
                "expected at most 86400 seconds",
            ),
            ("--world env --peer-limit 86401", "expected at most 86400 seconds"),
            ("--socket s --deterministic maybe", "expected on or off"),
            ("--socket s --beside 1", "--beside 1: expected TRAINERS,NUMBER"),
            ("--world here", "--world here: expected env"),
            ("--socket s --role sample", "give the daemon's join file"),
            ("--join f --socket s", "cannot be combined with --socket"),
            (
                "--world env --shard weights --reduction fast",
                "or use --shard state",
            ),
            ("--help", "Usage: demask-engine"),
        ] {
            let found = parsed(line).unwrap_err();
            assert!(found.contains(words), "{line}: {found}");
        }
    }
}
