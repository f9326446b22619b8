//! Laws L1 and L8: a run killed with `kill -9` at any moment goes on, loses nothing that was acknowledged, and ends in the
//! weights of an uninterrupted one.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use demask_storage::{Command as Ask, Record};
use demask_tests::{Place, SMOKE, next_event, start, wait_for};

/// The BLAKE3 of the final weights, as the last checkpoint's manifest has it.
fn final_weights(home: &Path, run: &str) -> String {
    let folder = home.join("checkpoints").join(run);
    let mut steps: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    steps.sort();
    let text = std::fs::read_to_string(steps.last().unwrap().join("manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let files = manifest["files"].as_array().unwrap();
    files
        .iter()
        .find(|file| file["name"] == "model.safetensors")
        .unwrap()["blake3"]
        .as_str()
        .unwrap()
        .to_owned()
}

fn rows(place: &Place, sql: &str) -> String {
    let out = place.run(&["query", sql, "--format", "csv", "--limit", "0"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

async fn uninterrupted() -> (Place, String) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert!(
        matches!(&end.record, Record::RunEnd(end) if end.status == "done"),
        "{end:?}"
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    (place, run)
}

#[tokio::test(flavor = "current_thread")]
async fn l1_l8_a_killed_run_ends_in_the_weights_of_an_uninterrupted_one() {
    let (calm, calm_run) = uninterrupted().await;
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    let mut acknowledged: Vec<u64> = Vec::new();
    // Kill after this many durable events of each life; the counts fall inside different stages.
    for life in [9, 23, 41, 31, 57] {
        let (mut seen, mut over) = (0, false);
        while seen < life {
            let Some(envelope) = next_event(&mut client).await else {
                panic!("the daemon went away by itself")
            };
            if envelope.record.durable() {
                seen += 1;
                acknowledged.push(envelope.seq);
            }
            over |= matches!(envelope.record, Record::RunEnd(_));
        }
        place.kill();
        client = place.serve().await;
        client
            .ask(Ask::Subscribe {
                since: *acknowledged.last().unwrap(),
            })
            .await
            .unwrap();
        if over {
            break;
        }
    }
    let last = *acknowledged.last().unwrap();
    let ended = rows(&place, "SELECT status FROM v_run");
    if !ended.contains("done") {
        wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
    }
    assert_eq!(place.terminate(), Some(0));
    let kept: u64 = rows(
        &place,
        &format!("SELECT count(*) FROM v_event WHERE seq <= {last}"),
    )
    .lines()
    .nth(1)
    .unwrap()
    .parse()
    .unwrap();
    acknowledged.dedup();
    assert_eq!(kept, last, "every acknowledged event is still there");
    assert_eq!(
        final_weights(place.path(), &run),
        final_weights(calm.path(), &calm_run),
        "L8: the same final weights"
    );
    let twice = rows(
        &place,
        "SELECT count(*) - count(DISTINCT run || '/' || step || '/' || name) FROM v_metric",
    );
    assert_eq!(twice.lines().nth(1), Some("0"), "nothing is recorded twice");
    let curve = "SELECT step, name, value FROM v_metric WHERE name = 'train/loss' ORDER BY step";
    assert_eq!(
        rows(&place, curve),
        rows(&calm, curve),
        "the same losses, step by step"
    );
}

#[tokio::test(flavor = "current_thread")]
async fn l5_every_trained_sequence_names_where_it_comes_from() {
    let (place, _) = uninterrupted().await;
    let trained: u64 = rows(&place, "SELECT count(*) FROM v_lineage")
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(trained > 50, "{trained} sequences were trained");
    let sql = "SELECT count(*) FROM v_lineage WHERE source IS NULL OR generator IS NULL OR verifier IS NULL OR score IS NULL";
    assert_eq!(rows(&place, sql).lines().nth(1), Some("0"));
}
