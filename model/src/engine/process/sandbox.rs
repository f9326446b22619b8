//! The engine's sandbox: no network, no other programs, and writes only below the folders that its parent
//! names. The engine reads files that others made, and a flaw in a parsing library must not lead to more than
//! wrong numbers.
//!
//! Landlock restricts writes; seccomp restricts sockets and programs. Both are enforced by the kernel and
//! last as long as the process. Landlock applies to the calling thread and to the threads that it starts, so
//! the sandbox must be applied before other threads exist. If the kernel lacks one of the two, the engine
//! continues without it and reports so.
//!
//! Beside an NVIDIA device the sandbox is loose, because the driver's library and NCCL open what differs from machine to
//! machine, and they are not asked to say what:
//!
//! - Writes are not restricted. The driver opens its devices (`/dev/nvidia*`, `/dev/nvidia-caps`), a cache of compiled
//!   kernels (`CUDA_CACHE_PATH`, else `~/.nv`) and pipes of its services (`/tmp/nvidia-mps`); NCCL opens shared memory
//!   (`/dev/shm/nccl-*`) and the devices of the network (`/dev/infiniband`, `/dev/gdrdrv`). Landlock would also
//!   forbid a rank to reach into another one's process, which CUDA may do to map its memory.
//! - Programs may be started, because the driver's library starts one that creates missing devices.
//! - Sockets to other machines are refused to an engine alone, but not to a rank: NCCL connects ranks over TCP, and over
//!   InfiniBand where there is some.

use std::path::{Path, PathBuf};

/// The environment variable that loosens the sandbox. `off`: no sandbox; `network`: sockets of every kind,
/// which engines need to reach one another.
pub const SANDBOX: &str = "DEMASK_SANDBOX";
/// The control device of the NVIDIA driver, which shows that an NVIDIA GPU may be used.
const DRIVER: &str = "/dev/nvidiactl";
/// The devices by which a GPU is used where there is no [`DRIVER`]: that of the Windows subsystem for Linux, and that of
/// systems on a chip.
const OTHER_DRIVERS: [&str; 2] = ["/dev/dxg", "/dev/nvmap"];
/// The memory device of the NVIDIA driver. If it is missing, the driver's library starts another program to
/// create it.
const DRIVER_MEMORY: &str = "/dev/nvidia-uvm";

/// What the sandbox allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// The folders below which writes are allowed; `None`: everywhere.
    pub writes: Option<Vec<PathBuf>>,
    /// A folder in which sockets may be created and removed.
    pub sockets: Option<PathBuf>,
    /// Whether sockets other than Unix sockets are allowed.
    pub network: bool,
    /// Whether computing on an NVIDIA device is allowed.
    pub gpu: bool,
}

impl Sandbox {
    /// Applies the sandbox, loosened as [`SANDBOX`] asks, to this thread and the threads that it starts.
    /// Returns a description of what is enforced, and of why the rest is not.
    #[must_use]
    pub fn apply(mut self) -> String {
        match std::env::var(SANDBOX).as_deref() {
            Ok("off") => return format!("off: switched off by {SANDBOX}"),
            Ok("network") => self.network = true,
            _ => {}
        }
        if self.gpu && Path::new(DRIVER).exists() && !Path::new(DRIVER_MEMORY).exists() {
            return format!("off: the driver has not created {DRIVER_MEMORY} yet");
        }
        kernel::hold(&self)
    }

    /// Returns whether an engine that is asked for this device may compute on an NVIDIA GPU.
    #[must_use]
    pub fn may_use_gpu(device: &str) -> bool {
        let is_off = device == "cpu" || std::env::var_os("DEMASK_NO_CUDA").is_some();
        !is_off && has_driver(&|path| Path::new(path).exists())
    }
}

/// Returns whether one of the devices exists by which a GPU is used.
fn has_driver(exists: &dyn Fn(&str) -> bool) -> bool {
    exists(DRIVER) || OTHER_DRIVERS.into_iter().any(exists)
}

#[cfg(not(target_os = "linux"))]
mod kernel {
    use super::Sandbox;

    pub fn hold(_: &Sandbox) -> String {
        "off: this system has neither Landlock nor seccomp".into()
    }
}

#[cfg(target_os = "linux")]
mod kernel {
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};

    use landlock::{
        ABI, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
        RulesetStatus,
    };
    use seccompiler::{
        BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    use super::Sandbox;

    /// The newest Landlock version whose write rights are handled, as far as the kernel has them; it includes
    /// truncation. The right to control devices is not handled.
    const WRITES: ABI = ABI::V3;
    /// The file that programs write discarded output to.
    const NOWHERE: &str = "/dev/null";
    /// The socket families that are refused beside a GPU, whose driver has no use for them.
    const BEYOND: [i32; 4] = [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_VSOCK];

    pub fn hold(sandbox: &Sandbox) -> String {
        let writes = match &sandbox.writes {
            None => "writes everywhere".into(),
            Some(_) if sandbox.gpu => "writes everywhere, beside a GPU".into(),
            Some(folders) => hold_writes(sandbox, folders),
        };
        format!("{writes}; {}", hold_calls(sandbox))
    }

    fn hold_writes(sandbox: &Sandbox, folders: &[std::path::PathBuf]) -> String {
        let lacking = |error: &dyn std::fmt::Display| format!("writes everywhere: Landlock: {error}");
        // The description names the folders that Landlock allows: for a folder that does not exist yet, the
        // nearest existing ancestor, which allows more than was asked for.
        let held: Vec<PathBuf> = match folders.iter().map(|folder| existing(folder)).collect() {
            Ok(held) => held,
            Err(error) => return lacking(&error as &std::io::Error),
        };
        let create = || -> Result<RulesetStatus, Box<dyn std::error::Error>> {
            let all = AccessFs::from_write(WRITES);
            let mut rules = Ruleset::default().handle_access(all)?.create()?;
            for folder in &held {
                rules = rules.add_rule(PathBeneath::new(PathFd::new(folder)?, all))?;
            }
            if let Some(sockets) = &sandbox.sockets {
                let only: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile;
                rules = rules.add_rule(PathBeneath::new(PathFd::new(existing(sockets)?)?, only))?;
            }
            rules = rules.add_rule(PathBeneath::new(PathFd::new(NOWHERE)?, AccessFs::WriteFile))?;
            Ok(rules.restrict_self()?.ruleset)
        };
        let names: Vec<String> = held.iter().map(|folder| folder.display().to_string()).collect();
        let where_to = if names.is_empty() {
            "nowhere".to_owned()
        } else {
            format!("only below {}", names.join(", "))
        };
        match create() {
            Ok(RulesetStatus::FullyEnforced) => format!("writes {where_to}"),
            Ok(RulesetStatus::PartiallyEnforced) => {
                format!("writes {where_to} (this kernel's Landlock cannot prevent truncation of files)")
            }
            Ok(RulesetStatus::NotEnforced) => lacking(&"this kernel does not have it, or it is disabled"),
            Err(error) => lacking(&error),
        }
    }

    /// Returns the folder, or its nearest existing ancestor.
    fn existing(folder: &Path) -> std::io::Result<PathBuf> {
        let folder = std::path::absolute(folder)?;
        let there = folder.ancestors().find(|path| path.is_dir());
        Ok(there.unwrap_or(&folder).to_owned())
    }

    fn hold_calls(sandbox: &Sandbox) -> String {
        let words = match (sandbox.network, sandbox.gpu) {
            (false, false) => "no network, no other program",
            (true, false) => "network, no other program",
            (false, true) => "no network",
            (true, true) => return "network and other programs, beside a GPU".into(),
        };
        let apply = || -> Result<(), Box<dyn std::error::Error>> {
            let target = std::env::consts::ARCH.try_into()?;
            let refuse = SeccompAction::Errno(libc::EACCES as u32);
            let filter = SeccompFilter::new(refused(sandbox)?, SeccompAction::Allow, refuse, target)?;
            seccompiler::apply_filter_all_threads(&BpfProgram::try_from(filter)?)?;
            Ok(())
        };
        apply().map_or_else(|error| format!("network: seccomp: {error}"), |()| words.into())
    }

    /// Returns the system calls to refuse. A call with conditions is refused if one of them holds, and a call
    /// without conditions is always refused.
    fn refused(sandbox: &Sandbox) -> Result<BTreeMap<i64, Vec<SeccompRule>>, seccompiler::BackendError> {
        let family = |operator, family: i32| {
            let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, operator, family as u64)?;
            SeccompRule::new(vec![condition])
        };
        let mut calls = BTreeMap::new();
        if !sandbox.network {
            let families = if sandbox.gpu {
                BEYOND
                    .map(|one| family(SeccompCmpOp::Eq, one))
                    .into_iter()
                    .collect::<Result<_, _>>()?
            } else {
                vec![family(SeccompCmpOp::Ne, libc::AF_UNIX)?]
            };
            calls.insert(libc::SYS_socket, families);
            // `io_uring` can create sockets that this filter does not see.
            calls.insert(libc::SYS_io_uring_setup, Vec::new());
        }
        if !sandbox.gpu {
            for call in [
                libc::SYS_execve,
                libc::SYS_execveat,
                libc::SYS_ptrace,
                libc::SYS_process_vm_writev,
            ] {
                calls.insert(call, Vec::new());
            }
        }
        Ok(calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_known_by_each_of_its_drivers() {
        let with = |there: &'static str| has_driver(&|path| path == there);
        assert!(with("/dev/nvidiactl") && with("/dev/dxg") && with("/dev/nvmap"));
        assert!(!with("/dev/null"));
    }
}
