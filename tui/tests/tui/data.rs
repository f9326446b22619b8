//! The Data screen: the reasons of gates, and the lineage of a sequence.

use demask_storage::{Gate, GateVerdict, Record, Reply};
use demask_tui::{Msg, render_to_string, update};

use crate::screens::at_both_sizes;
use crate::state::{event, press, rows, shown, state, verdict};

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

/// Live verdicts count as the store's funnel does: one verdict may stand for all rows of a source, and a note on what
/// passed is no reason.
#[test]
fn a_live_verdict_counts_all_the_rows_that_it_stands_for() {
    let mut model = state();
    let kept = |count: u64| {
        event(Record::Verdict(GateVerdict {
            subject: "source school".into(),
            run: "01a2".into(),
            round: 0,
            gate: Gate::Accept,
            passed: true,
            reason: "a note".into(),
            source: "school".into(),
            count,
        }))
    };
    update(&mut model, kept(700));
    update(&mut model, kept(731));
    let line = ("school".into(), Gate::Accept.to_string(), String::new());
    assert_eq!(model.funnel.get(&line), Some(&(731, 0)));
    press(&mut model, &["5"]);
    assert!(shown(&model).contains(" 731 "), "{}", shown(&model));
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

fn list(subjects: &[&str]) -> Msg {
    Msg::Reply(Box::new(Reply::Rows {
        columns: vec!["lineage".into(), "step".into()],
        rows: subjects.iter().map(|id| vec![(*id).into(), 3.into()]).collect(),
    }))
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
