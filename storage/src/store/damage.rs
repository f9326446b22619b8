//! What is wrong with a store's files, found before anything is written to them (law L1): a log whose beginning is broken is thrown
//! away by SQLite without a word, with every row that had been acknowledged since it was last folded in.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::log;

/// SQLite's steps between two looks at the clock.
const STEPS: i32 = 10_000;
/// Bytes of a database's header.
const HEADER: usize = 100;
/// How a database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There is a file without a table in it, or without a byte.
    #[error("it is empty")]
    Empty,
    /// It is something else than a database.
    #[error("it is not a SQLite database")]
    Garbage,
    /// Its end is missing.
    #[error("its end is missing: {found} bytes, its header says {expected}")]
    Truncated {
        /// Bytes that its header says.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The log beside it cannot be read from its beginning.
    #[error(
        "the header of its log is broken ({bytes} bytes of rows that were acknowledged, which SQLite would throw away)"
    )]
    Log {
        /// Bytes of the log.
        bytes: u64,
    },
    /// A page of it is not as it was written.
    #[error("{0}")]
    Pages(String),
}

/// The log beside a database.
#[must_use]
pub fn log_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// The index of the log, which SQLite makes anew.
#[must_use]
pub fn index_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// What is wrong with the files as they lie there; two short reads. Nothing where there is no file, or an empty one, as a crash
/// before the first table leaves it.
///
/// # Errors
/// The system's.
pub fn of_files(database: &Path) -> std::io::Result<Option<Damage>> {
    let log = log_of(database);
    // Another process may be writing it: what is broken stays so.
    if let Some(bytes) = log::broken(&log)?.and(log::broken(&log)?) {
        return Ok(Some(Damage::Log { bytes }));
    }
    let mut header = [0; HEADER];
    let mut file = match File::open(database) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_read = file.read_exact(&mut header).is_ok();
    // After the header: a daemon that ends meanwhile makes the file longer, and never shorter.
    let found = file.seek(SeekFrom::End(0))?;
    if found == 0 {
        return Ok(None);
    }
    if !is_read || !header.starts_with(MAGIC) {
        return Ok(Some(Damage::Garbage));
    }
    // What the log holds may be yet to come.
    let whole = !log.metadata().is_ok_and(|log| log.len() > 0);
    let expected = log::page_size(&header)
        * u64::from(u32::from_be_bytes(header[28..32].try_into().unwrap_or_default()));
    if whole && expected > found {
        return Ok(Some(Damage::Truncated { expected, found }));
    }
    Ok(None)
}

/// What is wrong with a store, its pages looked through for as long as `limit`; nothing where there is no file, or what is wrong is
/// not found in time.
///
/// # Errors
/// The system's.
pub fn of_store(database: &Path, limit: Duration) -> std::io::Result<Option<Damage>> {
    if let Some(damage) = of_files(database)? {
        return Ok(Some(damage));
    }
    match database.metadata() {
        Ok(found) if found.len() == 0 => return Ok(Some(Damage::Empty)),
        Ok(_) => {}
        Err(_) => return Ok(None),
    }
    match looked_through(database, limit) {
        Ok(damage) => Ok(damage),
        Err(error) => Ok(match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Some(Damage::Garbage),
            Some(ErrorCode::DatabaseCorrupt) => Some(Damage::Pages(error.to_string())),
            // It took too long, or somebody holds it: that is not damage.
            _ => None,
        }),
    }
}

fn looked_through(database: &Path, limit: Duration) -> rusqlite::Result<Option<Damage>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    let begun = Instant::now();
    connection.progress_handler(STEPS, Some(move || begun.elapsed() > limit))?;
    let tables: u32 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if tables == 0 {
        return Ok(Some(Damage::Empty));
    }
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    let first = said.lines().next().unwrap_or_default().to_owned();
    Ok((first != "ok").then_some(Damage::Pages(first)))
}
