//! The database file: opening, migrating, and excluding a second writer.
//!
//! - `damage.rs`: detection of damage; `log.rs`: SQLite's write-ahead log, read without SQLite;
//! - `salvage.rs`: recovery of rows from a damaged store.

pub mod damage;
pub mod log;
pub mod salvage;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use self::damage::Damage;

/// The application id in the header of a store ("dmsk").
pub const APPLICATION_ID: i32 = 0x646d_736b;
/// The migrations in order. Existing ones never change.
const MIGRATIONS: [&str; 11] = [
    include_str!("../schema/0001_first.sql"),
    include_str!("../schema/0002_metric_by_number.sql"),
    include_str!("../schema/0003_clean.sql"),
    include_str!("../schema/0004_modality.sql"),
    include_str!("../schema/0005_item.sql"),
    include_str!("../schema/0006_funnel.sql"),
    include_str!("../schema/0007_reward.sql"),
    include_str!("../schema/0008_runs.sql"),
    include_str!("../schema/0009_rank.sql"),
    include_str!("../schema/0010_staleness.sql"),
    include_str!("../schema/0011_order_of_run.sql"),
];
/// The bytes of the file that a reader maps into memory; more than a store ever has.
const MAPPED: i64 = 1 << 36;
/// The page cache of a reader in KiB, in which it sorts and groups before it uses a temporary file.
const SORTED_KIB: i64 = 64 << 10;

/// An error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store was written by a newer Demask; it was not changed.
    #[error(
        "{path} has schema version {found}, but this demask knows versions up to {known}: use a newer demask"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The file's schema version.
        found: u32,
        /// The newest known version.
        known: u32,
    },
    /// A database of another program.
    #[error("{path} is a SQLite database, but not a store of Demask (application id {found:#x})")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The application id that was found.
        found: i32,
    },
    /// The files are damaged; they were not changed.
    #[error(
        "the store {path} is damaged: {damage}; `demask doctor --repair` moves it aside and rebuilds its runs from their checkpoints"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage.
        damage: Damage,
    },
    /// The file does not exist.
    #[error("{path} does not exist; `demask run` creates it")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The disk is full. Nothing of the batch was written; it can be retried when there is space.
    #[error("the disk is full")]
    Full,
    /// Another program has locked the database. Nothing of the batch was written; it can be retried.
    #[error("another program has locked the database")]
    Busy,
    /// Any other SQLite error.
    #[error("sqlite: {0}")]
    Sqlite(rusqlite::Error),
    /// An I/O error of a file beside the database.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: std::io::Error,
    },
    /// A refused query, with what is allowed.
    #[error("{0}")]
    Query(String),
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            // Over a quota or on a failing disk, the system reports an I/O error instead of a full disk; space may
            // appear again.
            Some(rusqlite::ErrorCode::DiskFull | rusqlite::ErrorCode::SystemIoFailure) => Self::Full,
            Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => Self::Busy,
            _ => Self::Sqlite(error),
        }
    }
}

/// Opens the file for its only writer; creates or migrates it as needed.
///
/// # Errors
/// [`StoreError::Newer`], [`StoreError::Foreign`] and [`StoreError::Damaged`], which leave the file unchanged; any I/O
/// or SQLite error.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(|source| StoreError::Io {
            path: folder.to_owned(),
            source,
        })?;
    }
    let existed = path.is_file();
    // L1: SQLite would discard a log with a broken header.
    undamaged(path)?;
    if existed {
        check(&open_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?, path)?;
    }
    if !existed {
        // SQLite gives the other files of the database the same permissions.
        make_private(path)?;
    }
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    migrate(&mut connection, path, existed)?;
    Ok(connection)
}

/// Makes an empty file that only the user may read, because a store holds prompts, answers and notes.
fn make_private(path: &Path) -> Result<(), StoreError> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    made.map(drop).map_err(|source| StoreError::Io {
        path: path.to_owned(),
        source,
    })
}

/// Checks with two short reads that the files are as SQLite leaves them.
fn undamaged(path: &Path) -> Result<(), StoreError> {
    let path = path.to_owned();
    match damage::of_files(&path) {
        Ok(None) => Ok(()),
        Ok(Some(damage)) => Err(StoreError::Damaged { path, damage }),
        Err(source) => Err(StoreError::Io { path, source }),
    }
}

/// Opens the file read-only.
///
/// # Errors
/// Those of [`open`], and [`StoreError::Missing`].
pub fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    if !path.is_file() {
        return Err(StoreError::Missing {
            path: path.to_owned(),
        });
    }
    // Otherwise rows in an unreadable log would seem never to have existed.
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
        // A crash before the first migration leaves an empty file.
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
        // L1: a killed migration leaves a partial backup; all rows are still in the store.
        std::fs::remove_file(&backup).ok();
        // SQLite would create the file for everyone to read; it accepts an empty one.
        make_private(&backup)?;
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
