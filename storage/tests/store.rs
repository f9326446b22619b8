//! The store through its public interfaces.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use demask_storage::events::recent_events;
use demask_storage::query::{self, VIEWS, curves};
use demask_storage::runs::find::find;
use demask_storage::runs::queue;
use demask_storage::store::damage::{self, Damage};
use demask_storage::store::{log, salvage};
use demask_storage::{
    Alert, Eval, Frame, Level, Metric, QueueAction, QueueChange, Queued, RankView, Record, Run, RunRequest,
    Steer, StepRanks, StoreError, Writer, journal, store,
};
use proptest::prelude::*;

fn records() -> Vec<Record> {
    let run = "r".to_owned();
    let steer = |applied| {
        Record::Steer(Steer {
            id: "c1".into(),
            run: "r".into(),
            by: "ann (cli)".into(),
            action: demask_storage::SteerAction::Set,
            key: Some("kl".into()),
            old: None,
            new: Some("0.1".into()),
            asked_step: 3,
            applied_step: applied,
        })
    };
    let ranks = |step, restarts| {
        let rank = |number| RankView {
            device: "cpu".into(),
            host: "x".into(),
            pid: 7 + number,
            memory: 1000,
            peak: 2000,
            seconds: 0.5,
            wait_seconds: if number == 0 { 0.25 } else { f64::NAN },
            bytes: 300,
            restarts,
            began_us: 5,
            ..RankView::default()
        };
        let ranks = (0..3 - restarts as u32).map(rank).collect();
        Record::Ranks(StepRanks {
            run: "r".into(),
            step,
            ranks,
        })
    };
    vec![
        Record::Run(Run {
            id: run.clone(),
            parent: None,
            parent_step: None,
            labels: Default::default(),
            profile: "p".into(),
            config: serde_json::json!({"seed": 1}),
            config_hash: "h".into(),
            seed: 1,
            host: "x".into(),
            version: "0".into(),
            generation: 0,
        }),
        Record::Metric(Metric {
            run: run.clone(),
            step: 1,
            values: vec![("train/loss".into(), 2.0)],
        }),
        Record::Metric(Metric {
            run: run.clone(),
            step: 2,
            values: vec![("train/loss".into(), 1.0)],
        }),
        ranks(1, 0),
        ranks(2, 1),
        steer(None),
        steer(Some(4)),
        Record::Alert(Alert {
            run,
            step: 1,
            level: Level::Warn,
            kind: "k".into(),
            message: "m".into(),
        }),
    ]
}

fn dump(path: &std::path::Path) -> Vec<String> {
    let skip = ["v_event"];
    let tables = VIEWS.iter().filter(|view| !skip.contains(view));
    tables
        .map(|view| {
            let mut rows = query::query(path, &format!("SELECT * FROM {view}"), 0).unwrap();
            // The times at which rows were written are left out of the comparison.
            let timed: Vec<usize> = (0..rows.columns.len())
                .filter(|&at| rows.columns[at].ends_with("_us"))
                .collect();
            for row in &mut rows.rows {
                for &at in &timed {
                    row[at] = serde_json::Value::Null;
                }
            }
            let mut lines: Vec<String> = rows.rows.iter().map(|row| format!("{view} {row:?}")).collect();
            lines.sort();
            lines.join("\n")
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn l1_records_that_come_again_leave_the_same_rows(cuts in proptest::collection::vec(1usize..9, 0..4)) {
        let folder = tempfile::tempdir().unwrap();
        let (once, again) = (folder.path().join("once.db"), folder.path().join("again.db"));
        Writer::open(&once).unwrap().append(&records(), 1).unwrap();
        // Each cut simulates a life that was killed after this many records.
        for cut in cuts {
            let all = records();
            Writer::open(&again).unwrap().append(&all[..cut.min(all.len())], 2).unwrap();
        }
        let mut last = Writer::open(&again).unwrap();
        last.append(&records(), 3).unwrap();
        prop_assert_eq!(dump(&once), dump(&again));
        let events = last.events_since(0, 100).unwrap();
        prop_assert_eq!(events.len(), 4);
    }
}

/// A late client gets the current run's metrics, the frames of its last eight samples, its evaluations and
/// its last events, and nothing of an earlier run.
#[test]
fn who_comes_in_the_middle_gets_curves_samples_benchmarks_and_the_last_events_of_the_present_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&folder.path().join("a.db")).unwrap();
    let alert = |run: &str, step| {
        Record::Alert(Alert {
            run: run.into(),
            step,
            level: Level::Warn,
            kind: "k".into(),
            message: "m".into(),
        })
    };
    let eval = |run: &str| {
        Record::Eval(Eval {
            run: run.into(),
            step: 1,
            checkpoint: "c".into(),
            suite: "s".into(),
            metric: "accuracy".into(),
            value: 0.5,
            low: 0.4,
            high: 0.6,
            n: 10,
            parts: vec![],
            decision: None,
            gain: None,
        })
    };
    let metric = |run: &str, step| {
        Record::Metric(Metric {
            run: run.into(),
            step,
            values: vec![("a".into(), step as f64), ("b".into(), 0.5)],
        })
    };
    let frame = |run: &str, sample: u64, step| {
        Record::Frame(Frame {
            run: run.into(),
            sample: format!("{run}/{sample}/watch"),
            origin: "rollout".into(),
            prompt: "p".into(),
            kind: "text".into(),
            step,
            steps: 2,
            tokens: vec!["a".into()],
            confidence: vec![9],
            grid: 0,
            picture: None,
        })
    };
    writer
        .append(
            &[metric("old", 1), eval("old"), alert("old", 1), frame("old", 1, 0)],
            1,
        )
        .unwrap();
    writer
        .append(&[metric("new", 2), metric("new", 3), eval("new")], 2)
        .unwrap();
    for sample in 1..=9 {
        let frames = [frame("new", sample, 0), frame("new", sample, 1)];
        writer.append(&frames, 2 + sample as i64).unwrap();
    }
    let alerts: Vec<Record> = (1..=9).map(|step| alert("new", step)).collect();
    writer.append(&alerts, 3).unwrap();
    let recent = recent_events(writer.connection(), 2).unwrap();
    let records: Vec<Record> = recent.into_iter().map(|event| event.record).collect();
    let mut expected = vec![metric("new", 2), metric("new", 3)];
    expected.extend((2..=9).flat_map(|sample| [frame("new", sample, 0), frame("new", sample, 1)]));
    expected.extend([eval("new"), alert("new", 8), alert("new", 9)]);
    assert_eq!(records, expected);
}

#[test]
fn a_value_that_is_not_finite_is_null_with_an_alert() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let metric = Metric {
        run: "r".into(),
        step: 7,
        values: vec![("x".into(), f64::NAN)],
    };
    Writer::open(&path)
        .unwrap()
        .append(&[Record::Metric(metric)], 1)
        .unwrap();
    let rows = query::query(&path, "SELECT value, (SELECT kind FROM v_alert) FROM v_metric", 0).unwrap();
    assert_eq!(
        rows.rows,
        vec![vec![serde_json::Value::Null, "not_finite".into()]]
    );
}

/// A world that was started again with one rank less: each of its ranks has one row, of the last step.
#[test]
fn a_rank_has_the_row_of_its_last_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    Writer::open(&path).unwrap().append(&records(), 1).unwrap();
    let sql = "SELECT run, rank, step, pid, memory, peak, seconds, wait_seconds, bytes, restarts FROM v_rank ORDER BY rank";
    let rows = query::query(&path, sql, 0).unwrap().rows;
    let [run, null] = [serde_json::json!("r"), serde_json::Value::Null];
    let number = |number: u64| serde_json::json!(number);
    let row = |rank: u64, waited| {
        let figures = [rank, 2, 7 + rank, 1000, 2000].map(number);
        let behind = [serde_json::json!(0.5), waited, number(300), number(1)];
        let row = [run.clone()].into_iter().chain(figures).chain(behind);
        row.collect::<Vec<_>>()
    };
    assert_eq!(rows, vec![row(0, serde_json::json!(0.25)), row(1, null)]);
    let connection = store::open_read_only(&path).unwrap();
    assert_eq!(journal::world(&connection, "r").unwrap(), Some((5, 1)));
    assert_eq!(journal::world(&connection, "other").unwrap(), None);
}

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
    old.execute_batch(include_str!("../src/schema/0001_first.sql"))
        .unwrap();
    old.execute_batch(
        "INSERT INTO metric_key VALUES (1, 'train/loss'), (2, 'reward/total');
         INSERT INTO metric VALUES (1, 'a', 1, 2.5, 10), (1, 'b', 1, 3.5, 11), (2, 'b', 1, NULL, 11), (1, 'a', 2, 1.5, 12);
         INSERT INTO example VALUES ('e1', 'a', 's', 'train', 'word_problem', 'none', 'source', 1.0, 't', NULL, ''),
             ('e2', 'a', 's', 'train', 'caption', 'none', 'source', 1.0, 't', NULL, '');
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
    let kept: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("before-"))
        .collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
}

fn begun(id: &str, name: Option<&str>) -> Record {
    let mut records = records();
    let Record::Run(mut run) = records.remove(0) else {
        unreachable!("the first record is a run")
    };
    run.id = id.to_owned();
    run.labels.name = name.map(str::to_owned);
    Record::Run(run)
}

/// A run is found by its name, its id, the beginning or end of its id, or `latest`. Ambiguous and unknown
/// names are refused, and SQL wildcards have no meaning.
#[test]
fn a_run_is_meant_by_its_id_its_name_or_an_end_of_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    let runs = [
        begun("0190-aa", Some("first")),
        begun("0190-bb", Some("0190")),
        begun("0191-aa", Some("twice")),
        begun("0192-cc", Some("twice")),
    ];
    for (at, run) in runs.into_iter().enumerate() {
        writer.append(&[run], at as i64).unwrap();
    }
    let found = |named: &str| find(writer.connection(), named).map_err(|error| error.to_string());
    for (named, id) in [
        ("first", "0190-aa"),
        ("bb", "0190-bb"),
        ("0191", "0191-aa"),
        ("0190-aa", "0190-aa"),
        // An exact name takes precedence over ids that begin with it.
        ("0190", "0190-bb"),
        ("latest", "0192-cc"),
    ] {
        assert_eq!(found(named).as_deref(), Ok(id), "{named}");
    }
    assert!(
        found("aa")
            .unwrap_err()
            .contains("'aa' matches 2 runs: 0191-aa, 0190-aa")
    );
    assert!(found("twice").unwrap_err().contains("2 runs"));
    for none in ["", "zz", "%", "_"] {
        assert!(found(none).unwrap_err().contains("no run has the name"), "{none}");
    }
    let before = journal::run(writer.connection(), "0190-aa").unwrap().unwrap();
    assert_eq!(Record::Run(before.0), begun("0190-aa", Some("first")));
}

/// L1: a queued run waits until its own row says otherwise, and the queue keeps its order.
#[test]
fn a_run_waits_until_it_is_begun_or_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    let queued = |run: &str| {
        Record::Queued(Queued {
            run: run.to_owned(),
            by: "ann (cli)".into(),
            profile: "p".into(),
            config_hash: "h".into(),
            request: RunRequest::default(),
        })
    };
    let change = |id: &str, change| {
        let (id, by) = (id.to_owned(), "ann (cli)".to_owned());
        Record::Queue(QueueChange { id, by, change })
    };
    let waits = |writer: &Writer| -> Vec<String> {
        let waiting = queue::waiting(writer.connection()).unwrap();
        waiting.into_iter().map(|one| one.run).collect()
    };
    // Writing the same record twice leaves one row.
    for run in ["a", "b", "c", "a"] {
        writer.append(&[queued(run)], 1).unwrap();
    }
    assert_eq!(waits(&writer), ["a", "b", "c"]);
    let runs = queue::moved(&waits(&writer), "c", 1);
    writer
        .append(&[change("m", QueueAction::Order { runs })], 2)
        .unwrap();
    writer.append(&[queued("d")], 3).unwrap();
    assert_eq!(waits(&writer), ["c", "a", "b", "d"]);
    assert_eq!(queue::moved(&waits(&writer), "c", 99), ["a", "b", "d", "c"]);
    let (run, reason) = ("a".to_owned(), "no more".to_owned());
    writer
        .append(&[change("x", QueueAction::Cancel { run, reason })], 4)
        .unwrap();
    writer.append(&[begun("c", None)], 5).unwrap();
    assert_eq!(waits(&writer), ["b", "d"]);
    let places = query::query(&path, "SELECT place, run FROM v_queue ORDER BY place", 0).unwrap();
    assert_eq!(
        places.rows,
        vec![
            vec![serde_json::json!(1), "b".into()],
            vec![serde_json::json!(2), "d".into()]
        ]
    );
}

/// A curve of many points is thinned by SQL to means over ranges of steps, whose step and value are means of
/// the same points. Metrics without finite values are left out, knob changes are returned as marks, and run
/// ids are quoted.
#[test]
fn curves_are_thinned_by_the_question_and_knobs_that_were_turned_are_marks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 1_000_000).unwrap();
    let many = (10..1010_u64).map(|step| {
        Record::Metric(Metric {
            run: "r".into(),
            step,
            values: vec![
                ("train/loss".into(), step as f64),
                ("train/it's".into(), f64::NAN),
            ],
        })
    });
    writer.append(&many.collect::<Vec<_>>(), 3_000_000).unwrap();
    let runs = ["r".to_owned()];
    let whole = curves::curves(&path, &runs, &["train/*".to_owned(), "*loss".to_owned()]).unwrap();
    assert_eq!(
        whole.len(),
        1,
        "a metric that fits twice is there once, one without values not at all"
    );
    assert_eq!(whole[0].points.len(), 1002);
    assert_eq!((whole[0].points[2].step, whole[0].points[2].seconds), (10.0, 2.0));
    let sql = curves::points_sql(&runs, &["train/loss".to_owned()], Some(100));
    let thin = curves::curves_of(&curves::texts(&query::query(&path, &sql, 0).unwrap()));
    assert!(
        (90..=130).contains(&thin[0].points.len()),
        "{}",
        thin[0].points.len()
    );
    let middle = &thin[0].points[50];
    assert!(
        (middle.step - middle.value).abs() < 1e-9,
        "means of the same steps: {middle:?}"
    );
    let turns = curves::turns(&path, &runs).unwrap();
    assert_eq!(
        (turns.len(), turns[0].step, turns[0].words.as_str()),
        (1, 4.0, "kl=0.1")
    );
    assert_eq!(
        curves::metrics(&path, &runs).unwrap(),
        ["train/it's", "train/loss"]
    );
    assert!(
        curves::curves(&path, &["x' OR '1".to_owned()], &["*".to_owned()])
            .unwrap()
            .is_empty()
    );
}

#[test]
fn l9_a_query_is_held_to_its_limits_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(Writer::open(&path).unwrap());
    let refused = |sql: &str| query::query(&path, sql, 0).unwrap_err().to_string();
    let big = refused("SELECT printf('%.100000000c', 'x')");
    assert!(big.contains("a value may have at most 16 MiB"), "{big}");
    let like = refused(&format!("SELECT 'x' LIKE '{}'", "%x".repeat(600)));
    assert!(like.contains("pattern"), "{like}");
    assert_eq!(
        query::query(&path, "SELECT 'x' LIKE '%x'", 0).unwrap().rows,
        [[serde_json::json!(1)]]
    );
    let megabyte = "SELECT printf('%.1000000c', 'x') UNION ALL SELECT printf('%.1000000c', 'y')";
    let alone = |largest| query::query_alone(&path, megabyte, 0, largest);
    assert_eq!(alone(3 << 20).unwrap().rows.len(), 2);
    let large = alone(1 << 20).unwrap_err().to_string();
    assert!(large.contains("larger than 1 MiB"), "{large}");
}

#[test]
fn a_store_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 1).unwrap();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", entry.path().display());
    }
}

#[test]
fn l4_a_run_that_is_called_as_before_has_an_event_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let mut writer = Writer::open(&path).unwrap();
    writer.append(&records(), 1).unwrap();
    for (at_us, name) in [(2, "one"), (3, "other"), (4, "one")] {
        let labels = demask_storage::Labels {
            name: Some(name.into()),
            ..Default::default()
        };
        let (run, by) = ("r".into(), "ann (cli)".into());
        let relabelled = demask_storage::Relabelled { run, by, labels };
        writer.append(&[Record::Relabelled(relabelled)], at_us).unwrap();
    }
    let told = query::query(&path, "SELECT count(*) FROM v_event WHERE kind = 'relabelled'", 0).unwrap();
    assert_eq!(told.rows, [[serde_json::json!(3)]]);
    let (run, _) = journal::run(writer.connection(), "r").unwrap().unwrap();
    assert_eq!(run.labels.name.as_deref(), Some("one"));
    assert_eq!(journal::unfinished(writer.connection()).unwrap(), Some(run));
}

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
