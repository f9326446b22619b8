//! The database file: opened, brought up to date, never by two writers.
//!
//! - `damage.rs`: what is wrong with the files; `log.rs`: SQLite's log, read without SQLite;
//! - `salvage.rs`: rows that can still be read out of a damaged store.

pub mod damage;
pub mod log;
pub mod salvage;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::damage::Damage;

/// Marks the file as ours in its header ("dmsk").
pub const APPLICATION_ID: i32 = 0x646d_736b;
/// Each migration once, in order; only ever added to.
const MIGRATIONS: [&str; 8] = [
    include_str!("../schema/0001_first.sql"),
    include_str!("../schema/0002_metric_by_number.sql"),
    include_str!("../schema/0003_clean.sql"),
    include_str!("../schema/0004_modality.sql"),
    include_str!("../schema/0005_item.sql"),
    include_str!("../schema/0006_funnel.sql"),
    include_str!("../schema/0007_reward.sql"),
    include_str!("../schema/0008_runs.sql"),
];
/// How much of the file a reader maps rather than copies: more than a store ever has.
const MAPPED: i64 = 1 << 36;
/// KiB that a reader may sort and group in before it takes a file to help.
const SORTED_KIB: i64 = 64 << 10;

/// Why the store could not.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Written by a newer Demask; nothing was touched.
    #[error(
        "{path} has schema version {found}; this demask knows versions up to {known}: use a newer demask"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A database of something else.
    #[error("{path} is a SQLite database, but not one of Demask's (application id {found:#x})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its application id.
        found: i32,
    },
    /// Its files are damaged; nothing was touched.
    #[error(
        "the store {path} is damaged: {damage}; `demask doctor --repair` sets it aside and rebuilds its runs from their checkpoints"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        damage: Damage,
    },
    /// No such file.
    #[error("{path} does not exist; `demask run` makes it")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full: nothing of this batch was written; try again when there is room.
    #[error("the disk is full")]
    Full,
    /// Another program holds the database: nothing of this batch was written; try again.
    #[error("another program holds the database locked")]
    Busy,
    /// Anything else from SQLite.
    #[error("sqlite: {0}")]
    Sqlite(rusqlite::Error),
    /// A file beside the database.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: std::io::Error,
    },
    /// A query that is refused, with what is allowed.
    #[error("{0}")]
    Query(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Over a quota, and on a disk that fails, the system says that it did not write: there may be room again.
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure) => Self::Full,
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

/// Opens the file for its one writer, making it and bringing it up to date as needed.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Foreign`] and [`StoreError::Damaged`] leave the file untouched.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
            path: folder.to_owned(),
            source,
        })?;
    }
    let existed = path.is_file();
    // L1: SQLite throws away a log whose header is broken.
    undamaged(path)?;
    if existed {
        check(&open_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, path)?;
    }
    if !existed {
        // For this user alone: it holds prompts, answers and notes. SQLite gives what it puts beside it the same rights.
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        made.map_err(|source| StoreError::Io {
            path: path.to_owned(),
            source,
        })?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    migrate(&mut connection, path, existed)?;
    Ok(connection)
}

/// Whether the files are as SQLite leaves them, as far as two short reads can tell.
fn undamaged(path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    match damage::of_files(&path) {
        Ok(None) => Ok(()),
        Ok(Some(damage)) => Err(StoreError::Damaged { path, damage }),
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

/// Opens the file for reading only.
///
/// # Errors
/// As [`open`], and [`StoreError::Missing`].
pub fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    if !path.is_file() {
        return Err(StoreError::Missing {
            path: path.to_owned(),
        });
    }
    // Else a log that SQLite does not read would be taken for rows that never were.
    undamaged(path)?;
    let connection = open_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    check(&connection, path)?;
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    connection.pragma_update(None, "cache_size", -SORTED_KIB)?;
    Ok(connection)
}

fn open_flags(path: &Path, flags: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

fn version(connection: &Connection) -> Result<u32, StoreError> {
    Ok(connection.query_row("PRAGMA user_version", [], |row| row.get(0))?)
}

fn check(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    let found = connection.query_row("PRAGMA application_id", [], |row| row.get(0));
    let found: i32 = found.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged {
                path: path.clone(),
                damage: Damage::Garbage,
            }
        }
        _ => error.into(),
    })?;
    if found != APPLICATION_ID {
        // An empty file is what a crash before the first migration leaves.
        let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
        return if tables == 0 {
            Ok(())
        } else {
            Err(StoreError::Foreign { path, found })
        };
    }
    let (found, known) = (version(connection)?, MIGRATIONS.len() as u32);
    if found > known {
        return Err(StoreError::Newer { path, found, known });
    }
    Ok(())
}

fn migrate(connection: &mut Connection, path: &Path, existed: bool) -> Result<(), StoreError> {
    let have = version(connection)? as usize;
    if have == MIGRATIONS.len() {
        return Ok(());
    }
    if existed && have > 0 {
        let backup = path.with_extension(format!("before-{}.db", MIGRATIONS.len()));
        // L1: what a migration that was killed left is half a copy; the rows are all still here.
        std::fs::remove_file(&backup).ok();
        connection.execute("VACUUM INTO ?1", [backup.to_string_lossy()])?;
    }
    for (number, sql) in MIGRATIONS.iter().enumerate().skip(have) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number as u32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}
