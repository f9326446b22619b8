//! Runs: the names that mean them, and the queue.

use demask_storage::query;
use demask_storage::runs::find::find;
use demask_storage::runs::queue;
use demask_storage::runs::requested::{RequestState, requested};
use demask_storage::{QueueAction, QueueChange, Queued, Record, RunRequest, Writer, journal};

use crate::rows::begun;

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
    let places = || query::query(&path, "SELECT place, run FROM v_queue ORDER BY place", 0).unwrap();
    assert_eq!(
        places().rows,
        vec![
            vec![serde_json::json!(1), "b".into()],
            vec![serde_json::json!(2), "d".into()]
        ]
    );
    // What one request is does not matter to the others.
    for spoilt in ["no JSON", "{\"profile\": 1}"] {
        let spoil = format!("UPDATE queue SET request = '{spoilt}' WHERE run = 'b'");
        writer.connection().execute_batch(&spoil).unwrap();
        assert_eq!(waits(&writer), ["b", "d"]);
        assert_eq!(places().rows.len(), 2);
        let waiting = queue::waiting(writer.connection()).unwrap();
        let found = queue::named(&waiting, "b").unwrap();
        let why = found.request.as_ref().unwrap_err();
        assert!(why.contains("the queued run b"), "{why}");
        assert!(waiting[1].request.is_ok());
        assert!(journal::begun_from(writer.connection(), "c").unwrap().is_empty());
    }
    let requested = |run| requested(writer.connection(), run).unwrap().map(|run| run.state);
    let cancelled = RequestState::Cancelled {
        reason: "no more".into(),
    };
    assert_eq!(requested("a"), Some(cancelled));
    assert_eq!(requested("d"), Some(RequestState::Waiting));
    assert!(matches!(requested("c"), Some(RequestState::Begun { .. })));
    assert_eq!(requested("e"), None);
}
