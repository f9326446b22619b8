//! Rounds: stages that are repeated several times.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, start, wait_for};
use serde_json::json;

fn stages(round: &str) -> String {
    format!(
        "[[stage]]\nname = \"reason{round}\"\nkind = \"reason\"\nbatch = 2\ngroup = 2\nsources = [\"sums\"]\n\
         [[stage]]\nname = \"cot{round}\"\nkind = \"finetune\"\nsteps = 2\nbatch = 4\n\
         [[stage]]\nname = \"align{round}\"\nkind = \"align\"\nsteps = 2\nbatch = 2\ngroup = 2\nlearning_rate = 1e-4\n\
         objective = {{ inner_steps = 1 }}\n"
    )
}

const FIRST: &str = "[[stage]]\nname = \"first\"\nkind = \"pretrain\"\nsteps = 2\nbatch = 4\n";
const ROUNDS: &str = "[[rounds]]\nstages = [\"reason\", \"cot\", \"align\"]\nrepeat = 2\n";

/// Returns the final weights and the records, optionally with a `kill -9` in the second round.
async fn trained(profile: &str, kill: bool) -> (String, serde_json::Value) {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, profile).await;
    if kill {
        // The second round aligns in steps 10 and 11, relative to the weights of step 10.
        let second = |record: &Record| matches!(record, Record::TrainUse(used) if used.step == 11);
        wait_for(&mut client, second).await.unwrap();
        place.kill();
        client = place.serve().await;
        client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    assert!(
        matches!(&end.record, Record::RunEnd(end) if end.status == RunState::Done),
        "{end:?}"
    );
    let sql = "SELECT step, name, value FROM v_metric WHERE name NOT LIKE 'rate/%' ORDER BY step, name";
    let values = rows_as_json(&place, sql);
    let stages = rows_as_json(&place, "SELECT DISTINCT stage FROM v_lineage ORDER BY step");
    let names: BTreeSet<&str> = stages
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        BTreeSet::from(["first", "cot-1", "align-1", "cot-2", "align-2"])
    );
    let rounds = rows_as_json(&place, "SELECT DISTINCT round FROM v_trace ORDER BY round");
    assert_eq!(rounds, json!([{"round": 1}, {"round": 2}]));
    assert_eq!(place.terminate(), Some(0));
    (weights_hash(&last_checkpoint(place.path(), &run)), values)
}

#[tokio::test(flavor = "current_thread")]
async fn l1_l8_rounds_are_the_stages_written_out_and_exact_over_a_crash() {
    let rounds = smoke_with_stages(&[ROUNDS, FIRST, &stages("")].concat());
    let written = smoke_with_stages(&[FIRST, &stages("-1"), &stages("-2")].concat());
    let expected = trained(&written, false).await;
    assert!(trained(&rounds, false).await == expected);
    assert!(trained(&rounds, true).await == expected);
}

/// Rounds over stages that are not consecutive, that overlap another round or that do not repeat are refused
/// with their line.
#[test]
fn rounds_of_stages_that_do_not_follow_one_another_is_told_with_its_line() {
    let place = Place::default();
    let file = place.path().join("rounds.toml");
    for (rounds, words) in [
        (
            "stages = [\"cot\", \"reason\"]\nrepeat = 2\n",
            "consecutive stages",
        ),
        ("stages = [\"reason\"]\nrepeat = 0\n", "repeat"),
        ("stages = []\nrepeat = 2\n", "consecutive stages"),
        (
            "stages = [\"cot\"]\nrepeat = 2\n[[rounds]]\nstages = [\"cot\"]\nrepeat = 2\n",
            "another [[rounds]] has too",
        ),
    ] {
        std::fs::write(
            &file,
            smoke_with_stages(&format!("[[rounds]]\n{rounds}{}", stages(""))),
        )
        .unwrap();
        let out = place.run(&["run", file.to_str().unwrap(), "--headless"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(
            said.contains("rounds.toml, line ") && said.contains(words),
            "{rounds}: {said}"
        );
    }
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}
