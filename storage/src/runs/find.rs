//! Resolves the user's name of a run: its id, its name, the beginning or end of its id, or the word `latest`.

use rusqlite::{Connection, params};

use crate::store::StoreError;

/// The most runs that an error lists.
const NAMED: usize = 5;

/// Why a run could not be resolved.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is no such run.
    #[error(
        "no run has the name '{0}', or an id that begins or ends with it; `demask runs list` lists the runs"
    )]
    None(String),
    /// Several runs match.
    #[error("'{named}' matches {count} runs: {ids}; give more of the id", ids = .ids.join(", "))]
    Several {
        /// The name as typed.
        named: String,
        /// The number of matching runs.
        count: usize,
        /// Some of them, the newest first.
        ids: Vec<String>,
    },
    /// An error of the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the full id of the run that `named` means. A full id or name takes precedence over the beginning or end of
/// an id. Both are accepted because the ids of runs started in the same minute begin alike.
///
/// # Errors
/// An error if no run or several runs match; any SQLite error.
pub fn find(connection: &Connection, named: &str) -> Result<String, FindError> {
    if named == "latest" {
        let newest = ids(connection, "ORDER BY started_us DESC LIMIT 1", None)?;
        return one(named, newest);
    }
    for which in [
        "WHERE id = ?1",
        "WHERE name = ?1 ORDER BY started_us DESC",
        "WHERE ?1 <> '' AND (substr(id, 1, length(?1)) = ?1 OR substr(id, -length(?1)) = ?1) ORDER BY started_us DESC",
    ] {
        let found = ids(connection, which, Some(named))?;
        if !found.is_empty() {
            return one(named, found);
        }
    }
    Err(FindError::None(named.to_owned()))
}

/// Returns the ids of the runs with a name, newest first.
///
/// # Errors
/// Any SQLite error.
pub fn named(connection: &Connection, name: &str) -> Result<Vec<String>, StoreError> {
    ids(connection, "WHERE name = ?1 ORDER BY started_us DESC", Some(name))
}

fn ids(connection: &Connection, which: &str, named: Option<&str>) -> Result<Vec<String>, StoreError> {
    let mut query = connection.prepare(&format!("SELECT id FROM run {which}"))?;
    let read = |row: &rusqlite::Row<'_>| row.get(0);
    let rows = match named {
        Some(named) => query.query_map(params![named], read)?.collect::<Result<_, _>>(),
        None => query.query_map([], read)?.collect::<Result<_, _>>(),
    };
    Ok(rows?)
}

fn one(named: &str, mut found: Vec<String>) -> Result<String, FindError> {
    match found.len() {
        0 => Err(FindError::None(named.to_owned())),
        1 => Ok(found.remove(0)),
        count => {
            found.truncate(NAMED);
            Err(FindError::Several {
                named: named.to_owned(),
                count,
                ids: found,
            })
        }
    }
}
