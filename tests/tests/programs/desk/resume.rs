//! Runs that are resumed after their end, and runs that start from another's weights.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, ended, said, start, undisturbed, wait_for};
use serde_json::json;

/// A run that is stopped and resumed twice, then killed, ends with the weights of an undisturbed one (L1,
/// L8). Every resumption has a row (L4), and a finished run cannot be resumed.
#[tokio::test(flavor = "current_thread")]
async fn l1_l8_a_run_that_was_stopped_goes_on_and_ends_in_the_weights_of_one_that_was_not() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    // Twice: an earlier stop must not end the resumed run, nor an earlier pause hold it.
    for _ in 0..2 {
        wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_)))
            .await
            .unwrap();
        client.ask(Ask::Pause).await.unwrap();
        client.ask(Ask::Stop).await.unwrap();
        assert_eq!(ended(&mut client).await, RunState::Stopped);
        let out = place.run(&["resume", &run]);
        assert!(
            out.status.success() && said(&out).contains("continues at step"),
            "{}",
            said(&out)
        );
    }
    // L1: the daemon also dies after it knows of the stop and of what followed.
    place.kill();
    client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let rows = rows_as_json(&place, "SELECT status FROM v_run");
    if rows != json!([{"status": "done"}]) {
        assert_eq!(ended(&mut client).await, RunState::Done);
    }
    let sql = "SELECT count(*) AS n FROM v_steer WHERE action = 'resume' AND key = 'run' AND old = 'stopped' AND applied_step > 0";
    assert_eq!(rows_as_json(&place, sql), json!([{"n": 2}]), "L4: each is a row");
    let out = place.run(&["resume", "latest"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        said(&out).contains("is done") && said(&out).contains("--from"),
        "{}",
        said(&out)
    );
    let ends = rows_as_json(&place, "SELECT count(*) AS n FROM v_event WHERE kind = 'run_end'");
    assert_eq!(ends, json!([{"n": 3}]), "two stops and the end");
    assert_eq!(place.terminate(), Some(0));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), SMOKE).await
    );
}

/// A failed run can be resumed once its cause is removed, and ends with the weights of an undisturbed one.
#[tokio::test(flavor = "current_thread")]
async fn l1_l8_a_run_that_failed_goes_on_once_its_cause_is_mended() {
    let mut place = Place::default();
    // The folder of pictures is a file, so the first picture cannot be written.
    let blobs = place.home().blobs();
    std::fs::write(&blobs, "in the way").unwrap();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    assert_eq!(ended(&mut client).await, RunState::Failed);
    let out = place.run(&["resume", &run, "--follow"]);
    assert_eq!(
        out.status.code(),
        Some(1),
        "its cause is there still: {}",
        said(&out)
    );
    std::fs::remove_file(&blobs).unwrap();
    let out = place.run(&["resume", &run, "--follow"]);
    assert!(
        out.status.success() && said(&out).contains("done: all stages are done"),
        "{}",
        said(&out)
    );
    assert_eq!(place.terminate(), Some(0));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), SMOKE).await
    );
}

const LITTLE: &str = "[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 4\nbatch = 4\n\
                      [[stage]]\nname = \"look\"\nkind = \"evaluate\"\nsuites = [\"tabletop-sums\"]\nlimit = 2\n\
                      [[stage]]\nname = \"more\"\nkind = \"pretrain\"\nsteps = 1\nbatch = 4\n";

/// A run starts from another run's checkpoint, named by the run's name or part of its id and by a step,
/// `best` or `latest`. It has that checkpoint's weights and records its parent. A name that means no
/// checkpoint or several runs is refused.
#[test]
fn a_run_begins_with_the_checkpoint_of_another_and_says_so() {
    let place = Place::default();
    let write = |name: &str, stages: &str| {
        let file = place.path().join(name);
        std::fs::write(&file, smoke_with_stages(stages)).unwrap();
        file.to_string_lossy().into_owned()
    };
    let first = write("first.toml", LITTLE);
    let out = place.run(&[
        "run",
        &first,
        "--headless",
        "--from-scratch",
        "--name",
        "the first",
        "--tag",
        "a",
        "--tag",
        "b",
    ]);
    assert!(out.status.success(), "{}", said(&out));
    let look = "[[stage]]\nname = \"look\"\nkind = \"evaluate\"\nsuites = [\"tabletop-sums\"]\nlimit = 2\n";
    let second = write("second.toml", look);
    let kept = rows_as_json(
        &place,
        "SELECT step, path, run FROM v_checkpoint WHERE kept ORDER BY step",
    );
    let parent = kept[0]["run"].as_str().unwrap().to_owned();
    for (from, step) in [
        ("the first@best", 5),
        ("the first@latest", 6),
        ("latest", 1),
        (&format!("{}@5", &parent[20..]), 5),
    ] {
        let out = place.run(&["run", &second, "--headless", "--from", from]);
        assert!(out.status.success(), "{from}: {}", said(&out));
        let child = rows_as_json(
            &place,
            "SELECT run, parent_step FROM v_run ORDER BY started_us DESC LIMIT 1",
        );
        assert_eq!(child[0]["parent_step"], json!(step), "{from}");
        if from != "latest" {
            let path = kept
                .as_array()
                .unwrap()
                .iter()
                .find(|row| row["step"] == step)
                .unwrap()["path"]
                .as_str()
                .unwrap();
            let own = last_checkpoint(place.path(), child[0]["run"].as_str().unwrap());
            assert_eq!(
                weights_hash(&own),
                weights_hash(&place.path().join(path)),
                "{from}"
            );
        }
    }
    let children = format!("SELECT count(*) AS n FROM v_run WHERE parent = '{parent}'");
    assert_eq!(rows_as_json(&place, &children), json!([{"n": 3}]));
    // Every command that accepts a checkpoint.
    let out = place.run(&[
        "eval",
        "tabletop-sums",
        "--limit",
        "1",
        "--checkpoint",
        "the first@5",
        "--json",
    ]);
    assert!(out.status.success(), "{}", said(&out));
    for (named, words) in [
        (
            "the first@3",
            "has no checkpoint of step 3; it has checkpoints of steps",
        ),
        ("the first@worst", "expected the number of a step, best or latest"),
        ("nobody", "no run has the name 'nobody'"),
        ("0", "'0' matches "),
    ] {
        let out = place.run(&["run", &second, "--headless", "--from", named]);
        assert_eq!(out.status.code(), Some(2), "{named}");
        assert!(said(&out).contains(words), "{named}: {}", said(&out));
    }
    assert!(place.run(&["daemon", "stop"]).status.success());
}
