//! Queued runs: one after another, however the previous one ends and whatever happens to the daemon (law L1).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_storage::{Command as Ask, Record};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, said, start, wait_for};
use serde_json::{Value, json};

fn profile(place: &Place, name: &str, more: &str) -> PathBuf {
    let file = place.path().join(format!("{name}.toml"));
    let stages = format!("{more}[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n");
    std::fs::write(&file, smoke_with_stages(&stages)).unwrap();
    file
}

/// Queues a run; returns its id.
fn queue(place: &Place, profile: &Path, name: &str) -> String {
    let out = place.run(&[
        "run",
        profile.to_str().unwrap(),
        "--from-scratch",
        "--queue",
        "--name",
        name,
        "--json",
    ]);
    assert!(out.status.success(), "{}", said(&out));
    let queued: Value = serde_json::from_slice(&out.stdout).unwrap();
    queued["queued"].as_str().unwrap().to_owned()
}

fn waiting(place: &Place) -> Vec<String> {
    let out = place.run(&["queue", "list", "--json"]);
    let rows: Value = serde_json::from_slice(&out.stdout).unwrap();
    let name = |row: &Value| row["name"].as_str().unwrap().to_owned();
    rows.as_array().unwrap().iter().map(name).collect()
}

/// Queued runs start in their order although one fails. Waiting runs can be moved, cancelled and relabelled,
/// and the store shows the order in which they ran.
#[tokio::test(flavor = "current_thread")]
async fn runs_follow_one_another_though_one_fails_and_their_order_can_be_changed() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let good = profile(&place, "good", "");
    let rows = place.path().join("rows.jsonl");
    std::fs::write(&rows, "{\"text\": \"a row\"}\n").unwrap();
    let source = format!("[[source]]\nname = \"rows\"\nkind = \"jsonl\"\npath = {rows:?}\n");
    let bad = profile(&place, "bad", &source);
    queue(&place, &good, "first");
    // Paused, so that the others wait while they are moved.
    client.ask(Ask::Pause).await.unwrap();
    for name in ["bad", "second", "third", "never"] {
        queue(&place, if name == "bad" { &bad } else { &good }, name);
    }
    assert_eq!(waiting(&place), ["bad", "second", "third", "never"]);
    std::fs::remove_file(&rows).unwrap();
    let moved = place.run(&["queue", "move", "third", "1"]);
    assert!(
        moved.status.success() && said(&moved).contains("number 1 of 4"),
        "{}",
        said(&moved)
    );
    assert!(place.run(&["queue", "cancel", "never"]).status.success());
    assert_eq!(waiting(&place), ["third", "bad", "second"]);
    let ps = place.run(&["ps", "--json"]);
    let ps: Value = serde_json::from_slice(&ps.stdout).unwrap();
    assert_eq!(ps["queue"][1]["name"], "bad");
    assert!(said(&place.run(&["ps"])).contains("queued runs"));
    // A waiting run gets other labels, and has them when it starts.
    let edited = place.run(&[
        "runs", "edit", "second", "--name", "2nd", "--tag", "late", "--json",
    ]);
    let edited: Value = serde_json::from_slice(&edited.stdout).unwrap();
    assert_eq!(edited["labels"]["tags"], json!(["late"]));
    assert_eq!(waiting(&place), ["third", "bad", "2nd"]);
    let unknown = place.run(&["queue", "cancel", "nobody"]);
    assert!(
        unknown.status.code() == Some(1) && said(&unknown).contains("no queued run"),
        "{}",
        said(&unknown)
    );
    client.ask(Ask::Resume).await.unwrap();
    for _ in 0..4 {
        wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
    }
    let ends = rows_as_json(&place, "SELECT name, status FROM v_run ORDER BY started_us");
    let ends: Vec<(&str, &str)> = ends
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["name"].as_str().unwrap(), row["status"].as_str().unwrap()))
        .collect();
    assert_eq!(
        ends,
        [
            ("first", "done"),
            ("third", "done"),
            ("bad", "failed"),
            ("2nd", "done")
        ]
    );
    assert!(waiting(&place).is_empty());
    assert_eq!(place.terminate(), Some(0));
}

/// A daemon that is killed at any stage loses no queued run and starts none twice (L1). All runs end with
/// the same weights, as they have the same profile and seed (L8).
#[tokio::test(flavor = "current_thread")]
async fn l1_a_daemon_that_dies_forgets_no_run_that_waits_and_begins_none_twice() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    let good = profile(&place, "good", "");
    let runs: Vec<String> = ["a", "b", "c"]
        .iter()
        .map(|name| queue(&place, &good, name))
        .collect();
    // As soon as a run is acknowledged; in the middle of the first one; when the next one has just started.
    place.kill();
    client = {
        drop(client);
        place.serve().await
    };
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    wait_for(&mut client, |record| matches!(record, Record::TrainUse(_)))
        .await
        .unwrap();
    place.kill();
    client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let next = wait_for(
        &mut client,
        |record| matches!(record, Record::Run(run) if run.id == runs[1]),
    )
    .await;
    assert!(next.is_some());
    place.kill();
    // Without a daemon, the queue can still be read and changed.
    assert_eq!(waiting(&place), ["c"]);
    assert!(place.run(&["queue", "move", "c", "1"]).status.success());
    client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    wait_for(
        &mut client,
        |record| matches!(record, Record::RunEnd(end) if end.run == runs[2]),
    )
    .await
    .unwrap();
    let all = rows_as_json(&place, "SELECT name, status FROM v_run ORDER BY started_us");
    assert_eq!(
        all,
        json!([{"name": "a", "status": "done"}, {"name": "b", "status": "done"}, {"name": "c", "status": "done"}])
    );
    assert_eq!(place.terminate(), Some(0));
    let weights: Vec<String> = runs
        .iter()
        .map(|run| weights_hash(&last_checkpoint(place.path(), run)))
        .collect();
    assert!(
        weights.iter().all(|one| *one == weights[0]),
        "L8: the same profile and seed: {weights:?}"
    );
}

/// A checkpoint from which a waiting run starts is not pruned meanwhile.
#[tokio::test(flavor = "current_thread")]
async fn the_checkpoint_that_a_waiting_run_begins_with_stays() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let parent = start(&mut client, SMOKE).await;
    let first = wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_)))
        .await
        .unwrap();
    let Record::Checkpoint(first) = first.record else {
        unreachable!("{first:?}")
    };
    client.ask(Ask::Pause).await.unwrap();
    let little = profile(&place, "little", "");
    let from = format!("{parent}@{}", first.step);
    let out = place.run(&["run", little.to_str().unwrap(), "--from", &from, "--queue"]);
    assert!(
        out.status.success() && said(&out).contains("1 before it"),
        "{}",
        said(&out)
    );
    client.ask(Ask::Resume).await.unwrap();
    for _ in 0..2 {
        wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
    }
    let runs = rows_as_json(
        &place,
        "SELECT status, parent_step FROM v_run ORDER BY started_us",
    );
    assert_eq!(
        runs,
        json!([{"status": "done", "parent_step": null}, {"status": "done", "parent_step": first.step}])
    );
    let kept = format!(
        "SELECT count(*) AS n FROM v_checkpoint WHERE kept AND run = '{parent}' AND step > {}",
        first.step
    );
    assert!(
        rows_as_json(&place, &kept)[0]["n"].as_u64().unwrap() >= 2,
        "it would have been too old"
    );
    assert_eq!(place.terminate(), Some(0));
}
