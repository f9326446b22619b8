//! Processes that are suspended or hang while the user stops the run. The run must end within seconds, and later resume
//! to the same result.

use std::path::Path;
use std::time::{Duration, Instant};

use demask_actors::control::client::Client;
use demask_api::memory::resident;
use demask_storage::{Command as Ask, Record, Reply, RunState};
use demask_tests::dice::Dice;
use demask_tests::likeness::{deeds, differences};
use demask_tests::processes::children;
use demask_tests::{Place, begin, said, wait_for};

use crate::Struck;
use crate::kinds::Kind;

/// The number of rows by which two results are compared, for each profile.
const DEEDS: usize = 7;
/// The most events before the hang.
const EVENTS: u64 = 40;
/// The number of steps of the smoke profile.
const STEPS: u64 = 17;

/// What hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hang {
    /// The engine's process is suspended.
    Engine,
    /// The engine's work never ends.
    Work,
    /// Every child of the daemon is suspended, including its reward.
    Children,
    /// The daemon is suspended.
    Daemon,
}

const HANGS: [Hang; 4] = [Hang::Engine, Hang::Work, Hang::Children, Hang::Daemon];

pub async fn round(dice: &mut Dice, calm: &[String]) -> Struck {
    let hang = HANGS[dice.below(HANGS.len() as u64) as usize];
    let kind = if hang == Hang::Children {
        Kind::Rewards
    } else {
        Kind::Plain
    };
    let mut place = Place::default();
    let fault = place.path().join("fault");
    if hang == Hang::Work {
        std::fs::write(&fault, format!("hang {}\n", 1 + dice.below(STEPS))).expect("a file");
    }
    let variables = [("DEMASK_ENGINE_FAULT", fault.as_path())];
    let mut client = place.serve_with(&variables).await;
    client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
    let profile = kind.profile(place.path());
    let run = begin(&mut client, &profile, kind.is_from_scratch()).await;
    let over = bring_about(hang, &mut client, &mut place, &fault, dice).await;
    let mut struck = Struck {
        blows: 1,
        ..Struck::default()
    };
    if !over {
        let begun = Instant::now();
        if hang == Hang::Daemon {
            stop_silent(&mut place);
        } else {
            stop(&mut client).await;
        }
        struck.stops.push(begun.elapsed().as_secs_f64());
        client = go_on(hang, client, &mut place, &run).await;
        let end = wait_for(&mut client, |record| matches!(record, Record::RunEnd(_))).await;
        let end = end.map(|end| end.record);
        assert!(
            matches!(&end, Some(Record::RunEnd(end)) if end.status == RunState::Done),
            "{hang:?}: {end:?}"
        );
    }
    struck.peak = resident(place.pid().map_or(0, u64::from)).1;
    assert_eq!(place.terminate(), Some(0), "SIGTERM exits 0");
    let calm = if kind == Kind::Plain {
        &calm[..DEEDS]
    } else {
        &calm[DEEDS..]
    };
    // A stop writes a checkpoint and changes the record of the run, so only the tensors are compared.
    let differences = differences(&deeds(&place, &run)[..1], &calm[..1]);
    assert!(differences.is_empty(), "{hang:?}: {differences:?}");
    struck
}

/// Causes the hang; true if the run ended before.
async fn bring_about(
    hang: Hang,
    client: &mut Client,
    place: &mut Place,
    fault: &Path,
    dice: &mut Dice,
) -> bool {
    let (mut left, mut over) = (1 + dice.below(EVENTS), false);
    if hang == Hang::Work {
        // The fault's file is removed when the fault occurs.
        while fault.exists() && !over {
            let heard = wait_for(client, |_| true);
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(1), heard).await {
                over = matches!(event.map(|event| event.record), Some(Record::RunEnd(_)));
            }
        }
        return over;
    }
    wait_for(client, |record| {
        over = matches!(record, Record::RunEnd(_));
        left = left.saturating_sub(u64::from(!matches!(record, Record::Example(_))));
        left == 0 || over
    })
    .await;
    let daemon = place.pid().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
    let whom = match hang {
        Hang::Daemon => vec![daemon],
        _ => children(daemon),
    };
    for pid in whom {
        // SAFETY: sends a signal to our child or to its child, which has not been seen to be reaped.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
    }
    over
}

/// Stops a run as the user would, and waits until it is reported as ended. A run at its end counts as done instead.
async fn stop(client: &mut Client) {
    let taken = client.ask(Ask::Stop).await.expect("a daemon");
    if matches!(taken, Reply::Refused { .. }) {
        return;
    }
    let ended = wait_for(client, |record| matches!(record, Record::RunEnd(_))).await;
    assert!(ended.is_some(), "the daemon went away");
}

/// Stops a daemon that does not answer.
fn stop_silent(place: &mut Place) {
    let out = place.run(&["daemon", "stop"]);
    assert!(out.status.success(), "{}", said(&out));
    place.forget();
}

/// Resumes the run; returns a connection that reports it.
async fn go_on(hang: Hang, mut client: Client, place: &mut Place, run: &str) -> Client {
    if hang == Hang::Daemon {
        let mut client = place.serve().await;
        client.ask(Ask::Subscribe { since: 0 }).await.expect("a daemon");
        return client;
    }
    let run = run.to_owned();
    // The events before the resumption are not sent again.
    let answer = client.ask(Ask::ResumeRun { run }).await.expect("a daemon");
    match answer {
        Reply::Started { .. } => client,
        // The run was done when it was stopped.
        _ => {
            let mut client = Client::connect(&place.home(), "test").await.expect("a daemon");
            client.ask(Ask::Subscribe { since: 1 }).await.expect("a daemon");
            client
        }
    }
}
