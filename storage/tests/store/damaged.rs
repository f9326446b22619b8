//! Damaged stores: what is detected, and what is recovered (L1).

use std::time::Duration;

use demask_storage::query;
use demask_storage::store::damage::{self, Damage};
use demask_storage::store::{log, salvage};
use demask_storage::{Alert, Level, Record, StoreError, Writer, store};

use crate::rows::{dump, records};

/// Creates a store whose log was never merged into it, as a killed daemon leaves it, in a folder of its own.
fn left_by_a_killed_daemon(folder: &std::path::Path) -> (std::path::PathBuf, Vec<String>) {
    let (served, left) = (folder.join("served.db"), folder.join("left.db"));
    let mut writer = Writer::open(&served).unwrap();
    for record in records() {
        writer.append(&[record], 7).unwrap();
    }
    let rows = dump(&served);
    std::fs::copy(&served, &left).unwrap();
    std::fs::copy(damage::log_of(&served), damage::log_of(&left)).unwrap();
    (left, rows)
}

/// A write-ahead log with a broken header is refused without touching it, and can be merged into the store
/// by its frame checksums alone.
#[test]
fn l1_a_log_whose_header_is_broken_is_refused_and_folded_in_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rows) = left_by_a_killed_daemon(folder.path());
    let log = damage::log_of(&path);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[..32].fill(0);
    std::fs::write(&log, &bytes).unwrap();
    for refused in [store::open(&path), store::open_read_only(&path)] {
        let error = refused.unwrap_err();
        assert!(
            matches!(
                &error,
                StoreError::Damaged {
                    damage: Damage::Log { .. },
                    ..
                }
            ),
            "{error}"
        );
    }
    assert_eq!(std::fs::read(&log).unwrap(), bytes, "nothing was touched");
    assert!(log::fold_in(&path, &log).unwrap() > records().len() as u64);
    std::fs::remove_file(&log).unwrap();
    assert_eq!(damage::of_store(&path, Duration::from_secs(60)).unwrap(), None);
    assert_eq!(dump(&path), rows);
}

#[test]
fn l1_a_log_is_folded_in_as_far_as_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = left_by_a_killed_daemon(folder.path());
    let log = damage::log_of(&path);
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[..32].fill(0);
    // Damage the last page of the last transaction.
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    let saved = log::fold_in(&path, &log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert!(saved > 0);
    assert_eq!(damage::of_store(&path, Duration::from_secs(60)).unwrap(), None);
    let alerts = query::query(&path, "SELECT count(*) FROM v_alert", 1).unwrap();
    assert_eq!(alerts.rows[0][0], 0, "the last record was in it");
    let runs = query::query(&path, "SELECT count(*) FROM v_run", 1).unwrap();
    assert_eq!(runs.rows[0][0], 1);
}

/// Salvaging a database with a broken page loses the rows on that page only, not those after it.
#[test]
fn l1_a_broken_page_hides_what_is_on_it_and_not_what_is_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let (path, new) = (folder.path().join("d.db"), folder.path().join("new.db"));
    let alert = |number: u64| {
        Record::Alert(Alert {
            run: "r".into(),
            step: number,
            level: Level::Warn,
            kind: "k".into(),
            message: format!("number {number:04}, {}", "and more words of it ".repeat(10)),
        })
    };
    let all: Vec<Record> = (0..1000).map(alert).collect();
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&all, 7).unwrap();
    writer.finish().unwrap();
    drop(writer);
    let mut bytes = std::fs::read(&path).unwrap();
    // Damage the page of an event in the middle.
    let middle = b"\"message\":\"number 0500";
    let at = bytes
        .windows(middle.len())
        .position(|window| window == middle)
        .unwrap();
    let page = at / 4096 * 4096;
    bytes[page..page + 16].fill(0xa5);
    std::fs::write(&path, &bytes).unwrap();
    let mut whole = store::open(&new).unwrap();
    salvage::salvage(&path, &mut whole).unwrap();
    let (first, last, count): (i64, i64, i64) = whole
        .query_row("SELECT min(seq), max(seq), count(*) FROM event", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .unwrap();
    assert_eq!((first, last), (1, 1000), "{count}");
    assert!((900..1000).contains(&count), "{count}");
}

/// Missing, empty, foreign, truncated and damaged files are distinguished. A whole store is salvaged
/// completely.
#[test]
fn l1_what_is_no_whole_database_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.db");
    let found = || damage::of_store(&path, Duration::from_secs(60)).unwrap();
    assert_eq!(found(), None, "there is none");
    std::fs::write(&path, "").unwrap();
    assert_eq!(found(), Some(Damage::Empty));
    std::fs::write(&path, "a diary").unwrap();
    assert_eq!(found(), Some(Damage::Garbage));
    std::fs::remove_file(&path).unwrap();
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 7).unwrap();
    writer.finish().unwrap();
    drop(writer);
    assert_eq!(found(), None);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(matches!(found(), Some(Damage::Truncated { .. })), "{:?}", found());
    let mut broken = whole.clone();
    broken[4096..]
        .chunks_mut(4096)
        .for_each(|page| page[..16].fill(0xa5));
    std::fs::write(&path, &broken).unwrap();
    assert!(matches!(found(), Some(Damage::Pages(_))), "{:?}", found());
    // Salvaging copies everything that is readable.
    std::fs::write(&path, &whole).unwrap();
    let new = folder.path().join("new.db");
    let mut connection = store::open(&new).unwrap();
    assert!(salvage::salvage(&path, &mut connection).unwrap() > 0);
    drop(connection);
    assert_eq!(dump(&new), dump(&path));
}
