//! The options with which an engine is started, and the command line that they make.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use demask_api::{JoinRole, Shard, limits};
use tokio::process::Command;

use super::liveness::Urgency;
use crate::runtime::ids;

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
    /// Builds the engine's command line, except the arguments of its rank.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.args(["--device", &self.device, "--dtype", &self.dtype]);
        command.arg("--die-with").arg(std::process::id().to_string());
        if let Some(threads) = self.threads_each() {
            command.args(["--threads", &threads.to_string()]);
        }
        if let Some(folders) = &self.writes {
            // An empty folder permits writing nowhere.
            command.args(["--writes", ""]);
            for folder in folders {
                command.arg("--writes").arg(folder);
            }
        }
        if self.ranks.is_some() && self.shard == Shard::Weights {
            command.args(["--shard", "weights"]);
        }
        if let Some((trainers, number)) = self.beside {
            command.args(["--beside", &format!("{trainers},{number}")]);
        }
        if let Some(rows) = self.rows {
            command.args(["--rows", &rows.to_string()]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Returns a path for the engine's socket that no other engine has.
    pub(super) fn new_socket(&self) -> PathBuf {
        let id = ids::new_id().simple().to_string();
        let short: String = id.chars().skip(18).collect();
        self.socket_dir.join(format!("engine-{short}.sock"))
    }

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
