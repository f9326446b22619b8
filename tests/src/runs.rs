//! Helpers for runs that are started through the socket, and for their events.

use std::path::PathBuf;

use demask_actors::control::client::Client;
use demask_storage::{Command as Ask, Envelope, Record, Reply, RunRequest, RunState, ServerMessage};

use crate::home::Place;
use crate::patience::Patience;
use crate::weights::{last_checkpoint, weights_hash};

/// Starts a run of a profile from random weights; returns its id.
///
/// # Panics
/// If it is refused.
pub async fn start(client: &mut Client, profile: &str) -> String {
    begin(client, profile, true).await
}

/// Starts a run of a profile, from random weights or from those that the profile names; returns its id.
///
/// # Panics
/// If it is refused.
pub async fn begin(client: &mut Client, profile: &str, from_scratch: bool) -> String {
    let run = Ask::Run(RunRequest {
        profile: profile.to_owned(),
        origin: "test".to_owned(),
        from_scratch,
        ..RunRequest::default()
    });
    match client.ask(run).await.expect("a daemon") {
        Reply::Started { run } => run,
        other => panic!("the run was not started: {other:?}"),
    }
}

/// Runs a profile that starts from a checkpoint to its end, optionally with a `kill -9` of the daemon after the run's
/// first checkpoint; returns the folder of the last checkpoint.
///
/// # Panics
/// If the run is refused or fails.
pub async fn finish(place: &mut Place, profile: &str, kill: bool) -> PathBuf {
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
    let run = begin(&mut client, profile, false).await;
    if kill {
        wait_for(&mut client, |record| matches!(record, Record::Checkpoint(_))).await;
        place.kill();
        client = place.serve().await;
        client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
    }
    let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_))).await;
    let record = end.map(|end| end.record);
    assert!(
        matches!(&record, Some(Record::RunEnd(end)) if end.status == demask_storage::RunState::Done),
        "{record:?}"
    );
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    last_checkpoint(place.path(), &run)
}

/// Returns the next event; `None` if the daemon went away.
pub async fn next_event(client: &mut Client) -> Option<Envelope> {
    loop {
        match client.next().await {
            Ok(ServerMessage::Event(envelope)) => return Some(envelope),
            Ok(_) => {}
            Err(error) => {
                println!("no more events: {error}");
                return None;
            }
        }
    }
}

/// Reads events until one matches; `None` if the daemon goes away.
pub async fn wait_for(client: &mut Client, mut fits: impl FnMut(&Record) -> bool) -> Option<Envelope> {
    loop {
        let envelope = next_event(client).await?;
        if fits(&envelope.record) {
            return Some(envelope);
        }
    }
}

/// Starts the daemon and subscribes to every event.
///
/// # Panics
/// If the daemon ends instead.
pub async fn subscribed(place: &mut Place) -> Client {
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
    client
}

/// Waits for the end of the current run; returns its final state.
///
/// # Panics
/// If the daemon goes away before.
pub async fn ended(client: &mut Client) -> RunState {
    let end = wait_for(client, |record| matches!(record, Record::RunEnd(_))).await;
    match end.expect("a run that ends").record {
        Record::RunEnd(end) => end.status,
        other => unreachable!("{other:?}"),
    }
}

/// Runs a profile without interruption; returns the hash of the final weights.
///
/// # Panics
/// If it fails.
pub async fn undisturbed(place: &mut Place, profile: &str) -> String {
    let mut client = subscribed(place).await;
    let run = start(&mut client, profile).await;
    assert_eq!(ended(&mut client).await, RunState::Done);
    weights_hash(&last_checkpoint(place.path(), &run))
}

/// Waits until the current run has brought something about.
///
/// # Panics
/// If the run or the daemon ends before, or if it takes too long.
pub async fn wait_until(client: &mut Client, what: &str, is_so: impl Fn() -> bool) {
    let patience = Patience::default();
    while !is_so() {
        let Reply::Status(status) = client.ask(Ask::Status).await.expect("a daemon") else {
            panic!("no status")
        };
        let is_over = matches!(
            status.state,
            RunState::Done | RunState::Stopped | RunState::Failed
        );
        // It may have happened just before the end.
        assert!(
            !is_over || is_so(),
            "the run is {} before {what}: {}",
            status.state,
            status.detail
        );
        patience.next_look(|| what.to_owned()).await;
    }
}
