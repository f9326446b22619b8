//! The home: the folder of everything that outlives a process, its lock for the one daemon that may own it, and its
//! sockets.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Longest socket path in bytes that every Unix accepts (`sun_path` without the NUL; 104 on the BSDs, 108 on Linux).
const LONGEST_SOCKET: usize = 103;
/// Suffix of the name of a checkpoint that is being replaced by another one of the same step.
const BEFORE: &str = ".before";

/// The reason why the home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No folder can be determined.
    #[error("there is no home folder: set --home, DEMASK_HOME, XDG_DATA_HOME or HOME")]
    Nowhere,
    /// The file system reports an error.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// The error.
        source: std::io::Error,
    },
    /// Another daemon owns this home.
    #[error(
        "a daemon (process {pid}) already owns {home}: stop it with `demask daemon stop`, or name another folder with --home"
    )]
    Taken {
        /// The home.
        home: PathBuf,
        /// Process id of its daemon.
        pid: u32,
    },
    /// Another user owns the folder of the socket.
    #[error(
        "{path} belongs to user {found}, expected {expected}: using it would not be safe; set XDG_RUNTIME_DIR to a folder of \
         your own with a short path"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// User id of its owner.
        found: u32,
        /// User id of this process.
        expected: u32,
    },
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HomeError + '_ {
    |source| HomeError::Io {
        path: path.to_owned(),
        source,
    }
}

/// The folder of the database, pictures, logs and checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    root: PathBuf,
    runtime: PathBuf,
}

impl Home {
    /// Opens the named folder, else `$DEMASK_HOME`, else `$XDG_DATA_HOME/demask`, else `~/.local/share/demask`. It
    /// creates nothing yet.
    ///
    /// # Errors
    /// [`HomeError::Nowhere`]; [`HomeError::Io`] if the working directory no longer exists.
    pub fn open(named: Option<PathBuf>) -> Result<Self, HomeError> {
        let variable = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let root = named
            .or_else(|| variable("DEMASK_HOME"))
            .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("demask")))
            .or_else(|| variable("HOME").map(|home| home.join(".local/share/demask")))
            .ok_or(HomeError::Nowhere)?;
        let root = resolved(&std::path::absolute(&root).map_err(io(&root))?);
        let runtime = match variable("XDG_RUNTIME_DIR") {
            Some(folder) if folder.is_absolute() => folder.join("demask"),
            _ => PathBuf::from(format!("/tmp/demask-{}", user())),
        };
        Ok(Self { root, runtime })
    }

    /// Returns the folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the SQLite file.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.root.join("demask.db")
    }

    /// Returns the folder of pictures, which are named by their content.
    #[must_use]
    pub fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Returns the folder of a run's checkpoints.
    #[must_use]
    pub fn checkpoints(&self, run: &str) -> PathBuf {
        self.root.join("checkpoints").join(run)
    }

    /// Removes what was left in a run's folder: the work folders of killed engines, `.step-N.PROCESS.demask-saving`,
    /// and the marks of killed daemons (`engine/join/folder_mark.rs`). It also restores checkpoints that were set aside
    /// and not replaced. Call it only while no engine of the run is writing.
    pub fn sweep(&self, run: &str) {
        let Ok(entries) = std::fs::read_dir(self.checkpoints(run)) else {
            return;
        };
        for entry in entries.flatten() {
            let (name, path) = (entry.file_name(), entry.path());
            let Some(hidden) = name.to_str().and_then(|name| name.strip_prefix('.')) else {
                continue;
            };
            let kept = hidden.strip_suffix(BEFORE).map(|step| path.with_file_name(step));
            match kept.filter(|kept| !kept.exists()) {
                Some(kept) => std::fs::rename(path, kept).ok(),
                None => std::fs::remove_dir_all(&path)
                    .or_else(|_| std::fs::remove_file(&path))
                    .ok(),
            };
        }
    }

    /// Renames an existing checkpoint folder and returns its new name; `None` if there was none. [`Self::sweep`]
    /// restores it if no other checkpoint takes its place.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn set_aside(&self, checkpoint: &Path) -> std::io::Result<Option<PathBuf>> {
        if !checkpoint.exists() {
            return Ok(None);
        }
        let name = checkpoint.file_name().unwrap_or_default().to_string_lossy();
        let aside = checkpoint.with_file_name(format!(".{name}{BEFORE}"));
        if aside.exists() {
            std::fs::remove_dir_all(&aside)?;
        }
        std::fs::rename(checkpoint, &aside)?;
        Ok(Some(aside))
    }

    /// Returns the folder of the nameless files into which packed data is unpacked.
    #[must_use]
    pub fn unpacked(&self) -> PathBuf {
        self.root.join("unpacked")
    }

    /// Returns the file that counts the daemons that died of a run since its last step.
    #[must_use]
    pub fn lives(&self, run: &str) -> PathBuf {
        self.root.join("lives").join(run)
    }

    /// Returns the daemon's log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("daemon.log")
    }

    /// Returns the engine's log.
    #[must_use]
    pub fn engine_log(&self) -> PathBuf {
        self.root.join("engine.log")
    }

    /// Returns the locked file that holds the daemon's process id and version.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.root.join("daemon.pid")
    }

    /// Returns the folder of this home's sockets. Its path is short enough for a socket path.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        // An engine's socket has the longest name: `engine-` and 14 digits.
        if self.runtime.as_os_str().len() + "/engine-0123456789abcd.sock".len() <= LONGEST_SOCKET {
            return self.runtime.clone();
        }
        PathBuf::from(format!("/tmp/demask-{}", user()))
    }

    /// Returns the control socket, in a folder for this user only. Its name contains a hash of the home's path, so that
    /// each home has its own.
    ///
    /// # Errors
    /// As [`Self::make_socket_dir`].
    pub fn socket(&self) -> Result<PathBuf, HomeError> {
        Ok(self.make_socket_dir()?.join(self.socket_name()))
    }

    fn socket_name(&self) -> String {
        let hash = blake3::hash(self.root.as_os_str().as_encoded_bytes()).to_hex();
        format!("{}.sock", &hash[..16])
    }

    /// Creates the folder of the sockets, for this user only.
    ///
    /// # Errors
    /// Any error of the file system; [`HomeError::Foreign`] if another user owns the folder.
    pub fn make_socket_dir(&self) -> Result<PathBuf, HomeError> {
        let folder = self.socket_dir();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(io(&folder))?;
        let found = std::fs::symlink_metadata(&folder).map_err(io(&folder))?;
        if found.uid() != user() || !found.is_dir() {
            return Err(HomeError::Foreign {
                path: folder,
                found: found.uid(),
                expected: user(),
            });
        }
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&folder, private).map_err(io(&folder))?;
        Ok(folder)
    }

    /// Returns the process id of the daemon that owns this home now.
    #[must_use]
    pub fn daemon_pid(&self) -> Option<u32> {
        // A link or a named pipe at this path is no lock, and opening it might block for ever.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.pid_file())
            .ok()
            .filter(|file| file.metadata().is_ok_and(|found| found.is_file()))?;
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => read_pid(file),
            _ => None,
        }
    }

    /// Locks the home for this process until the returned lock is dropped.
    ///
    /// # Errors
    /// [`HomeError::Taken`], which names the owner; [`HomeError::Io`] for an error of the file system.
    pub fn lock(&self) -> Result<DaemonLock, HomeError> {
        std::fs::create_dir_all(&self.root).map_err(io(&self.root))?;
        let path = self.pid_file();
        let mut file = open_own(&path).map_err(io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                // Another process is only reading who owns the home, which takes a moment.
                Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
                    file.unlock().map_err(io(&path))?;
                    std::thread::yield_now();
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(HomeError::Taken {
                        home: self.root.clone(),
                        pid: read_pid(file).unwrap_or(0),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(io(&path)(error)),
            }
        }
        file.set_len(0).map_err(io(&path))?;
        writeln!(file, "{} {}", std::process::id(), env!("CARGO_PKG_VERSION")).map_err(io(&path))?;
        Ok(DaemonLock { _file: file })
    }
}

/// Opens the lock file for this user only. It does not follow a link, because the link's target would be overwritten.
/// It refuses anything but a regular file, because opening it might block for ever (law L9).
fn open_own(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ELOOP) => std::io::Error::other(
                "it is a symbolic link; remove it, because the daemon writes its process id there",
            ),
            _ => error,
        })?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(std::io::Error::other(
            "it is not a regular file; remove it, because the daemon writes its process id there",
        ));
    }
    if found.mode() & 0o077 != 0 {
        // Anyone who may open the file could hold the lock.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    }
    Ok(file)
}

/// Opens a log to append to it, for this user only. Anything but a regular file is refused, because a pipe would wait
/// for a reader and then for room (law L10).
///
/// # Errors
/// Any error of the file system; an error that says what to do if it is not a regular file.
pub fn open_log(path: &Path) -> std::io::Result<File> {
    let refused =
        || std::io::Error::other("it is not a regular file; remove it, because a log is written there");
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    let file = opened.map_err(|error| match error.raw_os_error() {
        // A pipe that nobody reads, or a socket.
        Some(libc::ENXIO) => refused(),
        _ => error,
    })?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(refused()),
    }
}

/// Resolves the links in the existing part of a path, so that two names of one home lead to one daemon.
fn resolved(path: &Path) -> PathBuf {
    for there in path.ancestors() {
        if let (Ok(real), Ok(rest)) = (there.canonicalize(), path.strip_prefix(there)) {
            return if rest.as_os_str().is_empty() {
                real
            } else {
                real.join(rest)
            };
        }
    }
    path.to_owned()
}

/// A lock that makes the home this process's while it lives.
#[derive(Debug)]
pub struct DaemonLock {
    _file: File,
}

fn read_pid(mut file: File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

fn user() -> u32 {
    // SAFETY: `getuid` has no preconditions and cannot fail.
    unsafe { libc::getuid() }
}

/// Returns the bytes that this user may still write where a path lies or will lie; `None` where the system does not
/// report it.
#[must_use]
pub fn free_bytes(path: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let existing = path.ancestors().find(|folder| folder.is_dir())?;
    let name = std::ffi::CString::new(existing.as_os_str().as_bytes()).ok()?;
    // SAFETY: `name` is a NUL-terminated string and `stat` a plain struct that the call fills in.
    let stat = unsafe {
        let mut stat: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(name.as_ptr(), &raw mut stat) == 0).then_some(stat)
    }?;
    Some(stat.f_bavail * stat.f_frsize)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn l9_a_link_to_a_home_is_that_home_and_a_link_or_a_queue_in_place_of_the_lock_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        std::fs::create_dir(&real).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let open = |path: &Path| Home::open(Some(path.to_owned())).unwrap();
        assert_eq!(open(&real).socket_name(), open(&link).socket_name());
        assert_eq!(open(&link.join("new")), open(&real.join("new")));
        let (home, target) = (open(&real), folder.path().join("precious"));
        std::fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, home.pid_file()).unwrap();
        assert!(
            home.lock()
                .unwrap_err()
                .to_string()
                .contains("it is a symbolic link")
        );
        assert_eq!(
            (std::fs::read(&target).unwrap(), home.daemon_pid()),
            (b"precious".into(), None)
        );
        std::fs::remove_file(home.pid_file()).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(home.pid_file())
            .status()
            .unwrap();
        assert!(made.success() && home.daemon_pid().is_none());
        assert!(
            home.lock()
                .unwrap_err()
                .to_string()
                .contains("not a regular file")
        );
        std::fs::remove_file(home.pid_file()).unwrap();
        let _lock = home.lock().unwrap();
        assert_eq!(std::fs::metadata(home.pid_file()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn l10_a_pipe_in_place_of_a_log_is_refused_whether_it_is_read_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let (log, pipe) = (folder.path().join("engine.log"), folder.path().join("pipe"));
        for line in ["a\n", "b\n"] {
            open_log(&log).unwrap().write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "a\nb\n");
        assert_eq!(std::fs::metadata(&log).unwrap().mode() & 0o777, 0o600);
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        let refused = || open_log(&pipe).unwrap_err().to_string();
        assert!(
            refused().contains("not a regular file; remove it"),
            "{}",
            refused()
        );
        // A reader that does not wait for a writer.
        let _reader = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&pipe)
            .unwrap();
        assert!(
            refused().contains("not a regular file; remove it"),
            "{}",
            refused()
        );
    }

    #[test]
    fn one_daemon_a_home_and_its_process_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        assert_eq!(home.daemon_pid(), None);
        let lock = home.lock().unwrap();
        assert_eq!(home.daemon_pid(), Some(std::process::id()));
        assert!(matches!(home.lock(), Err(HomeError::Taken { pid, .. }) if pid == std::process::id()));
        drop(lock);
        assert_eq!(home.daemon_pid(), None);
    }

    #[test]
    fn whoever_looks_does_not_keep_a_daemon_from_its_home() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        drop(home.lock().unwrap());
        // Each side goes on until the other has done its part, so that neither runs alone.
        const TIMES: usize = 500;
        let [looks, locks] = [(); 2].map(|()| AtomicUsize::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while locks.load(Ordering::Relaxed) < TIMES || looks.load(Ordering::Relaxed) < TIMES {
                    let _ = home.daemon_pid();
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            });
            while looks.load(Ordering::Relaxed) < TIMES || locks.load(Ordering::Relaxed) < TIMES {
                // If this failed here, the looking thread would wait for ever.
                let locked = home.lock().map(drop);
                locks.fetch_add(if locked.is_ok() { 1 } else { TIMES }, Ordering::Relaxed);
                locked.unwrap();
            }
        });
    }

    #[test]
    fn l1_a_checkpoint_that_was_set_aside_comes_back_unless_another_took_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(Some(folder.path().to_owned())).unwrap();
        let [kept, followed] = ["step-1", "step-2"].map(|step| home.checkpoints("run").join(step));
        assert_eq!(home.set_aside(&kept).unwrap(), None);
        for (checkpoint, follows) in [(&kept, false), (&followed, true)] {
            std::fs::create_dir_all(checkpoint).unwrap();
            std::fs::write(checkpoint.join("old"), "").unwrap();
            assert!(home.set_aside(checkpoint).unwrap().unwrap().is_dir() && !checkpoint.exists());
            if follows {
                std::fs::create_dir_all(checkpoint).unwrap();
            }
        }
        std::fs::write(home.checkpoints("run").join(".mark-1"), "1").unwrap();
        home.sweep("run");
        assert!(kept.join("old").exists() && !followed.join("old").exists());
        assert_eq!(std::fs::read_dir(home.checkpoints("run")).unwrap().count(), 2);
    }

    #[test]
    fn a_socket_path_is_short_however_long_the_folders_are() {
        let long = "x".repeat(200);
        let home = Home {
            root: PathBuf::from(format!("/{long}")),
            runtime: PathBuf::from(format!("/run/{long}")),
        };
        assert!(home.socket_dir().join(home.socket_name()).as_os_str().len() <= LONGEST_SOCKET);
        let other = Home {
            root: PathBuf::from("/other"),
            ..home.clone()
        };
        assert_ne!(home.socket_name(), other.socket_name());
    }
}
