//! What records leave: rows, alerts and events, once however often they come, and what a late client is told.

use demask_storage::events::recent_events;
use demask_storage::query;
use demask_storage::{Alert, Eval, Frame, Level, Metric, Record, Steer, SteerAction, Writer, journal, store};
use proptest::prelude::*;

use crate::rows::{dump, records};

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

/// A client of another program may count its messages.
#[test]
fn l4_orders_to_two_runs_under_one_id_are_two_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(&folder.path().join("a.db")).unwrap();
    let order = |run: &str, applied_step| {
        Record::Steer(Steer {
            id: "1".into(),
            run: run.into(),
            by: "ann (script)".into(),
            action: SteerAction::Pause,
            key: None,
            old: None,
            new: None,
            asked_step: 3,
            applied_step,
        })
    };
    for (run, applied_step) in [("r", None), ("s", None), ("s", Some(4)), ("s", None)] {
        writer.append(&[order(run, applied_step)], 1).unwrap();
    }
    for (run, applied_step) in [("r", None), ("s", Some(4))] {
        let rows = journal::steers(writer.connection(), run).unwrap();
        let rows: Vec<_> = rows.into_iter().map(|row| (row.id, row.applied_step)).collect();
        assert_eq!(rows, [("1".to_owned(), applied_step)], "{run}");
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
