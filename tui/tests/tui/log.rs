//! The Log screen, and records that a restarted run repeats.

use demask_storage::Reply;
use demask_tui::{Dashboard, Msg, update};

use crate::state::{eval, press, rows, sample, shown, state, used, verdict};

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

/// Wide characters take two columns each, and words are not run together where a line ended.
#[test]
fn the_newest_line_is_seen_whatever_characters_the_lines_have() {
    let mut model = state();
    for number in 0..20 {
        let message = format!("{}{number}", "\u{56fe}".repeat(70));
        update(&mut model, Msg::Reply(Box::new(Reply::Refused { message })));
    }
    let message = "the\nlast one".to_owned();
    update(&mut model, Msg::Reply(Box::new(Reply::Refused { message })));
    press(&mut model, &["7"]);
    assert!(shown(&model).contains("the last one"), "{}", shown(&model));
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

/// A scrolled log of one run does not hide that of another that is opened.
#[test]
fn the_log_of_a_run_that_is_opened_is_shown_from_its_end() {
    let mut model = state();
    press(&mut model, &["7", "up", "up", "0"]);
    let columns = ["runs", "profile", "status", "step", "seed", "began", "benchmarks"];
    let earlier: [&[&str]; 1] = [&["0199-7b", "tabletop", "done", "60", "2", "", ""]];
    update(&mut model, rows(&columns, &earlier));
    press(&mut model, &["enter", "7"]);
    assert!(!shown(&model).contains("lines back"), "{}", shown(&model));
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
