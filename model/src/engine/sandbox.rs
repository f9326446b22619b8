//! What this process may do beside computing: nothing on the network, no other program, and writes only below the folders that
//! whoever starts it names. What it reads was made by others, and a flaw in a library is not to become more than wrong numbers.
//!
//! Landlock holds the writes, seccomp the sockets and programs; both are the kernel's and for the life of the process. Landlock
//! holds the thread that asks and those that it starts, so this comes before any other thread. Where the kernel lacks one of
//! them, the engine goes on and says so. Beside an NVIDIA device writes are not held: the driver's library opens what it likes.

use std::path::{Path, PathBuf};

/// `off`: no sandbox; `network`: sockets of every kind, for engines that talk to one another.
pub const SANDBOX: &str = "DEMASK_SANDBOX";
/// The driver's device; whoever finds it may compute on it.
const DRIVER: &str = "/dev/nvidiactl";
/// What the driver's library would have another program make, if it were not there.
const DRIVER_MEMORY: &str = "/dev/nvidia-uvm";

/// What is to be held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Folders below which may be written; none: everywhere.
    pub writes: Option<Vec<PathBuf>>,
    /// A folder in which sockets may be made and removed.
    pub sockets: Option<PathBuf>,
    /// Whether sockets that reach beyond this machine are allowed.
    pub network: bool,
    /// Whether an NVIDIA device may be computed on.
    pub gpu: bool,
}

impl Sandbox {
    /// What the environment leaves of it, applied to this thread and those that it starts; what holds now, in words, and why what does
    /// not.
    #[must_use]
    pub fn apply(mut self) -> String {
        match std::env::var(SANDBOX).as_deref() {
            Ok("off") => return format!("off: {SANDBOX} says so"),
            Ok("network") => self.network = true,
            _ => {}
        }
        if self.gpu && !Path::new(DRIVER_MEMORY).exists() {
            return format!("off: {DRIVER_MEMORY} is yet to be made by the driver");
        }
        kernel::hold(&self)
    }

    /// Whether an engine that is asked for this device may compute on an NVIDIA one.
    #[must_use]
    pub fn may_use_gpu(device: &str) -> bool {
        device != "cpu" && std::env::var_os("DEMASK_NO_CUDA").is_none() && Path::new(DRIVER).exists()
    }
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

    /// The kernel's version of Landlock whose rights of writing are held where it has them: truncation is among them. The
    /// rights to speak to devices are left alone.
    const WRITES: ABI = ABI::V3;
    /// What programs throw away.
    const NOWHERE: &str = "/dev/null";
    /// Kinds of sockets that a GPU's driver has no use for.
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
        // What is held is told, which is more than was asked for where a folder is not there yet.
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
                format!("writes {where_to} (this kernel's Landlock lets files be cut short)")
            }
            Ok(RulesetStatus::NotEnforced) => lacking(&"this kernel has none, or it is switched off"),
            Err(error) => lacking(&error),
        }
    }

    /// The folder, or the nearest above it that is there.
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

    /// System calls that are refused; one without a condition always.
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
            // It can make sockets that no rule here sees.
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
