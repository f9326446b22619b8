//! Recovers the readable rows of a damaged store into a new one.

use std::path::Path;

use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::StoreError;

/// A table: its columns, and the columns by which its rows are ordered.
struct SalvagedTable {
    name: String,
    columns: Vec<String>,
    /// Whether it has a rowid that is not a column.
    has_own_number: bool,
    order: Vec<String>,
}

/// Copies the readable rows of a damaged store into an intact one; returns their number. Unreadable rows are skipped.
///
/// # Errors
/// Errors of the new store.
pub fn salvage(damaged: &Path, whole: &mut Connection) -> Result<u64, StoreError> {
    // The file is a copy that nobody else has open. If it is not a database, it just has no rows.
    let Ok(old) = Connection::open(damaged) else {
        return Ok(0);
    };
    // SQLite refuses a file that is shorter than its header says, unless the schema is declared writable for repair.
    old.pragma_update(None, "writable_schema", true).ok();
    // A table may refer to one that is copied after it.
    whole.pragma_update(None, "foreign_keys", false)?;
    let mut count = 0;
    for table in tables(whole)? {
        count += copy(&old, whole, &table)?;
    }
    whole.pragma_update(None, "foreign_keys", true)?;
    Ok(count)
}

fn tables(connection: &Connection) -> Result<Vec<SalvagedTable>, StoreError> {
    let mut query = connection.prepare(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite_%'",
    )?;
    let named: Vec<(String, bool)> = query
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let table = |(name, without_rowid): (String, bool)| {
        let mut query = connection.prepare("SELECT name, type = 'INTEGER', pk FROM pragma_table_info(?1)")?;
        let columns: Vec<(String, bool, i64)> = query
            .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<Result<_, _>>()?;
        let mut key: Vec<&(String, bool, i64)> = columns.iter().filter(|column| column.2 > 0).collect();
        key.sort_by_key(|column| column.2);
        // An integer primary key is the rowid itself.
        let is_numbered = matches!(key[..], [(_, true, _)]);
        let order = match without_rowid {
            true => key.iter().map(|column| format!("\"{}\"", column.0)).collect(),
            false => vec!["rowid".to_owned()],
        };
        Ok(SalvagedTable {
            has_own_number: !without_rowid && !is_numbered,
            order,
            columns: columns.into_iter().map(|column| column.0).collect(),
            name,
        })
    };
    named.into_iter().map(table).collect()
}

/// Copies row by row from both ends, because a broken page in the middle hides the rows behind it.
fn copy(old: &Connection, whole: &mut Connection, table: &SalvagedTable) -> Result<u64, StoreError> {
    let there = |column: &&String| {
        let sql = format!("SELECT \"{column}\" FROM \"{}\" LIMIT 0", table.name);
        old.prepare(&sql).is_ok()
    };
    let mut columns: Vec<String> = table
        .columns
        .iter()
        .filter(there)
        .map(|name| format!("\"{name}\""))
        .collect();
    if columns.is_empty() {
        return Ok(0);
    }
    if table.has_own_number {
        columns.push("rowid".into());
    }
    let (names, name) = (columns.join(", "), &table.name);
    let marks = vec!["?"; columns.len()].join(", ");
    let transaction = whole.transaction()?;
    let mut count = 0;
    {
        let mut insert = transaction.prepare(&format!(
            "INSERT OR IGNORE INTO \"{name}\" ({names}) VALUES ({marks})"
        ))?;
        for end in [" ASC", " DESC"] {
            let order: Vec<String> = table
                .order
                .iter()
                .map(|column| format!("{column}{end}"))
                .collect();
            let order = order.join(", ");
            let Ok(mut select) = old.prepare(&format!("SELECT {names} FROM \"{name}\" ORDER BY {order}"))
            else {
                continue;
            };
            let Ok(mut rows) = select.query([]) else { continue };
            let whole = loop {
                match rows.next() {
                    Ok(Some(row)) => {
                        let values: Result<Vec<Value>, _> =
                            (0..columns.len()).map(|at| row.get(at)).collect();
                        if let Ok(values) = values {
                            count += added(insert.execute(params_from_iter(values)))?;
                        }
                    }
                    Ok(None) => break true,
                    Err(_) => break false,
                }
            };
            if whole {
                break;
            }
        }
    }
    transaction.commit()?;
    Ok(count)
}

/// Returns the number of added rows; a row that violates a constraint came from a broken page and is not counted.
fn added(executed: rusqlite::Result<usize>) -> Result<u64, StoreError> {
    match executed {
        Ok(added) => Ok(added as u64),
        Err(rusqlite::Error::SqliteFailure(why, _))
            if matches!(why.code, ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) =>
        {
            Ok(0)
        }
        Err(error) => Err(error.into()),
    }
}
