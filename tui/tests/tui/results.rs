//! The Benchmarks screen: results, their items, and the comparison of two.

use demask_tui::{Dashboard, update};

use crate::screens::at_both_sizes;
use crate::state::{eval, press, rows, shown, state};

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

/// Parts that are computed from the first items alone say so.
#[test]
fn a_result_with_more_items_than_are_read_says_so() {
    let mut model = state();
    press(&mut model, &["6", "enter"]);
    let columns = ["items", "category", "counted", "credit"];
    let item: &[&str] = &["0", "how_many", "1", "1"];
    let mut items: Vec<&[&str]> = std::iter::repeat_n(item, 4999).collect();
    update(&mut model, rows(&columns, &items));
    assert!(!shown(&model).contains("first 5,000"));
    items.push(item);
    update(&mut model, rows(&columns, &items));
    assert!(shown(&model).contains("parts of the first 5,000 items alone"));
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
