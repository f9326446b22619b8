//! Snapshots of every screen, drawn from one fixed state.

use demask_storage::{Frame, Overview, RankView, Record};
use demask_tui::{Dashboard, Effect, Model, Msg, render_to_string, update};

use crate::state::{eval, event, overview, press, rows, shown, state};

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

/// Compares a screen with its snapshots, at the smallest usual size and at a large one.
pub(crate) fn at_both_sizes(name: &str, model: &Dashboard) {
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
fn the_help() {
    let mut model = state();
    press(&mut model, &["?"]);
    insta::assert_snapshot!("help", shown(&model));
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
