//! The dashboard's own queries against a real store: they must be valid SQL over the views.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::query;
use demask_storage::{
    Command, Eval, EvalItem, ExampleRecord, Frame, Gate, GateVerdict, Metric, Modality, Queued, Record,
    Reply, RolloutSample, Run, RunEnd, RunRequest, RunState, Steer, SteerAction, Trace, TrainUse, Writer,
};
use demask_tui::{Dashboard, Effect, Model, Msg, render_to_string, update};

fn run(id: &str) -> Record {
    Record::Run(Run {
        id: id.into(),
        parent: None,
        parent_step: None,
        labels: Default::default(),
        profile: format!("profile-{id}"),
        config: serde_json::json!({ "stage": [{ "name": "cot", "kind": "finetune", "steps": 40 }] }),
        config_hash: String::new(),
        seed: 1,
        host: String::new(),
        version: String::new(),
        generation: 0,
    })
}

fn eval(step: u64, value: f64) -> Record {
    Record::Eval(Eval {
        run: "a".into(),
        step,
        checkpoint: String::new(),
        suite: "sums".into(),
        metric: "accuracy".into(),
        value,
        low: value - 0.1,
        high: value + 0.1,
        n: 2,
        parts: vec![],
        decision: None,
        gain: None,
    })
}

fn item(number: u64, credit: f64) -> Record {
    Record::Item(EvalItem {
        run: "a".into(),
        step: 40,
        suite: "sums".into(),
        number,
        item: format!("item {number}"),
        category: "one_step".into(),
        counted: true,
        prompt: format!("problem {number}"),
        picture: None,
        output: "so it is 7".into(),
        drawn: None,
        answer: "7".into(),
        reference: "8".into(),
        credit,
        tokens: 3,
        forwards: 2,
        seconds: 0.5,
    })
}

fn frame(step: u64, tokens: [&str; 2]) -> Record {
    Record::Frame(Frame {
        run: "a".into(),
        sample: "a/39/watch".into(),
        origin: "rollout".into(),
        prompt: "how many are left?".into(),
        kind: "text".into(),
        step,
        steps: 2,
        tokens: tokens.map(str::to_owned).to_vec(),
        confidence: vec![200; 2],
        grid: 0,
        picture: None,
    })
}

fn records() -> Vec<Record> {
    let example = ExampleRecord {
        id: "problem".into(),
        run: "a".into(),
        source: "school".into(),
        split: "train".into(),
        modality: Modality::Text,
        generator: "none".into(),
        verifier: "source".into(),
        score: 1.0,
        text: "Ana has 5 pens ⇒ 3".into(),
        picture: None,
        licence: "CC0-1.0".into(),
        place: "school.jsonl:17".into(),
    };
    let trace = Trace {
        id: "a/r1/0".into(),
        run: "a".into(),
        round: 1,
        example: "problem".into(),
        generator: "weights:9".into(),
        sampler: serde_json::Value::Null,
        seed: 1,
        prompt: "Ana has 5 pens".into(),
        text: "<think>5 - 2 = 3.</think>3".into(),
    };
    let verdict = |gate: Gate| {
        Record::Verdict(GateVerdict {
            subject: "a/r1/0".into(),
            run: "a".into(),
            round: 1,
            gate,
            passed: true,
            reason: String::new(),
            source: "reasoner".into(),
            count: 1,
        })
    };
    let sample = RolloutSample {
        id: "a/39/0/1".into(),
        run: "a".into(),
        step: 39,
        group: 0,
        number: 1,
        example: "problem".into(),
        modality: Modality::Text,
        weights: 9,
        staleness: 0,
        prompt: "Ana has 5 pens".into(),
        text: "4".into(),
        picture: None,
        parts: vec![("correct".into(), 0.5, 2.0), ("format".into(), 1.0, 0.5)],
        total: 1.5,
        advantage: -0.7,
        trained: true,
        reference: "3".into(),
        asked: None,
    };
    let steer = Steer {
        id: "s".into(),
        run: "a".into(),
        by: "ann".into(),
        action: SteerAction::Set,
        key: Some("kl".into()),
        old: Some("0.01".into()),
        new: Some("0.02".into()),
        asked_step: 19,
        applied_step: Some(20),
    };
    let used = |step: u64, stage: &str, subject: &str| {
        Record::TrainUse(TrainUse {
            run: "a".into(),
            step,
            stage: stage.into(),
            subjects: vec![subject.into()],
        })
    };
    let mut all = vec![
        run("a"),
        eval(1, 0.5),
        Record::Example(example),
        Record::Trace(trace),
        verdict(Gate::Verify),
        verdict(Gate::Accept),
        used(12, "cot", "a/r1/0"),
        used(14, "cot", "a/r1/0"),
        Record::Sample(sample),
        used(39, "unigrpo", "a/39/0/1"),
        Record::Steer(steer),
        eval(40, 0.75),
        item(0, 1.0),
        item(1, 0.0),
        frame(0, ["", "3"]),
        frame(1, ["is ", "3"]),
    ];
    all.extend((0..40_u64).map(|step| {
        Record::Metric(Metric {
            run: "a".into(),
            step,
            values: vec![("train/loss".into(), 4.0 - 0.05 * step as f64)],
        })
    }));
    all.push(Record::RunEnd(RunEnd {
        run: "a".into(),
        status: RunState::Done,
        reason: "all stages are done".into(),
    }));
    all.push(run("b"));
    all
}

/// A dashboard on a store. Every query is answered as the daemon answers it.
struct Desk {
    _folder: tempfile::TempDir,
    database: std::path::PathBuf,
    board: Dashboard,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("demask.db");
        Writer::open(&database)
            .unwrap()
            .append(&records(), 5_000_000)
            .unwrap();
        let mut board = Dashboard::from(Model {
            no_color: true,
            ..Model::default()
        });
        update(&mut board, Msg::Connected);
        Self {
            _folder: folder,
            database,
            board,
        }
    }

    fn press(&mut self, keys: &[&str]) -> String {
        for key in keys {
            let mut effects = update(&mut self.board, Msg::Key((*key).to_owned()));
            while let Some(effect) = effects.pop() {
                let Effect::Ask(Command::Query { sql, limit }) = effect else {
                    unreachable!("{effect:?}")
                };
                let rows = query::query(&self.database, &sql, limit)
                    .unwrap_or_else(|error| panic!("{error}: {sql}"));
                let (columns, rows) = (rows.columns, rows.rows);
                effects.extend(update(
                    &mut self.board,
                    Msg::Reply(Box::new(Reply::Rows { columns, rows })),
                ));
            }
        }
        render_to_string(&self.board, 160, 45).unwrap()
    }
}

/// A stored run is listed and opened with its state, benchmarks, curves, knob changes, frames and log.
#[test]
fn a_run_of_the_store_is_listed_and_opened_with_all_that_belongs_to_it() {
    let mut desk = Desk::new();
    let list = desk.press(&["0"]);
    assert!(
        list.contains("profile-a") && list.contains("profile-b") && list.contains("sums 75"),
        "{list}"
    );
    let name = |drawn: &str| drawn.lines().position(|line| line.contains("profile-a")).unwrap();
    let down = name(&list) - 4;
    let mut drawn = desk.press(&vec!["down"; down]);
    drawn += &desk.press(&["enter", "1"]);
    assert!(
        drawn.contains("an earlier run: profile-a · done · step 40/40"),
        "{drawn}"
    );
    assert!(
        drawn.contains("sums") && drawn.contains("75.0 %") && drawn.contains("2.050"),
        "{drawn}"
    );
    let curves = desk.press(&["9"]);
    assert!(
        curves.contains("train/loss") && curves.contains("kl=0.02") && curves.contains("30"),
        "{curves}"
    );
    desk.press(&["3"]);
    update(&mut desk.board, Msg::Tick);
    let denoised = desk.press(&[]);
    assert!(
        denoised.contains("how many are left?") && denoised.contains("step 2 of at most 2"),
        "{denoised}"
    );
    let log = desk.press(&["7"]);
    assert!(
        log.contains("00:00:05 info  run done: all stages are done"),
        "{log}"
    );
}

/// The store answers only after the user has gone back to the daemon's run.
#[test]
fn a_late_answer_about_another_run_changes_nothing() {
    let mut desk = Desk::new();
    let list = desk.press(&["0"]);
    let at = list.lines().position(|line| line.contains("profile-a")).unwrap();
    desk.press(&vec!["down"; at - 4]);
    let asked = update(&mut desk.board, Msg::Key("enter".into()));
    assert!(desk.board.is_past);
    update(&mut desk.board, Msg::Key("esc".into()));
    assert!(!desk.board.is_past);
    for effect in asked {
        let Effect::Ask(Command::Query { sql, limit }) = effect else {
            unreachable!("{effect:?}")
        };
        let rows = query::query(&desk.database, &sql, limit).unwrap();
        let (columns, rows) = (rows.columns, rows.rows);
        update(&mut desk.board, Msg::Rows { sql, columns, rows });
    }
    let board = &desk.board;
    assert!(board.overview.is_none() && board.evals.is_empty() && board.samples.is_empty());
    assert!(board.rollouts.is_empty() && board.log.is_empty() && board.funnel.is_empty());
}

/// From a trained sequence, the user can open its rewards, its parent example with source and licence, its
/// verdicts, and the benchmark results before and after it was trained on.
#[test]
fn sequences_tell_where_they_come_from_and_what_became_of_the_benchmarks() {
    let mut desk = Desk::new();
    desk.press(&["0"]);
    let list = desk.press(&[]);
    if !list.lines().any(|line| line.contains("▸a")) {
        let at = list.lines().position(|line| line.contains("profile-a")).unwrap();
        desk.press(&vec!["down"; at - 4]);
        desk.press(&["enter"]);
    }
    let data = desk.press(&["5"]);
    assert!(
        data.contains("…/39/0/1") && data.contains("…/r1/0") && data.contains("Ana has 5 pens ⇒ 4"),
        "{data}"
    );
    let rollout = desk.press(&["enter"]);
    for words in [
        "right      3",
        "correct 0.5 × 2.0 + format 1.0 × 0.5 = 1.5, advantage -0.7",
        "made by    weights:9",
        "trained    unigrpo, step 39",
        "sums 50.0 % at step 1 before, 75.0 % at step 40 after",
    ] {
        assert!(rollout.contains(words), "{words}: {rollout}");
    }
    let parent = desk.press(&["enter"]);
    assert!(
        parent.contains("source     school, school.jsonl:17, licence CC0-1.0"),
        "{parent}"
    );
    assert!(parent.contains("text       Ana has 5 pens ⇒ 3"), "{parent}");
    let trace = desk.press(&["esc", "down", "enter"]);
    for words in [
        "answer     <think>5 - 2 = 3.</think>3",
        "accept passed",
        "verify passed",
        "trained    cot, 2 times, steps 12 to 14",
        "parent     problem",
    ] {
        assert!(trace.contains(words), "{words}: {trace}");
    }
}

/// A result's items are queried from the store, filtered to the wrong ones, and opened.
#[test]
fn the_items_of_a_result_are_read_from_the_store() {
    let mut desk = Desk::new();
    desk.press(&["0"]);
    let at = desk
        .press(&[])
        .lines()
        .position(|line| line.contains("profile-a"))
        .unwrap();
    desk.press(&vec!["down"; at - 4]);
    let items = desk.press(&["enter", "6", "enter"]);
    assert!(
        items.contains("all: 2 of 2") && items.contains("n 2") && items.contains(" 50.0 %"),
        "{items}"
    );
    let item = desk.press(&["w", "enter"]);
    for words in [
        "problem 1",
        "so it is 7",
        "reference  8",
        "credit     0.0 (wrong)",
        "seconds    0.5",
    ] {
        assert!(item.contains(words), "{words}: {item}");
    }
}

#[test]
fn curves_lie_along_time_too() {
    let mut desk = Desk::new();
    desk.press(&["0"]);
    let list = desk.press(&[]);
    let at = list.lines().position(|line| line.contains("profile-a")).unwrap();
    desk.press(&vec!["down"; at - 4]);
    let steps = desk.press(&["enter", "9"]);
    assert!(steps.contains("step") && !steps.contains("along time"), "{steps}");
    let time = desk.press(&["x"]);
    assert!(time.contains("seconds") && time.contains("along time"), "{time}");
    let again = desk.press(&["x"]);
    assert_eq!(again, steps);
}

/// Waiting runs are listed before the others and can be moved, or cancelled by pressing the key twice.
/// Moving the selection in between withdraws the confirmation.
#[test]
fn runs_that_wait_are_listed_first_and_put_in_another_order() {
    let mut desk = Desk::new();
    let waits = |id: &str| {
        Record::Queued(Queued {
            run: id.into(),
            by: "a person".into(),
            profile: format!("later-{id}"),
            config_hash: String::new(),
            request: RunRequest {
                profile: String::new(),
                origin: String::new(),
                from_scratch: true,
                parent: None,
                labels: Default::default(),
            },
        })
    };
    let mut writer = Writer::open(&desk.database).unwrap();
    writer.append(&["c", "d"].map(waits), 6_000_000).unwrap();
    let list = desk.press(&["0"]);
    let line = |words: &str| list.lines().position(|line| line.contains(words)).unwrap();
    assert!(
        line("waits 1") < line("waits 2") && line("later-d") < line("profile-a"),
        "{list}"
    );
    // The first waiting run is selected. It cannot be opened or moved up, but it can be moved down.
    let opened = desk.press(&["enter"]);
    assert!(opened.contains("waits for its turn"), "{opened}");
    assert!(update(&mut desk.board, Msg::Key("+".into())).is_empty());
    let asked = update(&mut desk.board, Msg::Key("-".into()));
    let moved = Command::QueueMove {
        run: "c".into(),
        place: 2,
    };
    assert_eq!(asked[0], Effect::Ask(moved));
    assert!(
        matches!(&asked[1], Effect::Ask(Command::Query { .. })),
        "how they wait then"
    );
    // The move is shown at once, before the store answers, so pressing the key again has nothing to move.
    assert!(update(&mut desk.board, Msg::Key("-".into())).is_empty());
    assert!(update(&mut desk.board, Msg::Key("X".into())).is_empty());
    let away = desk.press(&["down"]);
    assert!(!away.contains("X again"), "{away}");
    let asked = desk.press(&["up", "X"]);
    assert!(asked.contains("X again cancels later-c"), "{asked}");
    let cancelled = update(&mut desk.board, Msg::Key("X".into()));
    assert_eq!(
        cancelled[0],
        Effect::Ask(Command::QueueCancel { run: "c".into() })
    );
}
