//! Options of the loop: the initial weights of a run, the prompts that UniGRPO learns from, the promotion gate, reward
//! networks.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};

use demask_tests::Place;
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::weights::weights_hash;
use serde_json::{Value, json};

/// Runs a profile to its end; returns the folder of its last checkpoint.
fn run(place: &Place, profile: &str, arguments: &[&str]) -> PathBuf {
    let file = place.path().join("profile.toml");
    std::fs::write(&file, profile).unwrap();
    let mut all = vec!["run", "--headless", "--profile", file.to_str().unwrap()];
    all.extend(arguments);
    let out = place.run(&all);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let last = rows_as_json(place, "SELECT path FROM v_checkpoint ORDER BY at_us DESC LIMIT 1");
    place.path().join(last[0]["path"].as_str().unwrap())
}

#[test]
fn a_run_starts_from_the_checkpoint_that_is_named() {
    let place = Place::default();
    let trained = run(
        &place,
        &smoke_with_stages("[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 2\nbatch = 4\n"),
        &["--from-scratch"],
    );
    let looked = smoke_with_stages(
        "[[stage]]\nname = \"look\"\nkind = \"evaluate\"\nsuites = [\"tabletop-sums\"]\nlimit = 2\n",
    );
    let seen = run(&place, &looked, &["--checkpoint", trained.to_str().unwrap()]);
    assert_ne!(seen, trained, "a run of its own");
    assert_eq!(weights_hash(&seen), weights_hash(&trained));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

#[test]
fn a_folder_that_is_no_checkpoint_starts_nothing() {
    let place = Place::default();
    let out = place.run(&["run", "--headless", "--checkpoint", "nowhere"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(
        said.contains("--checkpoint nowhere") && said.contains("no such folder"),
        "{said}"
    );
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}

/// Dynamic sampling: every sample is recorded, but only groups with differing rewards are trained on.
#[test]
fn groups_that_tell_nothing_make_room_for_others() {
    let place = Place::default();
    let stage = "[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 2\nbatch = 2\ngroup = 2\nresample = 3\n\
                 sources = [\"sums\", \"draw\"]\nobjective = { inner_steps = 1 }\n";
    run(&place, &smoke_with_stages(stage), &["--from-scratch"]);
    let groups = rows_as_json(
        &place,
        "SELECT step, max(total) - min(total) > 1e-9 AS telling, max(trained) AS trained \
         FROM v_rollout GROUP BY step, \"group\" ORDER BY step, \"group\"",
    );
    let groups = groups.as_array().unwrap();
    for step in 0..2 {
        let drawn: Vec<&Value> = groups.iter().filter(|group| group["step"] == step).collect();
        let telling = drawn.iter().filter(|group| group["telling"] == json!(1)).count();
        assert!(telling <= 2, "no more than a step has room for");
        assert!(
            telling == 2 || drawn.len() == 8,
            "drawn on until the step is full or the prompts are gone"
        );
        assert!(drawn.iter().all(|group| group["telling"] == group["trained"]));
    }
    assert!(
        groups.iter().any(|group| group["telling"] == json!(0)),
        "some were let go"
    );
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// A checkpoint that a stage ruined is not continued: the run returns to the promoted weights.
#[test]
fn the_gate_takes_a_ruined_model_back() {
    let place = Place::default();
    let look = |name: &str| {
        format!(
            "[[stage]]\nname = \"{name}\"\nkind = \"evaluate\"\nsuites = [\"tabletop-ask\"]\nlimit = 12\n"
        )
    };
    let ruin = "[[stage]]\nname = \"ruin\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\nlearning_rate = 0.5\nsources = [\"sums\"]\n";
    let profile = include_str!("../../../../actors/profiles/tabletop.toml");
    let (head, _) = profile.split_once("[[stage]]").unwrap();
    let stages = [&look("before"), ruin, &look("after")].concat();
    let last = run(&place, &format!("{head}[gate]\nrollback = true\n\n{stages}"), &[]);
    let decisions = rows_as_json(&place, "SELECT decision FROM v_eval ORDER BY step");
    assert_eq!(
        decisions,
        json!([{"decision": "baseline"}, {"decision": "roll_back"}])
    );
    let promoted = rows_as_json(&place, "SELECT path FROM v_checkpoint WHERE step = 1 LIMIT 1");
    let promoted = place.path().join(promoted[0]["path"].as_str().unwrap());
    assert_eq!(weights_hash(&last), weights_hash(&promoted));
    let ruined = rows_as_json(&place, "SELECT count(DISTINCT hash) AS n FROM v_checkpoint");
    assert!(ruined[0]["n"].as_u64().unwrap() > 1, "there was another one");
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// Reward networks of a profile score rollouts and a benchmark's drawings, and their scores are recorded.
#[test]
fn drawings_are_scored_by_the_reward_networks_that_are_named() {
    let place = Place::default();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let folder = |name: &str| fixtures.join(name).canonicalize().unwrap().display().to_string();
    let stage = "[[stage]]\nname = \"unigrpo\"\nkind = \"align\"\nsteps = 1\nbatch = 2\ngroup = 2\n\
                 sources = [\"draw\"]\nobjective = { inner_steps = 1 }\n\
                 [[stage]]\nname = \"after\"\nkind = \"evaluate\"\nsuites = [\"tabletop-draw\", \"tabletop-sums\"]\nlimit = 4\n";
    let networks = |clip: &str| {
        let image_reward = folder("image-reward");
        format!("[reward_networks]\nclip = \"{clip}\"\nimage_reward = \"{image_reward}\"\n\n{stage}")
    };
    run(
        &place,
        &smoke_with_stages(&networks(&folder("clip"))),
        &["--from-scratch"],
    );
    let rows = rows_as_json(&place, "SELECT parts FROM v_rollout");
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let parts = row["parts"].to_string();
        assert!(
            parts.contains("image_reward") && parts.contains("clip"),
            "{parts}"
        );
    }
    let rows = rows_as_json(
        &place,
        "SELECT name, value FROM v_metric WHERE name LIKE 'eval/%/%' ORDER BY name",
    );
    let named = |at: usize| rows[at]["name"].as_str().unwrap();
    let value = |at: usize| rows[at]["value"].as_f64().unwrap();
    assert_eq!(
        rows.as_array().unwrap().len(),
        6,
        "of the suite that draws alone: {rows:#}"
    );
    for (at, network) in [(0, "clip"), (3, "image_reward")] {
        let mean = format!("eval/tabletop-draw/{network}");
        assert_eq!(
            [named(at), named(at + 1), named(at + 2)],
            [&mean, &format!("{mean}/high"), &format!("{mean}/low")]
        );
        assert!(
            value(at + 2) <= value(at) && value(at) <= value(at + 1),
            "{rows:#}"
        );
    }
    assert!(place.run(&["daemon", "stop"]).status.success());
}
