//! Law L1: a damaged store is reported before anything is written to it, and then repaired: runs whose checkpoints
//! exist can be shown, resumed and started from.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use demask_storage::{Record, RunState};
use demask_tests::store::{rows_as_csv, rows_in};
use demask_tests::weights::{last_checkpoint, tensor_hashes};
use demask_tests::{Place, SMOKE, ended, said, start, subscribed, wait_for};
use serde_json::Value;

/// Makes a run that is killed with its daemon after its second checkpoint, or that has ended.
async fn left(place: &mut Place, killed: bool) -> String {
    let mut client = subscribed(place).await;
    let run = start(&mut client, SMOKE).await;
    if killed {
        for _ in 0..2 {
            wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_)))
                .await
                .unwrap();
        }
        place.kill();
    } else {
        assert_eq!(ended(&mut client).await, RunState::Done);
        assert_eq!(place.terminate(), Some(0));
    }
    run
}

fn file(place: &Place, suffix: &str) -> PathBuf {
    place.path().join(format!("demask.db{suffix}"))
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

/// Checks that the daemon refuses the store with one line and leaves the files unchanged.
fn is_refused(place: &Place, why: &str) {
    let before = fs::read(file(place, "")).unwrap();
    let out = place.run(&["daemon", "start"]);
    let words = said(&out);
    assert_eq!(out.status.code(), Some(1), "{words}");
    assert!(
        words.contains(why) && words.contains("demask doctor --repair"),
        "{words}"
    );
    assert_eq!(words.trim().lines().count(), 1, "{words}");
    assert_eq!(fs::read(file(place, "")).unwrap(), before);
}

fn repaired(place: &Place) -> Value {
    let out = place.run(&["doctor", "--repair", "--json"]);
    assert!(out.status.success(), "{}", said(&out));
    serde_json::from_slice(&out.stdout).unwrap()
}

/// Checks that `runs show` knows the run, that another run starts from its weights, and that it ends like an
/// undisturbed one.
async fn is_whole(place: &mut Place, run: &str, expected: &[String]) {
    let shown = place.run(&["runs", "show", run]);
    assert!(shown.status.success(), "{}", said(&shown));
    let from = place.run(&["run", "smoke", "--from", run, "--queue", "--json"]);
    assert!(from.status.success(), "{}", said(&from));
    let other: Value = serde_json::from_slice(&from.stdout).unwrap();
    let other = other["queued"].as_str().unwrap();
    let until_done = |run: &str| {
        let sql = format!("SELECT status FROM v_run WHERE run = '{run}'");
        loop {
            // A waiting run has no row there yet.
            let rows = rows_in(place.path(), &sql);
            let status = rows.first().and_then(|row| row[0].as_str()).unwrap_or("waits");
            assert!(status != "failed" && status != "stopped", "{status}");
            if status == "done" {
                return;
            }
            let status = place.run(&["ps"]);
            assert!(status.status.success(), "{}", said(&status));
        }
    };
    until_done(other);
    let resumed = place.run(&["resume", run, "--follow"]);
    let words = said(&resumed);
    assert!(resumed.status.success() || words.contains("is done"), "{words}");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), run)), expected);
    assert!(place.run(&["daemon", "stop"]).status.success());
}

async fn undisturbed() -> Vec<String> {
    let mut place = Place::default();
    let run = left(&mut place, false).await;
    tensor_hashes(&last_checkpoint(place.path(), &run))
}

/// A store with a broken log is refused, and its repair saves every acknowledged row and keeps the damaged
/// files. The run then resumes to the weights of an undisturbed one.
#[tokio::test]
async fn l1_a_log_with_a_broken_header_is_refused_and_its_rows_are_saved() {
    let mut place = Place::default();
    let run = left(&mut place, true).await;
    let rows = "SELECT count(*) FROM v_event";
    let before = rows_as_csv(&place, rows);
    overwrite(&file(&place, "-wal"), 0, &[0; 32]);
    is_refused(&place, "the header of its write-ahead log is damaged");
    // Commands that would write to the store refuse it too.
    let edited = place.run(&["runs", "edit", &run, "--name", "x"]);
    assert!(said(&edited).contains("is damaged"), "{}", said(&edited));
    let repair = repaired(&place);
    assert!(repair["transactions"].as_u64() > Some(0), "{repair}");
    assert_eq!(
        repair["runs"],
        serde_json::json!([]),
        "its row was saved: {repair}"
    );
    let aside = PathBuf::from(repair["aside"].as_str().unwrap());
    assert!(aside.join("demask.db-wal").is_file() && aside.join("demask.db").is_file());
    let after = "SELECT count(*) FROM v_event WHERE kind <> 'alert' OR body NOT LIKE '%store_repaired%'";
    assert_eq!(
        rows_as_csv(&place, after).lines().nth(1),
        before.lines().nth(1),
        "nothing that was acknowledged is lost"
    );
    let expected = undisturbed().await;
    let mut client = subscribed(&mut place).await;
    assert_eq!(ended(&mut client).await, RunState::Done, "it goes on by itself");
    assert_eq!(tensor_hashes(&last_checkpoint(place.path(), &run)), expected);
}

/// A store that is lost entirely is rebuilt from the checkpoints: its run can be shown and used as a parent
/// again.
#[tokio::test]
async fn l1_a_store_that_is_emptied_or_garbage_is_refused_and_rebuilt_from_checkpoints() {
    let expected = undisturbed().await;
    for (what, why) in [("emptied", "it is empty"), ("garbage", "not a SQLite database")] {
        let mut place = Place::default();
        let run = left(&mut place, what == "garbage").await;
        let bytes = if what == "emptied" {
            Vec::new()
        } else {
            vec![b'x'; 5000]
        };
        fs::write(file(&place, ""), bytes).unwrap();
        fs::remove_file(file(&place, "-wal")).ok();
        is_refused(&place, why);
        let doctor = place.run(&["doctor", "--json"]);
        let report: Value = serde_json::from_slice(&doctor.stdout).unwrap();
        let store = report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|check| check["name"] == "store");
        assert_eq!(store.unwrap()["status"], "fail", "{report}");
        let repair = repaired(&place);
        assert_eq!(repair["runs"], serde_json::json!([run]), "{what}: {repair}");
        assert!(repair["checkpoints"].as_u64() >= Some(1), "{what}: {repair}");
        let why = rows_as_csv(&place, "SELECT reason FROM v_run");
        assert!(why.contains("with the times of the repair"), "{why}");
        is_whole(&mut place, &run, &expected).await;
    }
}

#[tokio::test]
async fn l1_a_store_whose_end_is_missing_is_refused_and_what_can_be_read_is_kept() {
    let mut place = Place::default();
    let run = left(&mut place, false).await;
    let expected = tensor_hashes(&last_checkpoint(place.path(), &run));
    let bytes = fs::metadata(file(&place, "")).unwrap().len();
    File::options()
        .write(true)
        .open(file(&place, ""))
        .unwrap()
        .set_len(bytes / 2)
        .unwrap();
    is_refused(&place, "its end is missing");
    let repair = repaired(&place);
    assert!(repair["rows"].as_u64() > Some(0), "{repair}");
    is_whole(&mut place, &run, &expected).await;
}

#[tokio::test]
async fn l1_a_page_that_is_overwritten_is_found_at_the_daemons_start() {
    let mut place = Place::default();
    left(&mut place, false).await;
    let pages = fs::metadata(file(&place, "")).unwrap().len() / 4096;
    for page in 1..pages {
        overwrite(&file(&place, ""), page * 4096, &[0xa5; 64]);
    }
    is_refused(&place, "is damaged");
    assert_eq!(repaired(&place)["runs"].as_array().unwrap().len(), 1);
    drop(subscribed(&mut place).await);
    assert_eq!(place.terminate(), Some(0));
}

#[tokio::test]
async fn l1_a_store_that_is_gone_and_pictures_that_are_gone_are_told() {
    let mut place = Place::default();
    let run = left(&mut place, false).await;
    fs::remove_dir_all(place.path().join("blobs")).unwrap();
    let told = |place: &Place| rows_as_csv(place, "SELECT message FROM v_alert WHERE kind = 'store'");
    drop(subscribed(&mut place).await);
    assert_eq!(place.terminate(), Some(0));
    assert!(
        told(&place).contains("pictures that the store refers to are lost"),
        "{}",
        told(&place)
    );
    fs::remove_file(file(&place, "")).unwrap();
    drop(subscribed(&mut place).await);
    assert_eq!(place.terminate(), Some(0));
    assert!(told(&place).contains(&run), "{}", told(&place));
    assert_eq!(repaired(&place)["runs"], serde_json::json!([run]));
    assert_eq!(repaired(&place)["runs"], serde_json::json!([]), "once");
}

#[tokio::test]
async fn a_store_that_is_served_is_not_repaired() {
    let mut place = Place::default();
    drop(subscribed(&mut place).await);
    let out = place.run(&["doctor", "--repair"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(said(&out).contains("already owns"), "{}", said(&out));
    assert!(said(&out).contains("`demask daemon stop`"), "{}", said(&out));
    assert_eq!(place.terminate(), Some(0));
}
