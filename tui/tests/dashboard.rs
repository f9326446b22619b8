//! The dashboard through its doors: messages in, text out.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Alert, Command, Envelope, Frame, Level, Metric, Record, Reply};
use demask_tui::{Effect, Model, Msg, render_to_string, update};
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

fn press(model: &mut Model, keys: &[&str]) -> Vec<Effect> {
    keys.iter()
        .flat_map(|key| update(model, Msg::Key((*key).to_owned())))
        .collect()
}

#[test]
fn masks_are_filled_and_can_be_scrubbed_back() {
    let mut model = Model::default();
    update(&mut model, frame(0, &["", "four"]));
    update(&mut model, frame(1, &["is ", "four"]));
    press(&mut model, &["3"]);
    assert!(render_to_string(&model, 80, 24).unwrap().contains("is four"));
    press(&mut model, &["left"]);
    let back = render_to_string(&model, 80, 24).unwrap();
    assert!(back.contains("░four") && back.contains("step 1/2"), "{back}");
}

#[test]
fn a_knob_is_turned_by_typing_and_a_stop_wants_a_yes() {
    let mut model = Model::default();
    let set = Command::Set {
        key: "kl".into(),
        value: "0.1".into(),
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
    let mut model = Model::default();
    press(&mut model, &["?"]);
    let help = render_to_string(&model, 100, 40).unwrap();
    for words in [
        "leave; the run goes on",
        "pause or resume",
        "turn a knob",
        "sample a prompt",
        "ask the store",
        "one denoising step back",
    ] {
        assert!(help.contains(words), "{words}\n{help}");
    }
}

#[test]
fn a_tiny_terminal_and_an_away_daemon_say_so() {
    let mut model = Model::default();
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

const KEYS: [&str; 26] = [
    "q", "tab", "3", "4", "8", "p", "S", "c", "k", "n", "left", "right", "up", "down", "/", "?", "enter",
    "esc", "x", ":", "ctrl-c", "1", "5", "7", "f", "l",
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
        (0u16..150, 0u16..60).prop_map(|(column, row)| Msg::Click(column, row)),
        (0u16..150, 0u16..60).prop_map(|(width, height)| Msg::Size(width, height)),
        Just(lineage_reply()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_that_happens_brings_it_down(all in proptest::collection::vec((messages(), 1u16..140, 1u16..50), 0..40)) {
        let mut model = Model::default();
        for (msg, width, height) in all {
            update(&mut model, msg);
            render_to_string(&model, width, height).unwrap();
        }
    }
}
