//! Orders from the request to the boundary, over crashes.
#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use demask_storage::{Command, Knob, Metric, Record, Reply, RunState, Steer, SteerAction, journal, store};
use proptest::prelude::*;

use super::pending_order::PendingOrder;
use super::{Boundary, Control, KnobKey, OrderError, RESUMED_RUN};
use crate::runtime::recorder::Recorder;

fn knobs() -> Vec<Knob> {
    let help = String::new();
    vec![Knob {
        key: KnobKey::LearningRate.to_string(),
        value: 0.5,
        low: 0.0,
        high: 1.0,
        help,
    }]
}

fn with_recorder<T>(test: impl AsyncFnOnce(Recorder, &std::path::Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("d.db");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (recorder, _thread) = Recorder::start(&path).unwrap();
        test(recorder, &path).await
    })
}

fn set(value: f64) -> Command {
    Command::Set {
        key: "learning_rate".into(),
        value,
    }
}

#[test]
fn l4_an_order_is_a_row_when_it_is_acknowledged_and_again_when_it_took_effect() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 4).await.unwrap();
        assert_eq!(
            control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap(),
            4
        );
        assert_eq!(
            control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap(),
            4
        );
        let rows = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        assert_eq!(
            (
                rows().len(),
                rows()[0].applied_step,
                control.value(&KnobKey::LearningRate)
            ),
            (1, None, Some(0.5))
        );
        let todo = control.boundary(&recorder, 5).await.unwrap();
        assert_eq!(
            (todo, control.value(&KnobKey::LearningRate)),
            (Boundary::default(), Some(0.25))
        );
        // L1: a client that missed the reply asks again after the order took effect; nothing is done twice.
        control.ask(&recorder, "a", "me (cli)", set(0.25)).await.unwrap();
        assert_eq!(control.boundary(&recorder, 6).await.unwrap(), Boundary::default());
        let row = rows().remove(0);
        assert_eq!(
            (row.old.as_deref(), row.new.as_deref()),
            (Some("0.5"), Some("0.25"))
        );
        assert_eq!(
            (row.asked_step, row.applied_step, row.by.as_str()),
            (4, Some(5), "me (cli)")
        );
    });
}

#[test]
fn what_cannot_be_is_refused_with_what_can() {
    with_recorder(async |recorder, _| {
        let control = Control::new("r", knobs(), Vec::new());
        let unknown = Command::Set {
            key: "speed".into(),
            value: 1.0,
        };
        let error = control
            .ask(&recorder, "a", "me", unknown)
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error, "there is no knob 'speed'; the knobs are learning_rate");
        let error = control
            .ask(&recorder, "b", "me", set(f64::NAN))
            .await
            .unwrap_err()
            .to_string();
        assert_eq!(error, "learning_rate cannot be set to NaN; allowed is 0 to 1");
        assert_eq!(control.boundary(&recorder, 1).await.unwrap(), Boundary::default());
    });
}

#[test]
fn l3_a_pause_holds_at_the_boundary_until_it_is_resumed() {
    with_recorder(async |recorder, _| {
        let control = Control::new("r", knobs(), Vec::new());
        control.ask(&recorder, "p", "me", Command::Pause).await.unwrap();
        let resume = async {
            while control.overview().state != RunState::Paused {
                tokio::task::yield_now().await;
            }
            control.ask(&recorder, "r", "me", Command::Resume).await.unwrap();
            false
        };
        let held = async { control.boundary(&recorder, 7).await.is_ok() };
        tokio::pin!(held);
        tokio::select! {
            biased;
            went_on = &mut held => assert!(!went_on, "it went on while paused"),
            _ = resume => assert!(held.await),
        }
        assert!(!control.is_paused());
    });
}

#[test]
fn l1_l4_a_stop_ends_the_run_though_the_daemon_is_ending_or_dies_of_it() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 3).await.unwrap();
        control.ask(&recorder, "s", "me", Command::Stop).await.unwrap();
        control.halt();
        let todo = control.boundary(&recorder, 4).await.unwrap();
        assert!(todo.stop && todo.halt);
        let journal = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let next = Control::new("r", knobs(), journal);
        assert!(next.must_end(), "steps are done again only to come to the stop");
        assert_eq!(next.boundary(&recorder, 3).await.unwrap(), Boundary::default());
        assert!(next.boundary(&recorder, 4).await.unwrap().stop);
    });
}

/// A knob was turned at a step that is done again. It is turned there once more, and no other turn changes what comes
/// before; a stop changes nothing of it. A pause that came before the stop does not hold the run when it is resumed.
#[test]
fn l10_l8_a_stop_takes_effect_at_the_next_boundary_although_steps_are_done_again() {
    with_recorder(async |recorder, path| {
        let before = Control::new("r", knobs(), Vec::new());
        before.boundary(&recorder, 8).await.unwrap();
        before.ask(&recorder, "a", "me", set(0.25)).await.unwrap();
        before.boundary(&recorder, 9).await.unwrap();
        let read = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let next = Control::new("r", knobs(), read());
        next.boundary(&recorder, 3).await.unwrap();
        next.ask(&recorder, "b", "me", set(0.75)).await.unwrap();
        assert_eq!(next.boundary(&recorder, 4).await.unwrap(), Boundary::default());
        for (id, order) in [("p", Command::Pause), ("s", Command::Stop)] {
            next.ask(&recorder, id, "me", order).await.unwrap();
        }
        // The step could not be done, so the run is at the same boundary again.
        assert!(next.boundary(&recorder, 4).await.unwrap().stop);
        assert_eq!(next.value(&KnobKey::LearningRate), Some(0.5));
        let steps: Vec<_> = read().into_iter().map(|row| row.applied_step).collect();
        assert_eq!(steps, [Some(9), None, Some(4), Some(4)]);
        // The disk was full, so it goes on from the checkpoint of step 3.
        let resumption = Steer {
            id: "r".into(),
            action: SteerAction::Resume,
            key: Some(RESUMED_RUN.to_owned()),
            applied_step: Some(3),
            ..read().remove(3)
        };
        recorder
            .record_together(vec![Record::Steer(resumption)])
            .await
            .unwrap();
        let resumed = Control::new("r", knobs(), read());
        for step in [3, 4] {
            let mut boundary = Box::pin(resumed.boundary(&recorder, step));
            let goes_on = poll_fn(|turn| Poll::Ready(boundary.as_mut().poll(turn).is_ready())).await;
            assert!(goes_on && !resumed.must_end(), "step {step}");
        }
        // Whoever sends the stop again is not told that the run is being stopped.
        let again = resumed.ask(&recorder, "s", "me", Command::Stop).await;
        assert!(matches!(again, Err(OrderError::StopIsOver)), "{again:?}");
        assert!(!resumed.must_end());
    });
}

/// A sample was answered beside step 1, the engine died, and the pause took effect at step 0, before that step was done
/// again. Whoever resumes the run gets past the pause, although an order of a later step is still to be replayed.
#[test]
fn l10_a_pause_can_be_ended_although_steps_are_done_again() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 1).await.unwrap();
        for (id, order) in [("a", set(0.25)), ("p", Command::Pause)] {
            control.ask(&recorder, id, "me", order).await.unwrap();
        }
        let mut rows = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        (rows[0].applied_step, rows[1].applied_step) = (Some(2), Some(0));
        let next = Control::new("r", knobs(), rows);
        for (id, order) in [("b", set(0.75)), ("q", Command::Resume)] {
            next.ask(&recorder, id, "me", order).await.unwrap();
        }
        let boundary = tokio::time::timeout(Duration::from_secs(60), next.boundary(&recorder, 0));
        assert_eq!(boundary.await.unwrap().unwrap(), Boundary::default());
        let rows = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let steps: Vec<_> = rows.iter().skip(2).map(|row| row.applied_step).collect();
        assert_eq!(
            steps,
            [None, Some(0)],
            "the knob waits for its step, the pause ends"
        );
    });
}

/// The daemon died during a pause, after the last checkpoint. Whoever resumes the run before it has come to the pause again
/// ends that pause, also for the lives after this one.
#[test]
fn l4_l10_a_run_that_is_resumed_while_steps_are_done_again_is_not_held_by_the_pause_behind_them() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 4).await.unwrap();
        control.ask(&recorder, "p", "me", Command::Pause).await.unwrap();
        let read = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let paused = Steer {
            applied_step: Some(5),
            ..read().remove(0)
        };
        recorder
            .record_together(vec![Record::Steer(paused)])
            .await
            .unwrap();
        let goes_on = async |life: &Control, step| {
            let mut boundary = Box::pin(life.boundary(&recorder, step));
            poll_fn(|turn| Poll::Ready(boundary.as_mut().poll(turn).is_ready())).await
        };
        let next = Control::new("r", knobs(), read());
        assert!(
            goes_on(&next, 2).await && !goes_on(&next, 5).await,
            "the pause holds"
        );
        let next = Control::new("r", knobs(), read());
        assert!(goes_on(&next, 2).await);
        next.ask(&recorder, "r", "me", Command::Resume).await.unwrap();
        assert_eq!(next.boundary(&recorder, 3).await.unwrap(), Boundary::default());
        let steps: Vec<_> = read().into_iter().map(|row| row.applied_step).collect();
        assert_eq!(steps, [Some(5), Some(3)]);
        for life in [next, Control::new("r", knobs(), read())] {
            for step in [4, 5, 6] {
                assert!(goes_on(&life, step).await, "step {step}");
            }
        }
        // A pause that comes later holds.
        let later = Control::new("r", knobs(), read());
        later.boundary(&recorder, 4).await.unwrap();
        later.ask(&recorder, "q", "me", Command::Pause).await.unwrap();
        assert!(!goes_on(&later, 5).await && later.is_paused());
    });
}

/// Otherwise its steps would have other values than the rows say, and than a life that begins at the same checkpoint.
#[test]
fn l4_l8_a_run_that_goes_back_turns_its_knobs_again_at_the_steps_of_their_rows() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        for (step, value) in [(3, 0.25), (5, 0.75)] {
            control.boundary(&recorder, step).await.unwrap();
            let id = step.to_string();
            control.ask(&recorder, &id, "me", set(value)).await.unwrap();
        }
        control.boundary(&recorder, 6).await.unwrap();
        for _ in 0..2 {
            control.go_back();
            let mut values = Vec::new();
            for step in 3..8 {
                control.boundary(&recorder, step).await.unwrap();
                values.extend(control.value(&KnobKey::LearningRate));
            }
            assert_eq!(values, [0.5, 0.5, 0.25, 0.75, 0.75]);
        }
        let rows = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let steps: Vec<_> = rows.iter().map(|row| row.applied_step).collect();
        assert_eq!(steps, [Some(5), Some(6)]);
    });
}

#[test]
fn l10_l4_a_stop_is_in_effect_before_its_row_and_acknowledged_after_it() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 3).await.unwrap();
        // Another program locks the store, so that nothing is committed.
        let other = store::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let mut asking = Box::pin(control.ask(&recorder, "s", "me", Command::Stop));
        tokio::select! {
            biased;
            asked = &mut asking => panic!("it was acknowledged without its row: {asked:?}"),
            () = control.ends() => {}
        }
        let rows = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        assert!(rows().is_empty());
        // The next life of the run learns of it, although the journal lacks it.
        let next = Control::new("r", knobs(), rows());
        next.take_orders(&control);
        next.take_orders(&control);
        assert_eq!(next.stop_now().1.len(), 1);
        let (is_stopped, applied) = control.stop_now();
        assert!(is_stopped && applied.len() == 1, "{applied:?}");
        other.execute_batch("ROLLBACK").unwrap();
        asking.await.unwrap();
        assert_eq!((rows().len(), rows()[0].applied_step), (1, None));
        let asked = rows().remove(0);
        // The row that says where it took effect may also come first.
        for row in [applied[0].clone(), asked] {
            recorder.record(Record::Steer(row)).await.unwrap();
        }
        recorder.flush().await.unwrap();
        assert_eq!((rows().len(), rows()[0].applied_step), (1, Some(3)));
    });
}

#[test]
fn l4_an_order_that_is_acknowledged_after_the_journal_was_read_is_not_lost_to_the_next_life() {
    with_recorder(async |recorder, path| {
        let before = Control::new("r", knobs(), Vec::new());
        before.boundary(&recorder, 3).await.unwrap();
        let read = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let early = read();
        // The next life has read the journal, but its control is not yet the present one.
        before.ask(&recorder, "p", "me", Command::Pause).await.unwrap();
        let next = Control::new("r", knobs(), early);
        next.take_orders(&before);
        next.ask(&recorder, "s", "me", Command::Stop).await.unwrap();
        assert!(next.boundary(&recorder, 3).await.unwrap().stop);
        assert!(next.is_paused());
        let rows = read();
        assert_eq!(rows.len(), 2);
        assert!(rows.iter().all(|row| row.applied_step == Some(3)), "{rows:?}");
        // A control that knows the order from the journal does not take it a second time.
        let after = Control::new("r", knobs(), rows);
        after.take_orders(&before);
        after.boundary(&recorder, 4).await.unwrap();
        assert!(read().iter().all(|row| row.applied_step == Some(3)));
    });
}

#[test]
fn l2_l4_stops_of_a_run_that_is_being_stopped_leave_nothing_behind_and_are_confirmed_with_the_first() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 3).await.unwrap();
        let other = store::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        let ids: Vec<String> = (0..100).map(|number| format!("stop {number}")).collect();
        let ask = |id| Box::pin(control.ask(&recorder, id, "me", Command::Stop));
        let mut first = ask("first");
        assert!(poll_fn(|turn| Poll::Ready(first.as_mut().poll(turn).is_pending())).await);
        let before = recorder.queue().0;
        let mut others: Vec<_> = ids.iter().map(|id| ask(id.as_str())).collect();
        for asking in &mut others {
            assert!(poll_fn(|turn| Poll::Ready(asking.as_mut().poll(turn).is_pending())).await);
        }
        assert!(recorder.queue().0 <= before, "they wait in the recorder's queue");
        // The next life of the run shares it as well.
        let next = Control::new("r", knobs(), Vec::new());
        next.take_orders(&control);
        assert!(next.shares_stop());
        let mut there = Box::pin(next.ask(&recorder, "there", "me", Command::Stop));
        assert!(poll_fn(|turn| Poll::Ready(there.as_mut().poll(turn).is_pending())).await);
        other.execute_batch("ROLLBACK").unwrap();
        first.await.unwrap();
        for asking in others {
            assert_eq!(asking.await.unwrap(), 3);
        }
        there.await.unwrap();
        let rows = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let ids: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids, ["first"]);
        assert_eq!((control.stop_now().1.len(), next.stop_now().1.len()), (1, 1));
        // Nor does one that comes after the run was ended.
        control.ask(&recorder, "late", "me", Command::Stop).await.unwrap();
        assert_eq!(control.stop_now(), (true, Vec::new()));
    });
}

/// Fills the recorder's queue, on a disk that does not answer.
async fn fill(recorder: &Recorder) {
    let metric = |step| {
        Record::Metric(Metric {
            run: "r".into(),
            step,
            values: vec![("a/b".into(), 1.0)],
        })
    };
    recorder.offer(metric(0));
    // The writer has taken it, waits for the disk, and takes nothing more.
    while recorder.queue().0 > 0 || recorder.silent_for().is_none() {
        tokio::task::yield_now().await;
    }
    let mut steps = 1..;
    while recorder.dropped() == 0 {
        recorder.offer(metric(steps.next().unwrap()));
    }
}

#[test]
fn l4_the_row_of_a_stop_that_took_effect_and_found_no_room_in_the_recorder_is_one_of_the_end() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 3).await.unwrap();
        control.ask(&recorder, "s", "me", Command::Stop).await.unwrap();
        let other = store::open(path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        fill(&recorder).await;
        let mut boundary = Box::pin(control.boundary(&recorder, 4));
        assert!(poll_fn(|turn| Poll::Ready(boundary.as_mut().poll(turn).is_pending())).await);
        // The run hangs here, and its life is abandoned.
        drop(boundary);
        let (is_stopped, rows) = control.stop_now();
        assert!(is_stopped);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(control.stop_now(), (true, Vec::new()));
        other.execute_batch("ROLLBACK").unwrap();
        for row in rows {
            recorder.record(Record::Steer(row)).await.unwrap();
        }
        recorder.flush().await.unwrap();
        let rows = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        assert_eq!((rows.len(), rows[0].applied_step), (1, Some(4)));
    });
}

/// The next life of the run has read the prompt in the journal while somebody answers it beside the run.
#[test]
fn l1_l4_a_prompt_that_is_answered_beside_the_run_is_not_answered_by_its_next_life() {
    with_recorder(async |recorder, path| {
        let prompt = || Command::Sample {
            prompt: "a red circle".into(),
            picture: true,
        };
        let read = || journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        let before = Control::new("r", knobs(), Vec::new());
        before.boundary(&recorder, 3).await.unwrap();
        before.leave_prompt("a");
        before.ask(&recorder, "a", "me", prompt()).await.unwrap();
        before.ask(&recorder, "b", "me", prompt()).await.unwrap();
        let early = read();
        before.take_sample(&recorder, "a").await.unwrap();
        let next = Control::new("r", knobs(), early);
        next.take_orders(&before);
        let todo = next.boundary(&recorder, 4).await.unwrap();
        let asked: Vec<_> = todo.samples.iter().map(|(id, ..)| id.as_str()).collect();
        assert_eq!(
            asked,
            ["b"],
            "an order behind it waits for it, or it is answered twice"
        );
        let rows: Vec<_> = read().into_iter().map(|row| row.applied_step).collect();
        assert_eq!(rows, [Some(3), Some(4)]);
    });
}

#[test]
fn l1_l4_another_order_under_the_id_of_one_is_refused_and_a_repetition_is_not() {
    with_recorder(async |recorder, path| {
        let control = Control::new("r", knobs(), Vec::new());
        control.ask(&recorder, "1", "me", set(0.25)).await.unwrap();
        let journal = journal::steers(&store::open_read_only(path).unwrap(), "r").unwrap();
        for control in [control, Control::new("r", knobs(), journal)] {
            control.ask(&recorder, "1", "me", set(0.25)).await.unwrap();
            for other in [set(0.75), Command::Pause, Command::Stop] {
                let refused = control.ask(&recorder, "1", "me", other).await.unwrap_err();
                let refused = refused.to_string();
                assert!(
                    refused.contains("the id '1' is that of another order"),
                    "{refused}"
                );
            }
            assert!(!control.must_end());
        }
    });
}

#[test]
fn l10_a_stop_that_has_taken_effect_still_ends_the_run() {
    with_recorder(async |recorder, _| {
        let control = Control::new("r", knobs(), Vec::new());
        control.boundary(&recorder, 3).await.unwrap();
        control.ask(&recorder, "s", "me", Command::Stop).await.unwrap();
        assert!(control.boundary(&recorder, 4).await.unwrap().stop);
        // What hangs after this boundary is given up too.
        control.ends().await;
        assert_eq!(control.stop_now(), (true, Vec::new()));
    });
}

#[test]
fn l4_an_order_that_comes_after_the_end_of_the_run_is_not_said_to_take_effect_at_a_boundary() {
    with_recorder(async |recorder, _| {
        let said = async |status: RunState, command: Command| {
            let control = Control::new("r", knobs(), Vec::new());
            control.boundary(&recorder, 3).await.unwrap();
            control.report_end(status);
            let order = PendingOrder {
                control: Rc::new(RefCell::new(Arc::new(control))),
                recorder: recorder.clone(),
                id: format!("{status} {command:?}"),
                by: "me".to_owned(),
                command,
            };
            order.recorded().await
        };
        for (status, words) in [
            (RunState::Stopped, "when `demask resume` continues the run"),
            (RunState::Interrupted, "when the next one continues the run"),
        ] {
            let reply = said(status, Command::Pause).await;
            let is_said = matches!(&reply, Reply::Accepted { message, .. } if message.ends_with(words));
            assert!(is_said, "{reply:?}");
        }
        let reply = said(RunState::Done, Command::Checkpoint).await;
        assert!(matches!(reply, Reply::Refused { .. }), "{reply:?}");
        let reply = said(RunState::Done, Command::Stop).await;
        let is_said =
            matches!(&reply, Reply::Accepted { message, .. } if message.contains("was done before"));
        assert!(is_said, "{reply:?}");
    });
}

#[derive(Clone, Debug)]
enum ControlEvent {
    Ask(Command),
    Step,
    Crash,
    GoBack,
}

fn events() -> impl Strategy<Value = Vec<ControlEvent>> {
    let order = prop_oneof![
        (0.0..1.0f64).prop_map(set),
        Just(Command::Checkpoint),
        Just(Command::Pause)
    ];
    let event = prop_oneof![
        order.prop_map(ControlEvent::Ask),
        Just(ControlEvent::Step),
        Just(ControlEvent::Step),
        Just(ControlEvent::Crash),
        Just(ControlEvent::GoBack)
    ];
    proptest::collection::vec(event, 1..24)
}

struct ControlLife<'a> {
    recorder: &'a Recorder,
    path: &'a std::path::Path,
    control: Control,
    step: u64,
    asked: usize,
    /// The value with which each step was computed the first time.
    seen: BTreeMap<u64, f64>,
}

impl ControlLife<'_> {
    fn journal(&self) -> Vec<Steer> {
        journal::steers(&store::open_read_only(self.path).unwrap(), "r").unwrap()
    }

    async fn ask(&mut self, order: Command) {
        self.control
            .ask(self.recorder, &format!("{:04}", self.asked), "me", order)
            .await
            .unwrap();
        self.asked += 1;
    }

    async fn boundary(&mut self, step: u64) {
        self.control.boundary(self.recorder, step).await.unwrap();
        let value = self.control.value(&KnobKey::LearningRate).unwrap();
        let before = *self.seen.entry(step).or_insert(value);
        assert_eq!(before, value, "step {step}");
    }

    async fn redo(&mut self) {
        for redo in 1..self.step {
            self.boundary(redo).await;
        }
    }

    async fn happens(&mut self, event: ControlEvent) {
        match event {
            ControlEvent::Ask(order) => self.ask(order).await,
            ControlEvent::Step => {
                // A pause would hold for ever here, so the run is resumed in the same step.
                self.ask(Command::Resume).await;
                self.boundary(self.step).await;
                self.step += 1;
            }
            // Begin at the start again, and redo the steps up to the crash.
            ControlEvent::Crash => {
                self.control = Control::new("r", knobs(), self.journal());
                self.redo().await;
            }
            // As an engine has it that trained to a loss which is not finite.
            ControlEvent::GoBack => {
                self.control.go_back();
                self.redo().await;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is asked, and whenever the daemon dies or the run goes back: each order takes effect once, at the step in
    /// its row, and who begins again at the start sees the same values at the same steps.
    #[test]
    fn l1_l4_orders_take_effect_at_the_same_steps_after_any_crash_or_return(events in events()) {
        with_recorder(async |recorder, path| {
            let control = Control::new("r", knobs(), Vec::new());
            let mut life = ControlLife { recorder: &recorder, path, control, step: 1, asked: 0, seen: BTreeMap::new() };
            for event in events {
                life.happens(event).await;
            }
            let rows = life.journal();
            assert_eq!(rows.len(), life.asked);
            let steps: Vec<u64> = rows.iter().filter_map(|row| row.applied_step).collect();
            assert!(steps.is_sorted(), "{steps:?}");
        });
    }
}
