//! Keys, the palette, the mouse and what is typed, whichever screen is shown.

use demask_storage::{Command, Overview, Record, Reply, RunState};
use demask_tui::{Effect, Msg, update};

use crate::state::{event, overview, press, rows, shown, state};

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
fn only_the_answer_to_a_query_takes_its_tables_place() {
    let mut model = state();
    press(&mut model, &["/", "a", "enter"]);
    let cell = |text: &str| serde_json::Value::String(text.to_owned());
    update(
        &mut model,
        Msg::Rows {
            sql: "a".into(),
            columns: vec!["name".into()],
            rows: vec![vec![cell("of the table")]],
        },
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

/// A pasted text is one line of what is typed. Where nothing is typed, its letters are no keys.
#[test]
fn a_pasted_text_is_typed_and_pressed_nowhere() {
    let mut model = state();
    let pasted = |text: &str| Msg::Paste(text.to_owned());
    assert_eq!(update(&mut model, pasted("Sp\nq\n")), vec![]);
    assert!(model.typing.is_none() && shown(&model).contains("a text is pasted where one is typed"));
    press(&mut model, &["/"]);
    assert_eq!(update(&mut model, pasted("SELECT run\r\nFROM v_run;\n")), vec![]);
    let asked = format!("{:?}", press(&mut model, &["enter"]));
    assert!(asked.contains("SELECT run  FROM v_run;"), "{asked}");
    press(&mut model, &[":"]);
    update(&mut model, pasted("checkpoint now"));
    assert_eq!(
        press(&mut model, &["enter"]),
        vec![Effect::Ask(Command::Checkpoint)]
    );
}

#[test]
fn esc_closes_the_help_and_nothing_below_it() {
    let mut model = state();
    press(&mut model, &["5"]);
    update(
        &mut model,
        rows(&["story", "value"], &[&["text", "of one sequence"]]),
    );
    press(&mut model, &["?", "esc"]);
    assert!(!model.help && shown(&model).contains("of one sequence"));
    press(&mut model, &["esc"]);
    assert!(!shown(&model).contains("of one sequence"));
}

/// The daemon refuses what finds no room in the connection's queue, so a page asks no more than a line.
#[test]
fn a_page_of_metrics_asks_for_one_of_them_and_a_known_one_is_not_asked_for_again() {
    let mut model = state();
    press(&mut model, &["9"]);
    assert_eq!(press(&mut model, &["pgdn"]).len(), 2);
    let points: [&[&str]; 1] = [&["01a2", "train/loss", "0", "0", "3"]];
    update(
        &mut model,
        rows(&["curve", "name", "step", "seconds", "value"], &points),
    );
    assert_eq!(press(&mut model, &["up"]).len(), 2);
    assert_eq!(press(&mut model, &["down"]), vec![]);
}

/// A screen asks again when the daemon is back, and a cancellation is not half confirmed for ever.
#[test]
fn what_is_shown_is_asked_for_again_when_the_daemon_is_back() {
    let mut model = state();
    press(&mut model, &["0"]);
    update(&mut model, Msg::Away);
    let asked = update(&mut model, Msg::Connected);
    assert!(format!("{asked:?}").contains("v_queue"), "{asked:?}");
    let columns = ["runs", "profile", "status", "step", "seed", "began", "benchmarks"];
    let waits: [&[&str]; 1] = [&["0199-7b", "later", "waits 1", "", "", "", ""]];
    update(&mut model, rows(&columns, &waits));
    assert_eq!(press(&mut model, &["X", "1"]), vec![]);
    press(&mut model, &["0"]);
    assert_eq!(press(&mut model, &["X"]), vec![]);
    assert!(shown(&model).contains("X again cancels later"));
}

/// Commands go to the daemon's run also while an earlier one is shown, and a stop only to the run that it was asked for.
#[test]
fn commands_go_to_the_daemons_run_whichever_is_shown() {
    let mut model = state();
    let with = |id: &str, state: RunState| {
        event(Record::Overview(Overview {
            run: id.into(),
            state,
            ..overview()
        }))
    };
    press(&mut model, &["0"]);
    let columns = ["runs", "profile", "status", "step", "seed", "began", "benchmarks"];
    let earlier: [&[&str]; 1] = [&["0199-7b", "tabletop", "done", "60", "2", "", ""]];
    update(&mut model, rows(&columns, &earlier));
    press(&mut model, &["enter"]);
    assert!(model.is_past);
    assert_eq!(press(&mut model, &["p"]), vec![Effect::Ask(Command::Pause)]);
    update(&mut model, with("01a2", RunState::Paused));
    assert_eq!(press(&mut model, &["p"]), vec![Effect::Ask(Command::Resume)]);
    press(&mut model, &["S"]);
    assert!(shown(&model).contains("end the daemon's run of tabletop? type yes"));
    // Another run begins before the answer.
    update(&mut model, with("01a3", RunState::Running));
    assert_eq!(press(&mut model, &["y", "e", "s", "enter"]), vec![]);
    assert!(shown(&model).contains("another run has begun meanwhile"));
    let stopped = press(&mut model, &["S", "y", "e", "s", "enter"]);
    assert_eq!(stopped, vec![Effect::Ask(Command::Stop)]);
}

/// The user may name a column like those by which the dashboard knows the results of its own queries.
#[test]
fn the_answer_is_known_by_its_query_and_not_by_its_columns() {
    let mut model = state();
    let answer = |sql: &str, column: &str, cell: &str| Msg::Rows {
        sql: sql.into(),
        columns: vec![column.into()],
        rows: vec![vec![cell.into()]],
    };
    for column in ["runs", "items", "lineage", "began", "funnel"] {
        press(&mut model, &["/", "a", "enter"]);
        update(&mut model, answer("a", column, &format!("{column} of the user")));
        let drawn = shown(&model);
        assert!(drawn.contains(&format!("{column} of the user")), "{drawn}");
        // The answer to a query of the dashboard itself does not take its place.
        update(&mut model, answer("its own", column, "of the dashboard"));
        assert_eq!(shown(&model), drawn);
    }
    let rows = vec![vec!["one".into()]; 200];
    let (sql, columns) = ("a".into(), vec!["word".into()]);
    update(&mut model, Msg::Rows { sql, columns, rows });
    assert!(shown(&model).contains("query: the first 200 rows"));
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
