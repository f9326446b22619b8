//! Laws L1 and L8: any actor of a run may panic at any step. The supervisor restarts it, the step is repeated with the
//! same result, and the run ends with the weights of an undisturbed one. This includes an `align` stage, whose
//! reference policy must again be the stage's first weights.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use demask_actors::control::client::Client;
use demask_actors::daemon::serve_with;
use demask_actors::home::Home;
use demask_actors::run::driver::StageDriver;
use demask_actors::runtime::fault_injection::FaultInjection;
use demask_storage::{Command, Record, events, store};
use demask_tests::profile::smoke;
use demask_tests::store::rows_in;
use demask_tests::weights::weights_hash;
use demask_tests::{start, wait_for};

/// Returns the smoke profile with checkpoints in the middle of `align`, where the reference policy matters.
fn profile() -> String {
    smoke(&[
        "checkpoint.every_steps=2",
        "stage.unigrpo.steps=4",
        "stage.unigrpo.learning_rate=1e-2",
        "stage.unigrpo.objective.kl=2.0",
    ])
}

/// Runs a profile to its end under these faults; returns the run's id.
fn run_with(root: &Path, profile: &str, faults: FaultInjection) -> String {
    let home = Home::open(Some(root.to_owned())).unwrap();
    let served = home.clone();
    let daemon =
        std::thread::spawn(move || serve_with(&served, Rc::new(StageDriver::with_faults(faults))).unwrap());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let run = runtime.block_on(async {
        let mut client = loop {
            match Client::connect(&home, "test").await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
            assert!(!daemon.is_finished(), "the daemon exited during startup");
        };
        client.ask(Command::Subscribe { since: 0 }).await.unwrap();
        let run = start(&mut client, profile).await;
        let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
        assert!(
            matches!(&end.record, Record::RunEnd(end) if end.status == demask_storage::RunState::Done),
            "{end:?}"
        );
        client.ask(Command::Shutdown).await.unwrap();
        run
    });
    daemon.join().unwrap();
    run
}

/// Returns the BLAKE3 of a checkpoint's weights.
fn weights(root: &Path, run: &str, step: u64) -> String {
    let folder = root.join("checkpoints").join(run).join(format!("step-{step:08}"));
    weights_hash(&folder)
}

/// Counts the watched benchmark samples that a late client receives.
fn watched(root: &Path) -> usize {
    let store = store::open_read_only(&root.join("demask.db")).unwrap();
    let samples: BTreeSet<String> = events::recent_events(&store, 0)
        .unwrap()
        .into_iter()
        .filter_map(|event| match event.record {
            Record::Frame(frame) if frame.origin == "evaluation" => Some(frame.sample),
            _ => None,
        })
        .collect();
    samples.len()
}

/// Checks that the first evaluation is the baseline, whose checkpoint is named and kept.
fn promoted(root: &Path, run: &str) {
    let decisions = rows_in(root, "SELECT DISTINCT decision, step FROM v_eval");
    assert_eq!(decisions, [["baseline".into(), serde_json::Value::from(20)]]);
    let folder = root.join("checkpoints").join(run);
    let text = std::fs::read_to_string(folder.join("promoted.json")).unwrap();
    let promoted: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(promoted["checkpoint"], "step-00000020");
    assert!(folder.join("step-00000020").join("manifest.json").is_file());
    assert_eq!(promoted["results"].as_object().unwrap().len(), 3);
}

/// Ten panics in six actors change neither the final weights nor a metric of the run, and each is followed
/// by a restart.
#[test]
fn l1_l8_whoever_panics_the_run_ends_in_the_same_weights() {
    let (calm, fragile) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let calm_run = run_with(calm.path(), &profile(), FaultInjection::default());
    // Steps: codes 0-1, pretrain 2-9, reason 10, cot 11-14, align 15-18, evaluate 19 (judged as 20).
    let faults = FaultInjection::at(&[
        ("curator", 4),
        ("trainer", 7),
        ("scorer", 10),
        ("reasoner", 10),
        ("curator", 10),
        ("rollout", 15),
        ("scorer", 16),
        ("trainer", 17),
        ("trainer", 18),
        ("evaluator", 20),
    ]);
    let fragile_run = run_with(fragile.path(), &profile(), faults.clone());
    assert_eq!(faults.left(), 0, "every fault was reached");
    assert_eq!(
        weights(fragile.path(), &fragile_run, 20),
        weights(calm.path(), &calm_run, 20),
        "L8: the same final weights"
    );
    let curve = "SELECT name, step, value FROM v_metric WHERE name NOT LIKE 'rate/%' ORDER BY name, step";
    assert_eq!(
        rows_in(fragile.path(), curve),
        rows_in(calm.path(), curve),
        "the same figures, step by step"
    );
    let kl = "SELECT count(*) FROM v_metric WHERE name = 'policy/kl' AND step > 16 AND value > 0";
    assert_eq!(rows_in(calm.path(), kl)[0][0], 2, "the reference policy matters");
    assert_eq!(watched(calm.path()), 3, "an item of each suite is seen");
    promoted(calm.path(), &calm_run);
    promoted(fragile.path(), &fragile_run);
    let restarted = "SELECT count(DISTINCT body) FROM v_event WHERE kind = 'lifecycle' AND body LIKE '%asked to at step%' AND body LIKE '%failed%'";
    assert!(rows_in(fragile.path(), restarted)[0][0].as_u64().unwrap() >= 10);
}

/// A panic of the trainer ends a life of the run but keeps its ranks, so it is no restart of theirs, even before they
/// have reported a step.
#[test]
fn l1_a_panic_before_the_first_reported_step_is_no_restart_of_the_ranks() {
    let folder = tempfile::tempdir().unwrap();
    // The steps of the image tokenizer report no ranks.
    let faults = FaultInjection::at(&[("trainer", 0)]);
    let run = run_with(folder.path(), &smoke(&["engine.ranks=2"]), faults.clone());
    assert_eq!(faults.left(), 0, "the fault was reached");
    let lives = format!("SELECT generation FROM v_run WHERE run = '{run}'");
    assert_eq!(
        rows_in(folder.path(), &lives),
        [[1]],
        "the trainer's death was a life"
    );
    let ranks = format!("SELECT rank, restarts FROM v_rank WHERE run = '{run}' ORDER BY rank");
    assert_eq!(rows_in(folder.path(), &ranks), [[0, 0], [1, 0]]);
}
