//! Law L10: a hanging engine is abandoned within seconds when the user stops the run, and nothing is lost. A daemon
//! that does not answer is reported, and ended by force. No test here measures time: the program itself gives up what
//! would never end.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command as Ask, Record, RunState};
use demask_tests::processes::is_alive;
use demask_tests::store::rows_as_csv;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, said, start, undisturbed, wait_for};

/// Starts a daemon whose engine hangs at its fifth step, two after a checkpoint; returns the connection and the run.
async fn hung(place: &mut Place) -> (demask_actors::control::client::Client, String) {
    let fault = place.path().join("fault");
    std::fs::write(&fault, "hang 5\n").unwrap();
    let mut client = place.serve_with(&[("DEMASK_ENGINE_FAULT", &fault)]).await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    let run = start(&mut client, SMOKE).await;
    // The fault's file is removed when the fault occurs.
    while fault.exists() {
        wait_for(&mut client, |record| !matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
    }
    (client, run)
}

fn status(place: &Place, run: &str) -> String {
    rows_as_csv(place, &format!("SELECT status FROM v_run WHERE run = '{run}'"))
}

#[tokio::test]
async fn l10_a_run_whose_engine_hangs_can_be_stopped() {
    let mut place = Place::default();
    let (mut client, run) = hung(&mut place).await;
    assert_eq!(place.run(&["stop"]).status.code(), Some(0));
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    let Record::RunEnd(end) = end.record else {
        unreachable!()
    };
    assert_eq!((end.run.as_str(), end.status), (run.as_str(), RunState::Stopped));
    // L4: the command's row says where it took effect.
    let steered = rows_as_csv(&place, "SELECT action, applied_step IS NOT NULL FROM v_steer");
    assert!(steered.contains("stop,1"), "{steered}");
    // L1: the same daemon resumes the run with another engine.
    let resumed = place.run(&["resume", &run, "--follow"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), SMOKE).await
    );
    assert_eq!(place.terminate(), Some(0));
}

#[tokio::test]
async fn l10_l1_a_daemon_whose_engine_hangs_ends_when_asked_and_the_next_goes_on_to_the_same_weights() {
    let mut place = Place::default();
    let (_client, run) = hung(&mut place).await;
    assert_eq!(place.run(&["daemon", "stop"]).status.code(), Some(0));
    assert!(
        status(&place, &run).contains("interrupted"),
        "{}",
        status(&place, &run)
    );
    place.forget();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    if !status(&place, &run).contains("done") {
        wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
            .await
            .unwrap();
    }
    assert_eq!(place.terminate(), Some(0));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), SMOKE).await
    );
}

/// Commands to a suspended daemon report that it does not answer instead of waiting forever, and `daemon
/// stop` ends it by force.
#[tokio::test]
async fn l10_a_stopped_daemon_is_told_of_and_ended_by_force() {
    let mut place = Place::default();
    drop(place.serve().await);
    let pid = i32::try_from(place.pid().unwrap()).unwrap();
    // SAFETY: sends a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
    let said = |arguments: &[&str]| {
        let out = place.run(arguments);
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    for arguments in [&["ps"][..], &["daemon", "status"], &["stop"]] {
        let (code, words) = said(arguments);
        assert_eq!(code, Some(1), "{arguments:?}: {words}");
        assert!(
            words.contains("has not answered within 5 s") && words.contains("kill -CONT"),
            "{words}"
        );
    }
    assert_eq!(said(&["daemon", "stop"]).0, Some(0));
    assert!(!is_alive(pid), "it is gone");
}
