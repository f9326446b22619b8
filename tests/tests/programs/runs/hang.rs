//! Law L10: a hanging engine is abandoned within seconds when the user stops the run, and nothing is lost, also while
//! the disk does not answer. A daemon that does not answer is reported, and ended by force. No test here measures time:
//! the program itself gives up what would never end.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use demask_actors::control::client::{Client, ClientError};
use demask_actors::runtime::fault_injection::DISK_FAULT;
use demask_storage::{Command as Ask, Record, Reply, RunState};
use demask_tests::processes::{is_alive, training_engines};
use demask_tests::store::rows_as_csv;
use demask_tests::weights::{last_checkpoint, weights_hash};
use demask_tests::{Place, SMOKE, said, start, undisturbed, wait_for};

/// Longest wait for something that takes seconds. A longer one fails the test.
const LONGEST: Duration = Duration::from_secs(120);

/// Starts a daemon whose engine hangs at its fifth step, two after a checkpoint; returns the connection and the run.
async fn hung(place: &mut Place) -> (Client, String) {
    hung_at(place, "hang 5\n").await
}

/// Starts a daemon whose engine hangs at this request; returns the connection and the run.
async fn hung_at(place: &mut Place, request: &str) -> (Client, String) {
    let fault = place.path().join("fault");
    std::fs::write(&fault, request).unwrap();
    let disk = disk_fault(place);
    let variables: [(&str, &Path); 2] = [("DEMASK_ENGINE_FAULT", &fault), (DISK_FAULT, &disk)];
    let mut client = place.serve_with(&variables).await;
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

/// Returns the file that keeps the daemon's disk from answering while it exists.
fn disk_fault(place: &Place) -> PathBuf {
    place.path().join("disk-fault")
}

/// Reads events until one of the daemon's snapshots finds that this is so.
async fn soon(client: &mut Client, what: &str, mut is_so: impl FnMut(RunState) -> bool) {
    let found = wait_for(
        client,
        |record| matches!(record, Record::Overview(overview) if is_so(overview.state)),
    );
    let found = tokio::time::timeout(LONGEST, found).await;
    assert!(found.is_ok_and(|found| found.is_some()), "{what}");
}

/// Waits until the engine has ended, while the disk does not answer. Then the daemon answers from memory, although a
/// command beside waits for the disk.
async fn is_stopped_without_disk(place: &Place, client: &mut Client) {
    let daemon = i32::try_from(place.pid().unwrap()).unwrap();
    soon(client, "the engine was left to hang", |_| {
        training_engines(daemon).is_empty()
    })
    .await;
    let mut beside = Client::connect(&place.home(), "test").await.unwrap();
    let cancel = tokio::spawn(async move {
        let run = "nothing".to_owned();
        beside.ask(Ask::QueueCancel { run }).await
    });
    soon(client, "the status does not tell of the disk", |state| {
        state == RunState::WaitingDisk
    })
    .await;
    for arguments in [&["ps"][..], &["daemon", "status"]] {
        let out = place.run(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains("the disk has not answered") || arguments[0] == "daemon");
    }
    cancel.abort();
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

/// The second checkpoint is never written, as on a disk that does not answer. The first one is where the run goes on.
#[tokio::test]
async fn l10_l1_a_run_whose_engine_hangs_in_a_checkpoint_can_be_stopped() {
    let mut place = Place::default();
    let (mut client, run) = hung_at(&mut place, "save 2\n").await;
    assert_eq!(place.run(&["stop"]).status.code(), Some(0));
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    let Record::RunEnd(end) = end.record else {
        unreachable!()
    };
    assert_eq!((end.run.as_str(), end.status), (run.as_str(), RunState::Stopped));
    // It was given up by the limit of a person's stop, and not by that of a run in peace, which is two minutes or more.
    let told = rows_as_csv(&place, "SELECT message FROM v_alert WHERE kind = 'actor_failed'");
    let limit = told
        .split_once("(limit ")
        .and_then(|(_, rest)| rest.split_once(' '));
    let limit = limit.and_then(|(seconds, _)| seconds.parse::<u32>().ok());
    assert!(limit.is_some_and(|seconds| seconds < 120), "{told}");
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

/// The stop is taken and carried out without the disk, and is on it once the disk answers. What the client is told says
/// which of both has happened.
#[tokio::test]
async fn l10_l4_a_run_whose_engine_hangs_on_a_disk_that_does_not_answer_can_be_stopped() {
    let mut place = Place::default();
    let (mut client, run) = hung(&mut place).await;
    std::fs::write(disk_fault(&place), "").unwrap();
    let out = place.run(&["stop"]);
    assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    assert!(
        said(&out).contains("the disk has not confirmed the order"),
        "{}",
        said(&out)
    );
    is_stopped_without_disk(&place, &mut client).await;
    let asked = rows_as_csv(&place, "SELECT count(*) FROM v_steer");
    assert!(asked.contains('0'), "the disk has not answered: {asked}");

    std::fs::remove_file(disk_fault(&place)).unwrap();
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    let Record::RunEnd(end) = end.record else {
        unreachable!()
    };
    assert_eq!((end.run.as_str(), end.status), (run.as_str(), RunState::Stopped));
    let steered = rows_as_csv(&place, "SELECT action, applied_step IS NOT NULL FROM v_steer");
    assert!(steered.contains("stop,1"), "{steered}");
    let resumed = place.run(&["resume", &run, "--follow"]);
    assert!(resumed.status.success(), "{}", said(&resumed));
    assert_eq!(
        weights_hash(&last_checkpoint(place.path(), &run)),
        undisturbed(&mut Place::default(), SMOKE).await
    );
    assert_eq!(place.terminate(), Some(0));
}

/// The daemon ends as soon as the disk answers, and says meanwhile what it waits for.
#[tokio::test]
async fn l10_l1_a_daemon_whose_engine_hangs_on_a_disk_that_does_not_answer_ends_with_the_disk() {
    let mut place = Place::default();
    let (mut client, run) = hung(&mut place).await;
    std::fs::write(disk_fault(&place), "").unwrap();
    let mut command = place.demask(&["daemon", "stop"]);
    let stopping = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let stopping = stopping.unwrap();
    is_stopped_without_disk(&place, &mut client).await;
    std::fs::remove_file(disk_fault(&place)).unwrap();
    let out = stopping.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", said(&out));
    let interrupted = status(&place, &run);
    assert!(interrupted.contains("interrupted"), "{interrupted}");
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

/// The daemon that is told to end for the second time leaves what the disk has not confirmed. Nothing acknowledged is lost.
#[tokio::test]
async fn l10_l4_a_daemon_that_is_told_again_to_end_does_not_wait_for_the_disk() {
    let mut place = Place::default();
    let (mut client, run) = hung(&mut place).await;
    let kept = client.ask_as("kept".into(), Ask::Checkpoint).await.unwrap();
    assert!(matches!(kept, Reply::Accepted { .. }), "{kept:?}");
    std::fs::write(disk_fault(&place), "").unwrap();
    let mut command = place.demask(&["daemon", "stop"]);
    let stopping = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let stopping = stopping.unwrap();
    is_stopped_without_disk(&place, &mut client).await;
    let again = place.run(&["daemon", "stop"]);
    assert!(again.status.success(), "{}", said(&again));
    assert!(
        said(&again).contains("nothing acknowledged is lost"),
        "{}",
        said(&again)
    );
    let first = stopping.wait_with_output().unwrap();
    assert!(first.status.success(), "{}", said(&first));
    assert!(said(&first).contains("asked again"), "{}", said(&first));
    place.forget();
    std::fs::remove_file(disk_fault(&place)).unwrap();
    let kept = rows_as_csv(&place, "SELECT count(*) FROM v_steer WHERE action = 'checkpoint'");
    assert!(kept.contains('1'), "{kept}");
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

/// Here no row waits for the disk, but a command waits for what it has to read.
#[tokio::test]
async fn l10_a_daemon_without_a_run_that_is_told_again_to_end_does_not_wait_for_what_a_command_reads() {
    let mut place = Place::default();
    let disk = disk_fault(&place);
    let mut client = place.serve_with(&[(DISK_FAULT, disk.as_path())]).await;
    std::fs::write(&disk, "").unwrap();
    let run = "nothing".to_owned();
    let asked = client.ask(Ask::QueueCancel { run }).await;
    assert!(matches!(asked, Err(ClientError::Unconfirmed { .. })), "{asked:?}");
    let mut command = place.demask(&["daemon", "stop"]);
    let stopping = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let stopping = stopping.unwrap();
    // Whichever of the two comes second tells it again.
    let other = place.run(&["daemon", "stop"]);
    assert!(other.status.success(), "{}", said(&other));
    let one = stopping.wait_with_output().unwrap();
    assert!(one.status.success(), "{}", said(&one));
    place.forget();
}

/// Orders whose rows wait for the disk are bounded, and a stop is taken beside them.
#[tokio::test]
async fn l2_l10_orders_that_wait_for_the_disk_are_bounded_and_a_stop_is_taken_in_any_case() {
    let mut place = Place::default();
    let (_client, run) = hung(&mut place).await;
    std::fs::write(disk_fault(&place), "").unwrap();
    let mut orders = tokio::task::JoinSet::new();
    for _ in 0..65 {
        let mut beside = Client::connect(&place.home(), "test").await.unwrap();
        orders.spawn(async move { beside.ask(Ask::Pause).await });
    }
    let first = orders.join_next().await.unwrap().unwrap();
    let is_full =
        |reply: &Reply| matches!(reply, Reply::Refused { message } if message.contains("at most 64"));
    assert!(first.as_ref().is_ok_and(is_full), "{first:?}");
    for _ in 0..2 {
        let out = place.run(&["stop"]);
        assert_eq!(out.status.code(), Some(4), "{}", said(&out));
    }
    std::fs::remove_file(disk_fault(&place)).unwrap();
    while let Some(order) = orders.join_next().await {
        order.unwrap().ok();
    }
    assert_eq!(place.terminate(), Some(0));
    let stops = rows_as_csv(&place, "SELECT count(*) FROM v_steer WHERE action = 'stop'");
    assert!(stops.contains('1'), "{stops}");
    assert!(
        status(&place, &run).contains("stopped"),
        "{}",
        status(&place, &run)
    );
}

/// A person who stops a run in peace is told that the stop is on the disk, and a repetition changes nothing.
#[tokio::test]
async fn l4_a_stop_that_the_disk_has_confirmed_says_so() {
    let mut place = Place::default();
    let (mut client, _) = hung(&mut place).await;
    let stop = client.ask_as("stop".into(), Ask::Stop).await.unwrap();
    assert!(matches!(stop, Reply::Accepted { .. }), "{stop:?}");
    assert_eq!(client.ask_as("stop".into(), Ask::Stop).await.unwrap(), stop);
    let asked = rows_as_csv(&place, "SELECT count(*) FROM v_steer");
    assert!(asked.contains('1'), "{asked}");
}

/// A terminal, or a batch system that ends a job, sends the signal to the daemon and its engine alike. The engine still
/// writes the checkpoint.
#[tokio::test]
async fn l1_an_engine_does_not_end_before_its_daemon_when_both_are_told_to() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    start(&mut client, SMOKE).await;
    wait_for(&mut client, |record| matches!(record, Record::Metric(_)))
        .await
        .unwrap();
    let daemon = i32::try_from(place.pid().unwrap()).unwrap();
    for engine in training_engines(daemon) {
        // SAFETY: sends a signal to a process that its parent, our child, has not been seen to reap.
        unsafe { libc::kill(engine, libc::SIGTERM) };
    }
    assert_eq!(place.terminate(), Some(0));
    let died = rows_as_csv(&place, "SELECT message FROM v_alert WHERE kind = 'actor_failed'");
    assert!(!died.contains("attempt"), "{died}");
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
