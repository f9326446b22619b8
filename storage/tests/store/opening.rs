//! The file of a store: what is refused, what is brought up to date, who may read it, and the columns of its views.

use demask_storage::query::{self, VIEWS};
use demask_storage::{Metric, Record, StoreError, Writer, journal, store};

use crate::rows::records;

#[test]
fn the_columns_of_the_views_are_frozen() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(Writer::open(&path).unwrap());
    let columns: Vec<String> = VIEWS
        .iter()
        .map(|view| {
            let rows = query::query(&path, &format!("SELECT * FROM {view}"), 1).unwrap();
            format!("{view}: {}", rows.columns.join(" "))
        })
        .collect();
    assert_eq!(columns.join("\n"), query::COLUMNS.trim_end());
}

#[test]
fn a_database_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE theirs (x)")
        .unwrap();
    assert!(matches!(Writer::open(&path), Err(StoreError::Foreign { .. })));
    assert!(matches!(
        store::open_read_only(&folder.path().join("b.db")),
        Err(StoreError::Missing { .. })
    ));
}

/// Rows of every earlier schema version are read alike by this one, and the original file is kept beside.
#[test]
fn an_older_store_is_brought_up_to_date_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("../../src/schema/0001_first.sql"))
        .unwrap();
    old.execute_batch(
        "INSERT INTO metric_key VALUES (1, 'train/loss'), (2, 'reward/total');
         INSERT INTO metric VALUES (1, 'a', 1, 2.5, 10), (1, 'b', 1, 3.5, 11), (2, 'b', 1, NULL, 11), (1, 'a', 2, 1.5, 12);
         INSERT INTO example VALUES ('e1', 'a', 's', 'train', 'word_problem', 'none', 'source', 1.0, 't', NULL, ''),
             ('e2', 'a', 's', 'train', 'caption', 'none', 'source', 1.0, 't', NULL, '');
         INSERT INTO steer VALUES ('z', 'a', 'ann (cli)', 'pause', NULL, NULL, NULL, 1, 2, 12),
             ('y', 'a', 'ann (cli)', 'resume', NULL, NULL, NULL, 2, NULL, 13);
         INSERT INTO latest VALUES ('a', 1, 2, 1.5, 12), ('b', 1, 1, 3.5, 11);",
    )
    .unwrap();
    old.pragma_update(None, "application_id", store::APPLICATION_ID)
        .unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    drop(old);
    let sql = "SELECT run, name, step, value, at_us FROM v_metric ORDER BY run, name, step";
    let before = query::query(&path, sql, 0).unwrap();
    assert_eq!(before.rows.len(), 4);
    let mut writer = Writer::open(&path).unwrap();
    assert_eq!(query::query(&path, sql, 0).unwrap(), before);
    let metric = Metric {
        run: "b".into(),
        step: 2,
        values: vec![("train/loss".into(), 0.5)],
    };
    writer.append(&[Record::Metric(metric)], 13).unwrap();
    let sql = "SELECT value FROM v_metric WHERE run = 'b' AND name = 'train/loss' ORDER BY step";
    assert_eq!(
        query::query(&path, sql, 0).unwrap().rows,
        vec![vec![3.5], vec![0.5]]
    );
    let sql = "SELECT modality FROM example ORDER BY id";
    assert_eq!(
        query::query(&path, sql, 0).unwrap().rows,
        vec![vec!["text"], vec!["ask"]]
    );
    // The order of the journal stays.
    let orders = journal::steers(writer.connection(), "a").unwrap();
    let orders: Vec<_> = orders
        .iter()
        .map(|row| (row.id.as_str(), row.applied_step))
        .collect();
    assert_eq!(orders, [("z", Some(2)), ("y", None)]);
    let kept: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("before-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(mode(&folder.path().join(&kept[0])), 0o600, "{kept:?}");
}

/// Returns who may read and write a file.
fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn a_store_is_its_users_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 1).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
