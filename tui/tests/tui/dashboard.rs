//! The dashboard through its public interfaces: messages in, text out.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Alert, Command, Envelope, Frame, Level, Metric, Record, Reply};
use demask_tui::{Dashboard, Effect, Msg, render_to_string, update};
use proptest::prelude::*;

fn event(record: Record) -> Msg {
    Msg::Event(Box::new(Envelope {
        seq: 1,
        at_us: 0,
        record,
    }))
}

fn frame(step: u64, words: &[&str]) -> Msg {
    event(Record::Frame(Frame {
        run: "r".into(),
        sample: "s".into(),
        origin: "person".into(),
        prompt: "two and two".into(),
        kind: "text".into(),
        step,
        steps: 2,
        tokens: words.iter().map(ToString::to_string).collect(),
        confidence: vec![200; words.len()],
        grid: 0,
        picture: None,
    }))
}

fn press(model: &mut Dashboard, keys: &[&str]) -> Vec<Effect> {
    keys.iter()
        .flat_map(|key| update(model, Msg::Key((*key).to_owned())))
        .collect()
}

#[test]
fn masks_are_filled_and_can_be_scrubbed_back() {
    let mut model = Dashboard::default();
    update(&mut model, frame(0, &["", "four"]));
    update(&mut model, frame(1, &["is ", "four"]));
    press(&mut model, &["3"]);
    assert!(render_to_string(&model, 80, 24).unwrap().contains("░four"));
    update(&mut model, Msg::Tick);
    assert!(render_to_string(&model, 80, 24).unwrap().contains("is four"));
    press(&mut model, &["left"]);
    let back = render_to_string(&model, 80, 24).unwrap();
    assert!(
        back.contains("░four") && back.contains("step 1 of at most 2"),
        "{back}"
    );
}

/// Returns the event of a sample with one frame.
fn sample(run: &str, id: &str, word: &str) -> Msg {
    let Msg::Event(mut envelope) = frame(0, &[word]) else {
        unreachable!("a frame is an event")
    };
    if let Record::Frame(frame) = &mut envelope.record {
        (frame.run, frame.sample) = (run.into(), id.into());
    }
    Msg::Event(envelope)
}

/// A sample that is being scrubbed stays on screen while new ones arrive; `esc` returns to the newest.
#[test]
fn who_scrubs_goes_on_looking_at_the_same_sample_while_others_come() {
    let mut model = Dashboard::default();
    for number in 0..3 {
        update(
            &mut model,
            sample("r", &number.to_string(), &format!("word-{number}")),
        );
    }
    press(&mut model, &["3", "up"]);
    let shown = |model: &Dashboard| render_to_string(model, 80, 24).unwrap();
    assert!(shown(&model).contains("word-1") && shown(&model).contains("sample 2 of 3"));
    press(&mut model, &["left"]);
    for number in 3..60 {
        update(
            &mut model,
            sample("r", &number.to_string(), &format!("word-{number}")),
        );
        if number < 30 {
            assert!(shown(&model).contains("word-1"), "{number}");
        }
    }
    press(&mut model, &["esc"]);
    assert!(shown(&model).contains("word-59"), "{}", shown(&model));
}

#[test]
fn another_run_begins_with_empty_screens() {
    let mut model = Dashboard::default();
    let metric = |run: &str, step: u64, name: &str| {
        event(Record::Metric(Metric {
            run: run.into(),
            step,
            values: vec![(name.into(), 0.5)],
        }))
    };
    update(&mut model, metric("one", 7, "train/loss"));
    update(&mut model, sample("one", "s", "old"));
    update(&mut model, sample("", "asked", "of no run"));
    assert!(model.metrics.contains_key("train/loss") && model.samples.len() == 2);
    update(&mut model, metric("two", 1, "policy/kl"));
    assert_eq!(model.metrics.keys().collect::<Vec<_>>(), ["policy/kl"]);
    assert!(model.samples.is_empty());
}

#[test]
fn what_cannot_be_sent_is_said() {
    let mut model = Dashboard::default();
    assert_eq!(press(&mut model, &["c"]), vec![]);
    let said = render_to_string(&model, 80, 24).unwrap();
    assert!(said.contains("the daemon is away: nothing was asked"), "{said}");
    update(&mut model, Msg::Connected);
    assert_eq!(press(&mut model, &["c"]), vec![Effect::Ask(Command::Checkpoint)]);
    update(&mut model, Msg::Away);
    assert_eq!(press(&mut model, &["c", "q"]), vec![Effect::Quit]);
}

#[test]
fn the_last_query_can_be_mended() {
    let mut model = Dashboard::default();
    update(&mut model, Msg::Connected);
    press(&mut model, &["/", "a", "enter"]);
    let again = press(&mut model, &["/", "up", "b", "enter"]);
    let Some(Effect::Ask(Command::Query { sql, .. })) = again.first() else {
        unreachable!("{again:?}")
    };
    assert_eq!(sql, "ab");
}

#[test]
fn a_narrow_terminal_shows_every_screen_and_the_way_to_help() {
    let mut model = Dashboard::default();
    let wide = render_to_string(&model, 80, 24).unwrap();
    assert!(wide.contains("1Overview") && wide.contains("0Runs"), "{wide}");
    press(&mut model, &["7"]);
    let narrow = render_to_string(&model, 60, 16).unwrap();
    assert!(
        narrow.contains(" 6  7 Log  8") && narrow.contains("? help"),
        "{narrow}"
    );
    press(&mut model, &["?"]);
    assert!(!render_to_string(&model, 60, 16).unwrap().contains("this help"));
    for _ in 0..40 {
        press(&mut model, &["down"]);
    }
    assert!(render_to_string(&model, 60, 16).unwrap().contains("this help"));
}

#[test]
fn a_knob_is_turned_by_typing_and_a_stop_wants_a_yes() {
    let mut model = Dashboard::default();
    update(&mut model, Msg::Connected);
    let set = Command::Set {
        key: "kl".into(),
        value: 0.1,
    };
    assert_eq!(
        press(&mut model, &["k", "k", "l", "=", "0", ".", "1", "enter"]),
        vec![Effect::Ask(set)]
    );
    assert_eq!(press(&mut model, &["S", "n", "o", "enter"]), vec![]);
    assert_eq!(
        press(&mut model, &["S", "y", "e", "s", "enter"]),
        vec![Effect::Ask(Command::Stop)]
    );
}

#[test]
fn help_names_every_key() {
    let mut model = Dashboard::default();
    press(&mut model, &["?"]);
    let help = render_to_string(&model, 100, 40).unwrap();
    for words in [
        "leave; the run goes on",
        "pause or resume",
        "turn a knob",
        "sample a prompt",
        "ask the store",
        "Denoise: one step back",
    ] {
        assert!(help.contains(words), "{words}\n{help}");
    }
}

#[test]
fn a_tiny_terminal_and_an_away_daemon_say_so() {
    let mut model = Dashboard::default();
    assert!(
        render_to_string(&model, 40, 10)
            .unwrap()
            .contains("too small: 40 × 10")
    );
    for _ in 0..12 {
        update(&mut model, Msg::Tick);
    }
    assert!(
        render_to_string(&model, 80, 24)
            .unwrap()
            .contains("daemon away 3 s")
    );
    update(&mut model, Msg::Connected);
    assert!(render_to_string(&model, 80, 24).unwrap().contains("connecting"));
}

/// L10: a daemon that is connected and hangs is noticed, and what is shown is not taken for the present state.
#[test]
fn l10_a_silent_daemon_is_told_until_it_speaks() {
    let mut model = Dashboard::default();
    update(&mut model, Msg::Connected);
    let header = |model: &Dashboard| render_to_string(model, 80, 24).unwrap();
    for _ in 0..19 {
        update(&mut model, Msg::Tick);
    }
    assert!(!header(&model).contains("silent"));
    for _ in 0..9 {
        update(&mut model, Msg::Tick);
    }
    assert!(
        header(&model).contains("daemon silent 7 s: what is shown is older; see `demask daemon logs`"),
        "{}",
        header(&model)
    );
    update(&mut model, frame(0, &["a"]));
    assert!(!header(&model).contains("silent"));
}

const KEYS: [&str; 29] = [
    "q", "tab", "3", "4", "8", "p", "S", "c", "k", "n", "left", "right", "up", "down", "/", "?", "enter",
    "esc", "x", ":", "ctrl-c", "1", "5", "6", "7", "f", "l", "pgup", "pgdn",
];

fn lineage_reply() -> Msg {
    Msg::Reply(Box::new(Reply::Rows {
        columns: vec!["lineage".into(), "step".into()],
        rows: vec![vec!["one".into(), 1.into()], vec!["two".into(), 2.into()]],
    }))
}

fn messages() -> impl Strategy<Value = Msg> {
    prop_oneof![
        proptest::sample::select(&KEYS[..]).prop_map(|key| Msg::Key(key.to_owned())),
        (0u64..4).prop_map(|step| frame(step, &["a", ""])),
        any::<f64>().prop_map(|value| event(Record::Metric(Metric {
            run: "r".into(),
            step: 1,
            values: vec![("train/loss".into(), value)]
        }))),
        Just(event(Record::Alert(Alert {
            run: "r".into(),
            step: 1,
            level: Level::Warn,
            kind: "k".into(),
            message: "m".into()
        }))),
        Just(Msg::Reply(Box::new(Reply::Refused { message: "no".into() }))),
        Just(Msg::Lagged(3)),
        Just(Msg::Away),
        Just(Msg::Tick),
        any::<bool>().prop_map(Msg::Wheel),
        ".{0,9}".prop_map(Msg::Paste),
        (0u16..150, 0u16..60).prop_map(|(column, row)| Msg::Click(column, row)),
        (0u16..150, 0u16..60).prop_map(|(width, height)| Msg::Size(width, height)),
        Just(lineage_reply()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_that_happens_brings_it_down(all in proptest::collection::vec((messages(), 1u16..140, 1u16..50), 0..40)) {
        let mut model = Dashboard::default();
        for (msg, width, height) in all {
            update(&mut model, msg);
            render_to_string(&model, width, height).unwrap();
        }
    }
}
