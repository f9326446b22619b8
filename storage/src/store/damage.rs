//! Detection of damage in a store's files before anything is written to them (law L1). SQLite silently discards a
//! write-ahead log whose header is broken, and with it every acknowledged row since the last checkpoint of the log.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::log;

/// The number of SQLite instructions between two checks of the clock.
const STEPS: i32 = 10_000;
/// The bytes of a database's header.
const HEADER: usize = 100;
/// The first bytes of a database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The damage of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The file exists, but has no table or no byte.
    #[error("it is empty")]
    Empty,
    /// The file is not a database.
    #[error("it is not a SQLite database")]
    Garbage,
    /// The end of the file is missing.
    #[error("its end is missing: it has {found} bytes, but its header says {expected}")]
    Truncated {
        /// The length by its header, in bytes.
        expected: u64,
        /// The actual length in bytes.
        found: u64,
    },
    /// The write-ahead log has a broken header.
    #[error(
        "the header of its write-ahead log is damaged ({bytes} bytes of acknowledged rows, which SQLite would discard)"
    )]
    Log {
        /// The length of the log in bytes.
        bytes: u64,
    },
    /// A page is damaged.
    #[error("{0}")]
    Pages(String),
}

/// Returns the path of a database's write-ahead log.
#[must_use]
pub fn log_of(database: &Path) -> PathBuf {
    beside(database, "-wal")
}

/// Returns the path of the log's index, which SQLite rebuilds.
#[must_use]
pub fn index_of(database: &Path) -> PathBuf {
    beside(database, "-shm")
}

fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Checks the files with two short reads. `None` if they are whole, if there is no file, or if it is empty, as a crash
/// before the first table leaves it.
///
/// # Errors
/// Any I/O error.
pub fn of_files(database: &Path) -> std::io::Result<Option<Damage>> {
    let log = log_of(database);
    // Another process may be writing the log; only damage that persists counts.
    if let Some(bytes) = log::broken(&log)?.and(log::broken(&log)?) {
        return Ok(Some(Damage::Log { bytes }));
    }
    let mut header = [0; HEADER];
    let mut file = match File::open(database) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let is_read = file.read_exact(&mut header).is_ok();
    // The length is read after the header: a daemon that ends meanwhile only lengthens the file.
    let found = file.seek(SeekFrom::End(0))?;
    if found == 0 {
        return Ok(None);
    }
    if !is_read || !header.starts_with(MAGIC) {
        return Ok(Some(Damage::Garbage));
    }
    // Pages beyond the end may still be in the log.
    let whole = !log.metadata().is_ok_and(|log| log.len() > 0);
    let expected = log::page_size(&header)
        * u64::from(u32::from_be_bytes(header[28..32].try_into().unwrap_or_default()));
    if whole && expected > found {
        return Ok(Some(Damage::Truncated { expected, found }));
    }
    Ok(None)
}

/// Checks a store, reading its pages for at most `limit`. `None` if it is whole, if there is no file, or if no damage
/// is found in time.
///
/// # Errors
/// Any I/O error.
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
            // A timeout or a lock is not damage.
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
