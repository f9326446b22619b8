//! Snapshots of every screen, drawn from one fixed state.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{
    ActorState, ActorView, Alert, DeviceView, Envelope, Eval, Frame, GateVerdict, Knob, Level, Metric,
    Overview, RankView, Record, Reply, RolloutSample, StageView, TrainUse,
};
use demask_tui::{Dashboard, Effect, Model, Msg, render_to_string, update};

fn event(record: Record) -> Msg {
    Msg::Event(Box::new(Envelope {
        seq: 1,
        at_us: 0,
        record,
    }))
}

fn stage(name: &str, kind: &str, done: u64, total: u64) -> StageView {
    StageView {
        name: name.into(),
        kind: kind.into(),
        done,
        total,
    }
}

fn overview() -> Overview {
    Overview {
        run: "01a2".into(),
        profile: "tabletop".into(),
        state: demask_storage::RunState::Running,
        detail: String::new(),
        step: 172,
        total_steps: 213,
        stages: vec![
            stage("before", "evaluate", 1, 1),
            stage("cot", "finetune", 150, 150),
            stage("unigrpo", "align", 21, 60),
        ],
        stage: 2,
        tokens_per_s: 9134.0,
        eta_s: Some(300.0),
        elapsed_s: 400.0,
        devices: vec![DeviceView {
            name: "cpu".into(),
            compute: "bf16, AVX-512".into(),
            threads: 2,
            pid: 7,
            memory: 1_400_000_000,
            peak: 3_170_000_000,
            busy: 0.97,
        }],
        ranks: Vec::new(),
        knobs: vec![Knob {
            key: "kl".into(),
            value: 0.01,
            low: 0.0,
            high: 100.0,
            help: "weight of the penalty on leaving the reference policy".into(),
        }],
        last_checkpoint: Some(150),
    }
}

fn actor(name: &str, parent: &str, state: ActorState, doing: &str) -> Msg {
    event(Record::Actor(ActorView {
        name: name.into(),
        parent: parent.into(),
        state,
        detail: doing.into(),
        queue: (1, 4),
        restarts: u64::from(name == "scorer"),
        handled: 42,
        last_message: "Score".into(),
        last_at_us: 0,
        recent: vec![
            (1_000_000, "Score".into(), 2_300, "ok".into()),
            (3_000_000, "Score".into(), 1_200_000, "panicked: asked to".into()),
        ],
        answered_us: 4_200,
        deaths: match name {
            "scorer" => vec![(3_000_000, "panicked: asked to".into())],
            _ => vec![],
        },
    }))
}

fn eval(step: u64, suite: &str, value: f64, decision: &str) -> Msg {
    event(Record::Eval(Eval {
        run: "01a2".into(),
        step,
        checkpoint: "weights:1".into(),
        suite: suite.into(),
        metric: "accuracy".into(),
        value,
        low: value - 0.05,
        high: value + 0.05,
        n: 120,
        parts: vec![("counting".into(), value), ("position".into(), 0.5)],
        decision: decision.parse().ok(),
        gain: None,
    }))
}

fn sample(number: u64, total: f64, advantage: f64) -> Msg {
    event(Record::Sample(RolloutSample {
        id: format!("01a2/172/0/{number}"),
        run: "01a2".into(),
        step: 172,
        group: 0,
        number,
        example: "e".into(),
        modality: demask_storage::Modality::Draw,
        weights: 171,
        staleness: 0,
        prompt: "two red circles".into(),
        text: "large red circle left, small red circle top".into(),
        picture: None,
        parts: vec![("correct".into(), 1.0, 2.0), ("draw".into(), total / 4.0, 2.0)],
        total,
        advantage,
        trained: true,
        reference: String::new(),
        asked: None,
    }))
}

fn verdict(subject: &str, gate: &str, passed: bool, reason: &str) -> Msg {
    event(Record::Verdict(GateVerdict {
        subject: subject.into(),
        run: "01a2".into(),
        round: 1,
        gate: gate.parse().unwrap(),
        passed,
        reason: reason.into(),
        source: "reasoner".into(),
        count: 1,
    }))
}

fn used(step: u64, subjects: &[&str]) -> Msg {
    event(Record::TrainUse(TrainUse {
        run: "01a2".into(),
        step,
        stage: "cot".into(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
    }))
}

fn frame(step: u64, tokens: [&str; 4]) -> Msg {
    event(Record::Frame(Frame {
        run: "01a2".into(),
        sample: "s".into(),
        origin: "rollout".into(),
        prompt: "a red circle".into(),
        kind: "picture".into(),
        step,
        steps: 8,
        tokens: tokens.map(str::to_owned).to_vec(),
        confidence: vec![250, 180, 90, 20],
        grid: 2,
        picture: None,
    }))
}

fn state() -> Dashboard {
    let mut model = Dashboard::from(Model {
        no_color: true,
        ..Model::default()
    });
    let mut all = vec![
        Msg::Connected,
        Msg::Reply(Box::new(Reply::Status(Box::new(overview())))),
        actor("supervisor", "", ActorState::Idle, ""),
        actor("trainer", "supervisor", ActorState::Busy, "unigrpo 21/60"),
        actor("scorer", "supervisor", ActorState::Waiting, "group 3"),
        actor("engine/0", "supervisor", ActorState::Busy, "policy"),
        eval(0, "tabletop-ask", 0.62, ""),
        eval(0, "tabletop-draw", 0.40, ""),
        eval(212, "tabletop-ask", 0.71, "promote"),
        eval(212, "tabletop-draw", 0.38, "hold"),
        sample(0, 2.5, 0.9),
        sample(1, 0.7, -0.9),
        verdict("a", "verify", true, ""),
        verdict("b", "verify", true, ""),
        verdict("c", "verify", false, "the result is wrong"),
        verdict("b", "dedup", false, "an equal trace was accepted before"),
        frame(0, ["17", "", "", ""]),
        frame(1, ["17", "203", "", "9"]),
        used(3, &["a", "b"]),
        event(Record::Alert(Alert {
            run: "01a2".into(),
            step: 9,
            level: Level::Warn,
            kind: "not_finite".into(),
            message: "back to the last checkpoint, learning rate halved".into(),
        })),
    ];
    all.extend((0..60).map(|step| {
        event(Record::Metric(Metric {
            run: "01a2".into(),
            step,
            values: vec![
                ("train/loss".into(), 3.0 - 0.04 * step as f64),
                ("reward/total".into(), (step as f64 / 9.0).sin()),
            ],
        }))
    }));
    for msg in all {
        update(&mut model, msg);
    }
    model
}

fn press(model: &mut Dashboard, keys: &[&str]) -> Vec<Effect> {
    keys.iter()
        .flat_map(|key| update(model, Msg::Key((*key).to_owned())))
        .collect()
}

fn shown(model: &Dashboard) -> String {
    render_to_string(model, 100, 30).unwrap()
}

#[test]
fn the_ten_screens() {
    let mut model = state();
    let names = [
        "overview",
        "actors",
        "denoise",
        "rollouts",
        "data",
        "benchmarks",
        "log",
        "query",
        "curves",
        "runs",
    ];
    for (number, name) in names.into_iter().enumerate() {
        press(&mut model, &[&((number + 1) % 10).to_string()]);
        update(&mut model, Msg::Tick);
        insta::assert_snapshot!(name, shown(&model));
    }
}

fn rows(columns: &[&str], rows: &[&[&str]]) -> Msg {
    let cell = |cell: &&str| match serde_json::from_str::<serde_json::Number>(cell) {
        Ok(number) => serde_json::Value::Number(number),
        Err(_) => serde_json::Value::String((*cell).to_owned()),
    };
    Msg::Reply(Box::new(Reply::Rows {
        columns: columns.iter().map(ToString::to_string).collect(),
        rows: rows.iter().map(|row| row.iter().map(cell).collect()).collect(),
    }))
}

/// Compares a screen with its snapshots, at the smallest usual size and at a large one.
fn at_both_sizes(name: &str, model: &Dashboard) {
    for (width, height) in [(80, 24), (200, 50)] {
        let drawn = render_to_string(model, width, height).unwrap();
        insta::assert_snapshot!(format!("{name}-{width}"), drawn);
    }
}

const RUNS: [&str; 7] = ["runs", "profile", "status", "step", "seed", "began", "benchmarks"];

/// The Curves screen overlays a selected run, marks knob changes, and has smoothing, zoom, a logarithmic
/// scale and a second metric.
#[test]
fn curves_have_axes_and_marks_and_other_runs_over_them() {
    let mut model = state();
    press(&mut model, &["0"]);
    let list: [&[&str]; 2] = [
        &[
            "01a2",
            "tabletop",
            "running",
            "172",
            "1",
            "2026-11-28 10:00:00",
            "",
        ],
        &[
            "0199-7b",
            "tabletop",
            "done",
            "60",
            "2",
            "2026-11-27 10:00:00",
            "tabletop-draw 38.0",
        ],
    ];
    update(&mut model, rows(&RUNS, &list));
    press(&mut model, &["down", "space"]);
    at_both_sizes("runs", &model);
    let asked = format!("{:?}", press(&mut model, &["9"]));
    assert!(
        asked.contains("'01a2', '0199-7b'") && asked.contains("v_steer"),
        "{asked}"
    );
    let points: Vec<[String; 5]> = (0..60)
        .map(|step| {
            [
                "0199-7b".into(),
                "reward/total".into(),
                step.to_string(),
                "0".into(),
                "0.5".into(),
            ]
        })
        .collect();
    let points: Vec<Vec<&str>> = points
        .iter()
        .map(|row| row.iter().map(String::as_str).collect())
        .collect();
    let points: Vec<&[&str]> = points.iter().map(Vec::as_slice).collect();
    update(
        &mut model,
        rows(&["curve", "name", "step", "seconds", "value"], &points),
    );
    let turned: [&[&str]; 1] = [&["01a2", "30", "0", "kl=0.02"]];
    update(&mut model, rows(&["turned", "step", "seconds", "words"], &turned));
    press(&mut model, &["s", "s"]);
    at_both_sizes("curves", &model);
    let drawn = shown(&model);
    for words in ["kl=0.02", "tabletop 7b", "smoothed 0.9 · linear", "reward/total"] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
    // Zooming in hides earlier steps, a logarithmic scale leaves out values that are not positive, and `esc`
    // resets both.
    press(&mut model, &["+", "g"]);
    let drawn = shown(&model);
    assert!(
        drawn.contains("50 to 100 % of the steps") && drawn.contains("logarithmic"),
        "{drawn}"
    );
    press(&mut model, &["left", "left"]);
    assert!(shown(&model).contains("25 to 75 % of the steps"));
    press(&mut model, &["esc"]);
    assert!(!shown(&model).contains("% of the steps"));
    // A second metric is drawn below the first.
    press(&mut model, &["space", "down"]);
    let drawn = shown(&model);
    assert!(
        drawn.contains("train/loss  ━") && drawn.contains("reward/total  "),
        "{drawn}"
    );
}

/// Opening an earlier run queries it and shows its state, which events of the current run do not change.
/// Closing it shows the current run again.
#[test]
fn an_earlier_run_is_opened_and_left_again() {
    let mut model = state();
    press(&mut model, &["0"]);
    let list: [&[&str]; 1] = [&[
        "0199-7b",
        "tabletop",
        "done",
        "60",
        "2",
        "2026-11-27 10:00:00",
        "",
    ]];
    update(&mut model, rows(&RUNS, &list));
    let asked = format!("{:?}", press(&mut model, &["enter"]));
    for words in ["'0199-7b'", "v_event", "v_funnel", "v_metric", "v_steer"] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let begun = serde_json::json!({
        "record": "run", "id": "0199-7b", "parent": null, "profile": "earlier", "config_hash": "", "seed": 2, "host": "",
        "version": "", "generation": 0,
        "config": { "stage": [{ "name": "cot", "kind": "finetune", "steps": 60 }, { "name": "after", "kind": "evaluate" }] },
    });
    let ended =
        serde_json::json!({ "record": "run_end", "run": "0199-7b", "status": "stopped", "reason": "by ann" });
    let (begun, ended) = (begun.to_string(), ended.to_string());
    let events: [&[&str]; 2] = [&[&begun, "0", "41"], &[&ended, "1000000", "41"]];
    update(&mut model, rows(&["opened", "at_us", "step"], &events));
    let points: [&[&str]; 2] = [
        &["0199-7b", "train/loss", "0", "0", "4.5"],
        &["0199-7b", "train/loss", "41", "0", "2.25"],
    ];
    update(
        &mut model,
        rows(&["curve", "name", "step", "seconds", "value"], &points),
    );
    press(&mut model, &["1"]);
    // Events of the current run do not appear in the view of an earlier one.
    update(&mut model, eval(213, "tabletop-sums", 0.5, ""));
    at_both_sizes("earlier-run", &model);
    let drawn = shown(&model);
    assert!(
        drawn.contains("an earlier run: earlier · stopped · step 42/61"),
        "{drawn}"
    );
    assert!(
        drawn.contains("2.250") && drawn.contains("cot 42/60") && !drawn.contains("tabletop-sums"),
        "{drawn}"
    );
    let asked = format!("{:?}", press(&mut model, &["0", "esc"]));
    assert!(asked.contains("'01a2'"), "{asked}");
    press(&mut model, &["1"]);
    assert!(shown(&model).contains("tabletop · running · step 172/213"));
}

/// The ranks of the daemon's run, of which the dashboard shows as many as there is room for.
#[test]
fn the_actors_screen_has_a_line_a_rank() {
    let mut model = state();
    let rank = |number: u32| RankView {
        device: if number < 3 { "cpu".into() } else { "cuda:3".into() },
        host: "node7".into(),
        pid: 4100 + number,
        memory: 1_400_000_000,
        peak: 3_170_000_000,
        device_memory: if number < 3 { 0 } else { 61_000_000_000 },
        device_peak: if number < 3 { 0 } else { 74_500_000_000 },
        seconds: 1.25,
        wait_seconds: 0.25 * f64::from(number),
        bytes: 1_000_000,
        restarts: 1,
        began_us: 0,
    };
    let with = |count: u32| Overview {
        ranks: (0..count).map(rank).collect(),
        ..overview()
    };
    update(&mut model, event(Record::Overview(with(4))));
    press(&mut model, &["2"]);
    at_both_sizes("ranks", &model);
    let drawn = shown(&model);
    for words in ["waiting", "cuda:3", "74.50 GB", "60 %", "node7 4101"] {
        assert!(drawn.contains(words), "{words}: {drawn}");
    }
    update(&mut model, event(Record::Overview(with(40))));
    let drawn = shown(&model);
    assert!(
        drawn.contains("more: demask ps") && drawn.contains("its last messages"),
        "{drawn}"
    );
    // One process that trains alone has no ranks.
    update(&mut model, event(Record::Overview(with(0))));
    assert!(!shown(&model).contains("waiting   restarts"));
}

/// A benchmark result opens into its parts and items, which can be filtered to the wrong ones. Each item
/// opens into its details, and `esc` goes back one level at a time.
#[test]
fn a_result_opens_into_its_parts_and_items() {
    let mut model = state();
    let asked = format!("{:?}", press(&mut model, &["6", "down", "enter"]));
    assert!(
        asked.contains("v_item WHERE run = '01a2' AND step = 212 AND suite = 'tabletop-ask'"),
        "{asked}"
    );
    let items: [&[&str]; 4] = [
        &[
            "0",
            "how_many",
            "1",
            "1",
            "how many circles are there?",
            "two",
            "two",
        ],
        &[
            "1",
            "how_many",
            "1",
            "0",
            "how many squares are there?",
            "one",
            "three",
        ],
        &[
            "2",
            "colour/first",
            "1",
            "1",
            "what colour is the square?",
            "red",
            "red",
        ],
        &[
            "3",
            "composition",
            "0",
            "0",
            "is there a purple cross?",
            "no",
            "yes",
        ],
    ];
    let columns = [
        "items",
        "category",
        "counted",
        "credit",
        "prompt",
        "answer",
        "reference",
    ];
    update(&mut model, rows(&columns, &items));
    at_both_sizes("items", &model);
    press(&mut model, &["w"]);
    let drawn = shown(&model);
    assert!(
        drawn.contains("not right: 2 of 4") && !drawn.contains("circles"),
        "{drawn}"
    );
    let asked = format!("{:?}", press(&mut model, &["enter"]));
    assert!(asked.contains("AND number = 1"), "{asked}");
    let columns = [
        "item_of",
        "number",
        "prompt",
        "picture",
        "output",
        "answer",
        "reference",
        "credit",
    ];
    let one: [&[&str]; 1] = [&[
        "1",
        "1",
        "how many squares are there?",
        "null",
        "one",
        "one",
        "three",
        "0",
    ]];
    update(&mut model, rows(&columns, &one));
    at_both_sizes("item", &model);
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("not right: 2 of 4"));
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("before and after"));
}

/// A result is compared with another one of its suite, chosen from a list. Only items that both were asked
/// count.
#[test]
fn a_result_is_compared_with_another() {
    let mut model = state();
    press(&mut model, &["6", "down", "enter"]);
    update(&mut model, rows(&["items"], &[&["0"]]));
    let asked = format!("{:?}", press(&mut model, &["space"]));
    assert!(
        asked.contains("v_eval WHERE suite = 'tabletop-ask' AND NOT (run = '01a2' AND step = 212)"),
        "{asked}"
    );
    let columns = ["others", "step", "value", "low", "high", "n", "checkpoint"];
    let others: [&[&str]; 2] = [
        &["01a2", "0", "62.0", "57.0", "67.0", "120", "weights:0"],
        &[
            "0198c2f0a9b14477",
            "40",
            "80.0",
            "71.0",
            "86.5",
            "90",
            "/runs/other",
        ],
    ];
    update(&mut model, rows(&columns, &others));
    at_both_sizes("others", &model);
    let asked = format!("{:?}", press(&mut model, &["down", "enter"]));
    assert!(
        asked.contains("b.run = '0198c2f0a9b14477' AND b.step = 40") && asked.contains("a.step = 212"),
        "{asked}"
    );
    // Twelve counted items in two parts, one of them held out.
    let pair = |number: usize| {
        let credits = ["1", "0"];
        let second = if number < 9 { "1" } else { "0" };
        [
            number.to_string(),
            ["colour/first", "how_many"][number % 2].to_owned(),
            "1".to_owned(),
            credits[usize::from(!number.is_multiple_of(3))].to_owned(),
            second.to_owned(),
        ]
    };
    let mut pairs: Vec<[String; 5]> = (0..12).map(pair).collect();
    pairs.push(["12", "composition", "0", "0", "0"].map(str::to_owned));
    let pairs: Vec<Vec<&str>> = pairs
        .iter()
        .map(|row| row.iter().map(String::as_str).collect())
        .collect();
    let pairs: Vec<&[&str]> = pairs.iter().map(Vec::as_slice).collect();
    let columns = ["pairs", "category", "counted", "credit", "credit"];
    update(&mut model, rows(&columns, &pairs));
    at_both_sizes("compared", &model);
    let drawn = shown(&model);
    assert!(
        drawn.contains("33.3") && drawn.contains("75.0") && drawn.contains("+41.7"),
        "{drawn}"
    );
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("enter compares"));
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("items, all"));
}

#[test]
fn actors_are_filtered_and_one_is_opened() {
    let mut model = state();
    press(&mut model, &["2", "/", "S", "c", "o", "r", "e", "enter"]);
    let drawn = shown(&model);
    assert!(drawn.contains("scorer") && !drawn.contains("trainer"), "{drawn}");
    press(&mut model, &["enter"]);
    at_both_sizes("actor", &model);
    let drawn = shown(&model);
    assert!(
        drawn.contains("scorer, made by supervisor") && drawn.contains("died: panicked: asked to"),
        "{drawn}"
    );
    press(&mut model, &["esc", "/", "enter"]);
    assert!(shown(&model).contains("trainer"));
    // From any other screen the key opens the query screen.
    press(&mut model, &["1", "/"]);
    assert!(shown(&model).contains("SELECT"));
}

#[test]
fn reasons_that_differ_in_their_numbers_are_one_line_with_an_example() {
    let mut model = state();
    for row in 0..30 {
        let reason = format!(
            "rows.jsonl:{row}: the prompt has {} tokens, expected at most 32",
            40 + row
        );
        update(
            &mut model,
            verdict(&format!("row {row}"), "parse", false, &reason),
        );
    }
    press(&mut model, &["5"]);
    let drawn = render_to_string(&model, 200, 50).unwrap();
    let line = drawn
        .lines()
        .find(|line| line.contains("30 like: rows.jsonl:0: the prompt has 40 tokens"));
    assert!(
        line.is_some_and(|line| line.contains("parse") && line.contains(" 30 ")),
        "{drawn}"
    );
}

/// Opening a trained sequence queries its verdicts, rewards and benchmark results, and shows them as text.
#[test]
fn a_story_is_told_in_words() {
    let mut model = state();
    let list: [&[&str]; 1] = [&["01a2/r1/0", "3"]];
    update(&mut model, rows(&["lineage", "step"], &list));
    let asked = format!("{:?}", press(&mut model, &["5", "enter"]));
    for words in [
        "v_trace WHERE trace = '01a2/r1/0'",
        "v_reward",
        "v_eval",
        "one.run = '01a2'",
    ] {
        assert!(asked.contains(words), "{words}: {asked}");
    }
    let story: [&[&str]; 5] = [
        &["sequence", "01a2/r1/0"],
        &["prompt", "Ana has 5 pens, loses 2. How many pens?"],
        &["answer", "<think>5 - 2 = 3.</think>3"],
        &["gates", "verify passed, dedup passed, accept passed"],
        &[
            "benchmarks",
            "tabletop-sums 54.2 % at step 1 before, 61.0 % at step 212 after",
        ],
    ];
    update(&mut model, rows(&["story", "value"], &story));
    at_both_sizes("story", &model);
}

#[test]
fn the_palette_finds_a_knob_and_turns_it() {
    let mut model = state();
    press(&mut model, &[":", "p", "e", "n", "a", "l"]);
    insta::assert_snapshot!("palette", shown(&model));
    press(&mut model, &["enter"]);
    assert!(shown(&model).contains("kl is 0.01, allowed 0 to 100"));
    let effects = press(&mut model, &["0", ".", "2", "enter"]);
    let set = demask_storage::Command::Set {
        key: "kl".into(),
        value: 0.2,
    };
    assert_eq!(effects, vec![Effect::Ask(set)]);
    press(&mut model, &[":", "z", "z", "z"]);
    assert!(shown(&model).contains("nothing is called that"));
    assert_eq!(press(&mut model, &["enter", "esc"]), vec![]);
}

#[test]
fn every_key_can_be_found_in_the_palette() {
    let mut model = state();
    for words in ["checkpoint now", "leave", "benchmarks", "sample a prompt"] {
        press(&mut model, &[":"]);
        for letter in words.chars() {
            let key = if letter == ' ' {
                "space".to_owned()
            } else {
                letter.to_string()
            };
            update(&mut model, Msg::Key(key));
        }
        let line = shown(&model)
            .lines()
            .find(|line| line.contains('›'))
            .map(str::to_owned);
        assert!(line.unwrap().contains(words));
        assert!(!shown(&model).contains("nothing is called that"), "{words}");
        press(&mut model, &["esc"]);
    }
}

#[test]
fn the_log_is_filtered_by_level_and_words() {
    let mut model = state();
    press(&mut model, &["l"]);
    let loud = shown(&model);
    assert!(
        loud.contains("alert not_finite") && !loud.contains("benchmark"),
        "{loud}"
    );
    press(&mut model, &["l", "l", "f", "D", "R", "A", "W", "enter"]);
    let drawn = shown(&model);
    assert!(drawn.contains("benchmark tabletop-draw 38.0 %"), "{drawn}");
    assert!(
        !drawn.contains("tabletop-ask") && !drawn.contains("not_finite"),
        "{drawn}"
    );
    press(&mut model, &["up"]);
    assert!(shown(&model).contains("1 lines back"));
}

#[test]
fn a_long_line_of_the_log_can_be_read_to_its_end() {
    let mut model = state();
    let message = format!(
        "there is no knob; the knobs are {} and the last one",
        "kl ".repeat(60)
    );
    update(&mut model, Msg::Reply(Box::new(Reply::Refused { message })));
    press(&mut model, &["7"]);
    let log = shown(&model);
    assert!(
        log.contains("and the last one") && log.contains("alert not_finite"),
        "{log}"
    );
}

/// The Data screen lists trained sequences and opens the details of one. Ids are quoted in the SQL.
#[test]
fn lineage_is_walked_from_the_list_to_one_story() {
    let mut model = state();
    let asked = press(&mut model, &["5", "enter"]);
    assert!(format!("{asked:?}").contains("v_lineage"));
    let cell = |text: &str| serde_json::Value::String(text.to_owned());
    let columns = [
        "lineage",
        "step",
        "stage",
        "source",
        "generator",
        "verifier",
        "score",
    ];
    let row = |id: &str| {
        vec![
            cell(id),
            3.into(),
            cell("cot"),
            cell("reasoner"),
            cell("weights:9"),
            cell("trace"),
            1.into(),
        ]
    };
    update(
        &mut model,
        Msg::Reply(Box::new(Reply::Rows {
            columns: columns.map(str::to_owned).to_vec(),
            rows: vec![row("one"), row("it's two")],
        })),
    );
    assert!(shown(&model).contains("weights:9"));
    let asked = format!("{:?}", press(&mut model, &["down", "enter"]));
    assert!(asked.contains("it''s two"), "{asked}");
    update(
        &mut model,
        Msg::Reply(Box::new(Reply::Rows {
            columns: vec!["story".into(), "value".into()],
            rows: vec![vec![cell("generator"), cell("weights:9")]],
        })),
    );
    assert!(shown(&model).contains("one sequence"));
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("lineage: up and down"));
}

#[test]
fn the_mouse_chooses_screens_and_scrolls() {
    let mut model = state();
    update(&mut model, Msg::Size(100, 30));
    update(&mut model, Msg::Click(14, 1));
    assert_eq!(model.screen, 1);
    update(&mut model, Msg::Click(99, 1));
    assert_eq!(model.screen, 1);
    update(&mut model, Msg::Click(14, 9));
    assert_eq!(model.screen, 1);
    press(&mut model, &["7"]);
    update(&mut model, Msg::Wheel(true));
    assert!(shown(&model).contains("1 lines back"));
    update(&mut model, Msg::Wheel(false));
    assert!(!shown(&model).contains("lines back"));
}

fn list(subjects: &[&str]) -> Msg {
    Msg::Reply(Box::new(Reply::Rows {
        columns: vec!["lineage".into(), "step".into()],
        rows: subjects.iter().map(|id| vec![(*id).into(), 3.into()]).collect(),
    }))
}

#[test]
fn the_help() {
    let mut model = state();
    press(&mut model, &["?"]);
    insta::assert_snapshot!("help", shown(&model));
}

#[test]
fn a_click_chooses_a_sequence_and_another_opens_it() {
    let mut model = state();
    update(&mut model, Msg::Size(100, 30));
    press(&mut model, &["5"]);
    update(&mut model, list(&["one", "two"]));
    let row = shown(&model)
        .lines()
        .position(|line| line.contains("two"))
        .unwrap() as u16;
    assert_eq!(update(&mut model, Msg::Click(50, row)), vec![]);
    assert!(format!("{:?}", update(&mut model, Msg::Click(50, row))).contains("'two'"));
    assert_eq!(update(&mut model, Msg::Click(50, row + 1)), vec![]);
    assert_eq!(update(&mut model, Msg::Click(3, 4)), vec![]);
    assert!(format!("{:?}", update(&mut model, Msg::Click(50, row))).contains("'two'"));
}

#[test]
fn a_click_does_what_the_palette_shows_there() {
    let mut model = state();
    update(&mut model, Msg::Size(100, 30));
    press(&mut model, &[":"]);
    update(&mut model, Msg::Wheel(false));
    assert!(shown(&model).contains("leave; the run goes on"));
    press(
        &mut model,
        &[
            "c", "h", "e", "c", "k", "p", "o", "i", "n", "t", "space", "n", "o", "w",
        ],
    );
    let row = shown(&model)
        .lines()
        .position(|line| line.contains("checkpoint now "))
        .unwrap() as u16;
    let asked = update(&mut model, Msg::Click(50, row));
    assert_eq!(asked, vec![Effect::Ask(demask_storage::Command::Checkpoint)]);
    press(&mut model, &[":"]);
    update(&mut model, Msg::Click(0, 29));
    assert!(model.palette.is_none());
}

#[test]
fn a_story_leads_to_its_parent() {
    let mut model = state();
    press(&mut model, &["5"]);
    update(
        &mut model,
        Msg::Reply(Box::new(Reply::Rows {
            columns: vec!["story".into(), "value".into()],
            rows: vec![vec!["parent".into(), "example-7".into()]],
        })),
    );
    assert!(format!("{:?}", press(&mut model, &["enter"])).contains("'example-7'"));
}

#[test]
fn who_has_scrolled_back_goes_on_reading_the_same_lines() {
    let mut model = state();
    let say = |number: u64| eval(number, &format!("suite-{number}"), 0.5, "");
    for number in 0..40 {
        update(&mut model, say(number));
    }
    press(&mut model, &["7", "up", "up"]);
    let newest = |model: &Dashboard| shown(model).lines().nth(27).map(str::to_owned);
    let before = newest(&model);
    assert!(before.as_ref().unwrap().contains("suite-37"), "{before:?}");
    update(&mut model, say(40));
    assert_eq!(newest(&model), before);
    for number in 41..2000 {
        update(&mut model, say(number));
    }
    assert!(
        shown(&model).contains("benchmark suite-"),
        "lines that are gone leave no hole"
    );
}

/// Records that a restarted run repeats are counted once.
#[test]
fn what_a_new_life_does_again_counts_once() {
    let (mut model, mut once) = (state(), state());
    let again = [
        eval(212, "tabletop-draw", 0.38, "hold"),
        sample(1, 0.7, -0.9),
        verdict("b", "verify", true, ""),
        used(3, &["a", "b"]),
    ];
    for msg in again {
        update(&mut model, msg);
    }
    for screen in ["1", "4", "5", "6", "7"] {
        press(&mut model, &[screen]);
        press(&mut once, &[screen]);
        assert_eq!(shown(&model), shown(&once));
    }
    // A verdict that changes replaces the earlier one in the counts.
    update(&mut model, verdict("b", "verify", false, "the result is wrong"));
    let wrong = ("reasoner".into(), "verify".into(), "the result is wrong".into());
    assert_eq!(model.funnel.get(&wrong), Some(&(0, 2)));
    update(&mut model, used(3, &["a"]));
    assert_eq!(model.trained.get("cot"), Some(&1));
    update(&mut model, eval(212, "tabletop-draw", 0.5, "promote"));
    assert_eq!((model.evals.len(), model.evals[3].value), (4, 0.5));
}

/// Results are listed newest first. A scrolled list keeps its place when a new result arrives.
#[test]
fn results_are_newest_first_and_scroll() {
    let mut model = state();
    for step in 300..340 {
        update(&mut model, eval(step, "tabletop-ask", 0.5, ""));
    }
    press(&mut model, &["6"]);
    let first = |model: &Dashboard| {
        shown(model)
            .lines()
            .nth(12)
            .map(|line| line.get(3..9).unwrap().to_owned())
    };
    assert_eq!(first(&model).as_deref(), Some("339   "), "{}", shown(&model));
    press(&mut model, &["down", "down", "up"]);
    assert_eq!(first(&model).as_deref(), Some("338   "));
    press(&mut model, &["pgdn"]);
    assert_eq!(first(&model).as_deref(), Some("328   "));
    update(&mut model, eval(340, "tabletop-ask", 0.5, ""));
    assert_eq!(
        first(&model).as_deref(),
        Some("328   "),
        "who reads goes on reading"
    );
    press(&mut model, &["pgup", "pgup"]);
    assert_eq!(first(&model).as_deref(), Some("340   "));
}

#[test]
fn only_the_answer_to_a_query_takes_its_tables_place() {
    let mut model = state();
    press(&mut model, &["/", "a", "enter"]);
    let cell = |text: &str| serde_json::Value::String(text.to_owned());
    update(
        &mut model,
        Msg::Reply(Box::new(Reply::Rows {
            columns: vec!["name".into()],
            rows: vec![vec![cell("of the table")]],
        })),
    );
    let message = "no such knob".to_owned();
    update(&mut model, Msg::Reply(Box::new(Reply::Refused { message })));
    assert!(shown(&model).contains("of the table") && shown(&model).contains("no such knob"));
    let refused = |sql: &str| Msg::NoRows {
        sql: sql.into(),
        message: "syntax error".into(),
    };
    update(&mut model, refused("the lineage"));
    assert!(shown(&model).contains("of the table"));
    update(&mut model, refused("a"));
    assert!(!shown(&model).contains("of the table") && shown(&model).contains("syntax error"));
}

/// The rows of a grid have the grid's width, which may differ from its height. Without room for numbers,
/// shades are drawn.
#[test]
fn a_grid_that_is_not_square_keeps_its_shape() {
    let wide = |columns: usize, rows: usize| {
        let mut model = Dashboard::from(Model {
            no_color: true,
            ..Model::default()
        });
        let codes = columns * rows;
        let record = Record::Frame(Frame {
            run: "01a2".into(),
            sample: "s".into(),
            origin: "person".into(),
            prompt: "a red circle".into(),
            kind: "picture".into(),
            step: 0,
            steps: 8,
            tokens: (0..codes)
                .map(|at| if at == 1 { String::new() } else { at.to_string() })
                .collect(),
            confidence: vec![250; codes],
            grid: columns as u64,
            picture: None,
        });
        update(&mut model, event(record));
        press(&mut model, &["3"]);
        let lines: Vec<String> = shown(&model).lines().skip(5).map(str::to_owned).collect();
        let cell = |line: &String| line.trim_matches('│').trim_end().to_owned();
        lines.iter().map(cell).collect::<Vec<_>>()
    };
    let lines = wide(6, 2);
    assert_eq!(lines[0], "   0▇ ░░░░   2▇   3▇   4▇   5▇");
    assert_eq!(lines[1], "   6▇   7▇   8▇   9▇  10▇  11▇");
    assert_eq!(lines[2], "");
    let lines = wide(2, 6);
    assert_eq!(
        (lines[0].as_str(), lines[5].as_str()),
        ("   0▇ ░░░░", "  10▇  11▇")
    );
    assert_eq!(lines[6], "");
    let lines = wide(36, 12);
    assert_eq!(lines[0], format!("▇▇░░{}", "▇▇".repeat(34)));
    assert!((1..12).all(|row| lines[row] == "▇▇".repeat(36)));
    assert_eq!(lines[12], "");
}

#[test]
fn denoise_is_scrubbed_on_its_own_screen_alone_and_esc_is_a_key_like_others() {
    let mut model = state();
    press(&mut model, &["2", "left", "3"]);
    assert!(!shown(&model).contains(" held; "));
    press(&mut model, &["left"]);
    assert!(shown(&model).contains(" held; "));
    press(&mut model, &[":", "n", "e", "w", "e", "s", "t", "enter"]);
    assert!(!shown(&model).contains(" held; "));
}

#[test]
fn ctrl_c_gives_up_typing_and_then_leaves() {
    let mut model = state();
    assert_eq!(press(&mut model, &["k", "x", "ctrl-c"]), vec![]);
    assert!(model.typing.is_none());
    assert_eq!(press(&mut model, &[":", "ctrl-c"]), vec![]);
    assert_eq!(press(&mut model, &["ctrl-c"]), vec![Effect::Quit]);
}

#[test]
fn what_was_answered_gives_way_to_the_hints() {
    let mut model = state();
    update(
        &mut model,
        Msg::Reply(Box::new(Reply::Refused {
            message: "kl: 0 to 100".into(),
        })),
    );
    assert!(shown(&model).contains("kl: 0 to 100"));
    press(&mut model, &["2"]);
    assert!(shown(&model).contains("q leave"));
}

#[test]
fn the_end_of_a_long_query_stays_in_sight() {
    let mut model = state();
    press(&mut model, &["/"]);
    for letter in "a".repeat(150).chars().chain("tail".chars()) {
        update(&mut model, Msg::Key(letter.to_string()));
    }
    let drawn = shown(&model);
    assert!(drawn.lines().last().unwrap().ends_with("tail▏"), "{drawn}");
}
