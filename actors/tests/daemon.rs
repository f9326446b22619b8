//! The daemon through its control socket. A scripted stage driver takes the trainer's place, so neither an
//! engine nor libtorch is needed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::rc::Rc;

use demask_actors::control::KnobKey;
use demask_actors::control::client::Client;
use demask_actors::daemon::serve_with;
use demask_actors::engine::process::EngineFailure;
use demask_actors::home::Home;
use demask_actors::profile::Profile;
use demask_actors::run::context::{Driving, Outcome, RunContext, RunDriver};
use demask_storage::{
    Command, Knob, Queued, Record, Reply, RunRequest, RunState, ServerMessage, Steer, SteerAction, TrainUse,
    Writer, query, store,
};

const PROFILE: &str = "name = \"smoke\"\n[[source]]\nname = \"sums\"\nkind = \"tabletop_sums\"\n[[stage]]\nname = \"pretrain\"\nkind = \"pretrain\"\nsteps = 12\n";

/// What the scripted stage driver does.
#[derive(Clone, Copy, PartialEq)]
enum Script {
    /// Takes twelve steps.
    Plain,
    /// Takes twelve steps, but panics in its first life and sees the engine die in its second.
    Fragile,
    /// Takes steps until the learning rate is set to 0.25.
    UntilTurned,
    /// Fails at once, and would fail again.
    Hopeless,
    /// Takes steps until the learning rate is set to 0.25, but the engine dies when the daemon shuts down.
    TakenAlong,
    /// Takes steps until it is stopped, and the engine dies while the checkpoint of the stop is saved.
    DiesOfStop,
}

struct Scripted(Script);

impl RunDriver for Scripted {
    fn knobs(&self, _: &Profile) -> Vec<Knob> {
        vec![Knob {
            key: KnobKey::LearningRate.to_string(),
            value: 0.5,
            low: 0.0,
            high: 1.0,
            help: String::new(),
        }]
    }

    fn drive(&self, context: RunContext) -> Driving {
        let script = self.0;
        let (fragile, until_turned) = (
            script == Script::Fragile,
            script != Script::Plain && script != Script::Fragile,
        );
        Box::pin(async move {
            if script == Script::Hopeless {
                anyhow::bail!("the source is empty");
            }
            for step in 0.. {
                let asked = context.control.boundary(&context.recorder, step).await?;
                if asked.halt && script == Script::TakenAlong || asked.stop && script == Script::DiesOfStop {
                    return Err(engine_died());
                }
                if asked.stop || asked.halt {
                    return Ok(if asked.stop {
                        Outcome::Stopped
                    } else {
                        Outcome::Halted
                    });
                }
                let turned = context.control.value(&KnobKey::LearningRate) == Some(0.25);
                if if until_turned { turned } else { step == 12 } {
                    break;
                }
                let run = context.run.clone();
                let subjects = vec![format!("e{step}")];
                let used = TrainUse {
                    run,
                    step,
                    stage: "pretrain".into(),
                    subjects,
                };
                context.recorder.record(Record::TrainUse(used)).await?;
                context.recorder.flush().await?;
                if fragile && step == 4 && context.generation == 0 {
                    std::panic::resume_unwind(Box::new("asked to"));
                }
                if fragile && step == 7 && context.generation == 1 {
                    return Err(engine_died());
                }
            }
            Ok(Outcome::Done)
        })
    }
}

fn engine_died() -> anyhow::Error {
    let (status, tail) = ("signal 15".into(), String::new());
    EngineFailure::Died { status, tail }.into()
}

/// Serves a home on a thread while `talk` uses a client. `talk` must shut the daemon down.
fn with_daemon<T>(root: &Path, script: Script, talk: impl AsyncFnOnce(&mut Client) -> T) -> T {
    let home = Home::open(Some(root.to_owned())).unwrap();
    let served = home.clone();
    let daemon = std::thread::spawn(move || serve_with(&served, Rc::new(Scripted(script))));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let said = runtime.block_on(async {
        let mut client = loop {
            match Client::connect(&home, "test").await {
                Ok(client) => break client,
                Err(_) => tokio::task::yield_now().await,
            }
            assert!(!daemon.is_finished(), "the daemon ended at once");
        };
        let said = talk(&mut client).await;
        assert!(matches!(
            client.ask(Command::Shutdown).await,
            Ok(Reply::Accepted { .. })
        ));
        said
    });
    daemon.join().unwrap().unwrap();
    assert_eq!(home.daemon_pid(), None);
    said
}

fn request() -> RunRequest {
    RunRequest {
        profile: PROFILE.into(),
        origin: "smoke".into(),
        from_scratch: true,
        ..RunRequest::default()
    }
}

fn run() -> Command {
    Command::Run(request())
}

/// Waits until a run is in this state.
async fn is(client: &mut Client, run: &str, state: RunState) {
    loop {
        let status = client.ask(Command::Status).await.unwrap();
        if matches!(&status, Reply::Status(now) if now.run == run && now.state == state) {
            return;
        }
    }
}

async fn ended(watch: &mut Client) -> String {
    loop {
        if let ServerMessage::Event(event) = watch.next().await.unwrap()
            && let Record::RunEnd(end) = event.record
        {
            return end.status.to_string();
        }
    }
}

fn count(root: &Path, sql: &str) -> u64 {
    let rows = query::query(&root.join("demask.db"), sql, 1).unwrap();
    rows.rows[0][0].as_u64().unwrap()
}

#[test]
fn a_run_that_failed_is_shown_as_failed_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let status = with_daemon(folder.path(), Script::Hopeless, async |client| {
        client.ask(Command::Subscribe { since: 0 }).await.unwrap();
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        assert_eq!(ended(client).await, "failed");
        client.ask(Command::Status).await.unwrap()
    });
    let Reply::Status(overview) = status else {
        unreachable!("{status:?}")
    };
    assert_eq!(overview.state, RunState::Failed);
    assert!(
        overview.detail.contains("the source is empty"),
        "{}",
        overview.detail
    );
}

/// A client that sees at once that a run has failed resumes it before the row of its end is on the disk.
#[test]
fn l4_a_run_that_failed_a_moment_ago_is_resumed_as_one_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::Hopeless, async |client| {
        let Ok(Reply::Started { run }) = client.ask(run()).await else {
            unreachable!("it is not started")
        };
        loop {
            let status = client.ask(Command::Status).await.unwrap();
            if matches!(status, Reply::Status(overview) if overview.state == RunState::Failed) {
                break;
            }
        }
        let resumed = client.ask(Command::ResumeRun { run }).await;
        assert!(matches!(resumed, Ok(Reply::Started { .. })), "{resumed:?}");
    });
    let as_failed = "SELECT count(*) FROM v_steer WHERE action = 'resume' AND old = 'failed'";
    assert_eq!(count(folder.path(), as_failed), 1);
}

/// A run survives a panic of its actor and the death of its engine. Each of its twelve steps is recorded
/// once, and both failures are alerts.
#[test]
fn l1_a_run_outlives_a_panic_and_an_engine_and_nothing_is_recorded_twice() {
    let folder = tempfile::tempdir().unwrap();
    let status = with_daemon(folder.path(), Script::Fragile, async |client| {
        assert!(matches!(
            client.ask(Command::Subscribe { since: 0 }).await,
            Ok(Reply::Accepted { .. })
        ));
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        ended(client).await
    });
    assert_eq!(status, "done");
    assert_eq!(
        count(
            folder.path(),
            "SELECT count(*) FROM v_event WHERE kind = 'train_use'"
        ),
        12
    );
    assert_eq!(count(folder.path(), "SELECT generation FROM v_run"), 2);
    assert_eq!(
        count(
            folder.path(),
            "SELECT count(*) FROM v_alert WHERE kind = 'actor_failed'"
        ),
        2
    );
}

#[test]
fn l1_a_daemon_that_ends_does_not_raise_an_engine_again_and_its_run_goes_on_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::TakenAlong, async |client| {
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
    });
    let lives = "SELECT count(*) FROM v_run WHERE status = 'interrupted' AND generation = 0";
    assert_eq!(count(folder.path(), lives), 1);
    let status = with_daemon(folder.path(), Script::Plain, async |client| {
        client.ask(Command::Subscribe { since: 0 }).await.unwrap();
        ended(client).await
    });
    assert_eq!(status, "done");
}

#[test]
fn l10_a_run_whose_engine_dies_while_the_checkpoint_of_a_stop_is_saved_ends_and_does_not_live_again() {
    let folder = tempfile::tempdir().unwrap();
    let status = with_daemon(folder.path(), Script::DiesOfStop, async |client| {
        client.ask(Command::Subscribe { since: 0 }).await.unwrap();
        let Ok(Reply::Started { run }) = client.ask(run()).await else {
            unreachable!("it is not started")
        };
        is(client, &run, RunState::Running).await;
        assert!(matches!(
            client.ask(Command::Stop).await,
            Ok(Reply::Accepted { .. })
        ));
        ended(client).await
    });
    assert_eq!(status, "stopped");
    let one = |sql| assert_eq!(count(folder.path(), sql), 1, "{sql}");
    one("SELECT count(*) FROM v_run WHERE generation = 0");
    one("SELECT count(*) FROM v_steer WHERE action = 'stop' AND applied_step IS NOT NULL");
    let lost = "message LIKE '%what comes after the last checkpoint is lost%'";
    let alerts = format!("SELECT count(*) FROM v_alert WHERE kind = 'actor_failed' AND {lost}");
    assert_eq!(count(folder.path(), &alerts), 1);
}

#[test]
fn l1_l4_a_stop_ends_the_run_though_the_daemon_is_told_to_end_at_once() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        assert!(matches!(
            client.ask(Command::Pause).await,
            Ok(Reply::Accepted { .. })
        ));
        assert!(matches!(
            client.ask(Command::Stop).await,
            Ok(Reply::Accepted { .. })
        ));
    });
    let stopped = "SELECT count(*) FROM v_run WHERE status = 'stopped'";
    assert_eq!(count(folder.path(), stopped), 1);
}

/// A client that was told that the disk has not confirmed its stop asks again, and another run has begun meanwhile.
#[test]
fn l1_a_stop_that_is_sent_again_does_not_stop_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        let Ok(Reply::Queued { run: next, .. }) = client.ask(Command::Enqueue(request())).await else {
            unreachable!("it is not queued")
        };
        assert!(matches!(
            client.ask(Command::Pause).await,
            Ok(Reply::Accepted { .. })
        ));
        // Another program locks the store, so that nothing is committed.
        let other = store::open(&folder.path().join("demask.db")).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let taken = client.ask_as("stop".into(), Command::Stop).await.unwrap();
        assert!(matches!(taken, Reply::Taken { .. }), "{taken:?}");
        other.execute_batch("ROLLBACK").unwrap();
        is(client, &next, RunState::Running).await;
        let again = client.ask_as("stop".into(), Command::Stop).await.unwrap();
        let has_ended =
            |reply: &Reply| matches!(reply, Reply::Refused { message } if message.contains("has ended"));
        assert!(has_ended(&again), "{again:?}");
    });
    for (status, runs) in [("stopped", 1), ("interrupted", 1)] {
        let sql = format!("SELECT count(*) FROM v_run WHERE status = '{status}'");
        assert_eq!(count(folder.path(), &sql), runs, "{status}");
    }
}

/// A client whose daemon has died before it answered sends its stop again, and another run has begun meanwhile.
#[test]
fn l1_a_stop_that_is_sent_again_to_the_next_daemon_does_not_stop_another_run() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        let Ok(Reply::Started { run }) = client.ask(run()).await else {
            unreachable!("it is not started")
        };
        let stop = client.ask_as("stop".into(), Command::Stop).await.unwrap();
        assert!(matches!(stop, Reply::Accepted { .. }), "{stop:?}");
        is(client, &run, RunState::Stopped).await;
    });
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        let again = client.ask_as("stop".into(), Command::Stop).await.unwrap();
        let has_ended =
            |reply: &Reply| matches!(reply, Reply::Refused { message } if message.contains("has ended"));
        assert!(has_ended(&again), "{again:?}");
    });
    for (status, runs) in [("stopped", 1), ("interrupted", 1)] {
        let sql = format!("SELECT count(*) FROM v_run WHERE status = '{status}'");
        assert_eq!(count(folder.path(), &sql), runs, "{status}");
    }
}

/// A client whose daemon has died before it answered sends its message again.
#[test]
fn l1_a_run_that_is_asked_for_again_under_its_id_is_the_same_run_for_the_next_daemon_too() {
    async fn ask(client: &mut Client) -> (Reply, Reply) {
        let begun = client.ask_as("begin".into(), run()).await.unwrap();
        let queued = client.ask_as("queue".into(), Command::Enqueue(request())).await;
        (begun, queued.unwrap())
    }
    let folder = tempfile::tempdir().unwrap();
    let asked = || {
        with_daemon(folder.path(), Script::UntilTurned, async |client| {
            ask(client).await
        })
    };
    let first = asked();
    assert!(
        matches!(&first, (Reply::Started { .. }, Reply::Queued { ahead: 1, .. })),
        "{first:?}"
    );
    assert_eq!(asked(), first);
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        let other = Command::Run(RunRequest {
            profile: PROFILE.replace("12", "13"),
            ..request()
        });
        let other = client.ask_as("begin".into(), other).await.unwrap();
        let is_told =
            matches!(&other, Reply::Refused { message } if message.contains("another configuration"));
        assert!(is_told, "{other:?}");
    });
    for view in ["v_run", "v_queue"] {
        assert_eq!(
            count(folder.path(), &format!("SELECT count(*) FROM {view}")),
            1,
            "{view}"
        );
    }
}

/// Its driver would fail at once, so that it is seen that nothing is driven. The daemon before may have died after the
/// stop took effect, while the checkpoint of it was saved.
#[test]
fn l10_a_stop_that_waits_or_took_effect_ends_the_run_before_a_life_of_it_starts_anything() {
    for applied_step in [None, Some(7)] {
        let folder = tempfile::tempdir().unwrap();
        let begun = with_daemon(folder.path(), Script::UntilTurned, async |client| {
            client.ask(run()).await.unwrap()
        });
        let Reply::Started { run } = begun else {
            unreachable!("{begun:?}")
        };
        let stop = Record::Steer(Steer {
            id: "stop".into(),
            run,
            by: "me (test)".into(),
            action: SteerAction::Stop,
            key: None,
            old: None,
            new: None,
            asked_step: 0,
            applied_step,
        });
        let mut writer = Writer::open(&folder.path().join("demask.db")).unwrap();
        writer.append(&[stop], 1).unwrap();
        drop(writer);
        with_daemon(folder.path(), Script::Hopeless, async |_| ());
        for sql in [
            "SELECT count(*) FROM v_run WHERE status = 'stopped' AND generation = 1",
            "SELECT count(*) FROM v_steer WHERE action = 'stop' AND applied_step IS NOT NULL",
        ] {
            assert_eq!(count(folder.path(), sql), 1, "{applied_step:?}: {sql}");
        }
    }
}

#[test]
fn a_queued_run_that_cannot_be_read_is_skipped_and_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let queued = |run: &str| {
        Record::Queued(Queued {
            run: run.into(),
            by: "me (test)".into(),
            profile: "smoke".into(),
            config_hash: String::new(),
            request: request(),
        })
    };
    let mut writer = Writer::open(&folder.path().join("demask.db")).unwrap();
    writer.append(&[queued("bad"), queued("good")], 1).unwrap();
    let spoil = "UPDATE queue SET request = '{\"profile\": 1}' WHERE run = 'bad'";
    writer.connection().execute_batch(spoil).unwrap();
    drop(writer);
    with_daemon(folder.path(), Script::Plain, async |client| {
        is(client, "good", RunState::Done).await;
        let run = "bad".to_owned();
        let cancelled = client.ask(Command::QueueCancel { run }).await;
        assert!(matches!(cancelled, Ok(Reply::Accepted { .. })), "{cancelled:?}");
    });
    assert_eq!(count(folder.path(), "SELECT count(*) FROM v_queue"), 0);
    let told = "SELECT count(*) FROM v_alert WHERE run = 'bad' AND message LIKE '%queue cancel bad%'";
    assert_eq!(count(folder.path(), told), 1);
}

/// A paused run survives the end of its daemon, and the next daemon resumes it. Every acknowledged command
/// has one row with the step where it took effect, and no step is trained twice.
#[test]
fn l3_l4_a_held_run_outlives_its_daemon_and_goes_on_with_the_next() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::UntilTurned, async |client| {
        assert!(matches!(client.ask(run()).await, Ok(Reply::Started { .. })));
        assert!(
            matches!(client.ask(run()).await, Ok(Reply::Refused { .. })),
            "a second run"
        );
        let paused = client.ask_as("p".into(), Command::Pause).await.unwrap();
        assert!(matches!(paused, Reply::Accepted { .. }), "{paused:?}");
        assert_eq!(
            client.ask_as("p".into(), Command::Pause).await.unwrap(),
            paused,
            "the same id is done once"
        );
    });
    assert_eq!(
        count(
            folder.path(),
            "SELECT count(*) FROM v_run WHERE status = 'interrupted'"
        ),
        1
    );
    let status = with_daemon(folder.path(), Script::UntilTurned, async |client| {
        client.ask(Command::Subscribe { since: 0 }).await.unwrap();
        let turn = Command::Set {
            key: "learning_rate".into(),
            value: 0.25,
        };
        assert!(matches!(client.ask(turn).await, Ok(Reply::Accepted { .. })));
        assert!(matches!(
            client.ask(Command::Resume).await,
            Ok(Reply::Accepted { .. })
        ));
        ended(client).await
    });
    assert_eq!(status, "done");
    assert_eq!(count(folder.path(), "SELECT count(*) FROM v_steer"), 3);
    assert_eq!(
        count(
            folder.path(),
            "SELECT count(*) FROM v_steer WHERE applied_step IS NULL"
        ),
        0
    );
    assert_eq!(
        count(
            folder.path(),
            "SELECT count(*) FROM v_steer WHERE key = 'learning_rate' AND old = '0.5'"
        ),
        1
    );
    let twice = "SELECT count(*) - count(DISTINCT body) FROM v_event WHERE kind = 'train_use'";
    assert_eq!(count(folder.path(), twice), 0);
}

/// Commands that cannot be executed are refused with the reason, and an invalid profile with its line.
/// Queries work without a run.
#[test]
fn what_cannot_be_done_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    with_daemon(folder.path(), Script::Plain, async |client| {
        let said = |reply: Reply| {
            if let Reply::Refused { message } = reply {
                message
            } else {
                format!("{reply:?}")
            }
        };
        let reply = said(client.ask(Command::Pause).await.unwrap());
        assert!(reply.contains("no run is active"), "{reply}");
        // Read-only commands are executed again, even if their id was used before.
        let status = client.ask_as("same".into(), Command::Status).await.unwrap();
        assert!(matches!(status, Reply::Status(_)), "{status:?}");
        let actors = client.ask_as("same".into(), Command::Actors).await.unwrap();
        assert!(matches!(actors, Reply::Actors { .. }), "{actors:?}");
        let wrong = "name = \"x\"\nsped = 1\n[[stage]]\nname = \"a\"\nkind = \"pretrain\"\n";
        let command = Command::Run(RunRequest {
            profile: wrong.into(),
            origin: "x.toml".into(),
            ..RunRequest::default()
        });
        let reply = said(client.ask(command).await.unwrap());
        assert!(
            reply.contains("x.toml, line 2") && reply.contains("sped"),
            "{reply}"
        );
        let reply = client
            .ask(Command::Query {
                sql: "SELECT count(*) FROM v_run".into(),
                limit: 1,
            })
            .await
            .unwrap();
        assert!(matches!(reply, Reply::Rows { .. }), "{reply:?}");
    });
}
