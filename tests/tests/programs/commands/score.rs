//! `demask score`: recorded predictions graded by the built program.
#![allow(clippy::unwrap_used)]

use std::io::Write as _;
use std::process::{Output, Stdio};

use demask_tests::Place;
use serde_json::Value;

const RIGHT: &str = r#"{"scorer": "gsm8k", "prediction": "3 + 4 = 7\n#### 7", "reference": "So 7.\n#### 7"}"#;
const WRONG: &str = r#"{"scorer": "gsm8k", "prediction": "It is 7.00", "reference": "So 7.\n#### 7"}"#;

fn score(place: &Place, arguments: &[&str]) -> Output {
    let mut typed = vec!["score"];
    typed.extend(arguments);
    place.demask(&typed).output().unwrap()
}

fn file(place: &Place, lines: &[&str]) -> String {
    let path = place.path().join("lines.jsonl");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path.display().to_string()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn note(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_line_comes_back_with_its_verdict_and_the_aggregate_beside() {
    let place = Place::default();
    let output = score(&place, &["gsm8k", &file(&place, &[RIGHT, WRONG]), "--json"]);
    assert!(output.status.success(), "{}", note(&output));
    let lines = lines(&output);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["prediction"], "3 + 4 = 7\n#### 7");
    assert_eq!(lines[0]["verdict"]["gsm8k"]["strict-match"]["exact_match"], 1.0);
    assert_eq!(
        lines[1]["verdict"]["gsm8k"]["flexible-extract"]["exact_match"],
        0.0
    );
    let aggregate: Value = serde_json::from_str(note(&output).trim()).unwrap();
    assert_eq!(
        aggregate["aggregate"]["gsm8k"]["mean"]["gsm8k.strict-match.exact_match"],
        0.5
    );
    assert_eq!(aggregate["lines"], 2);
}

#[test]
fn a_line_with_a_kind_comes_back_as_in_the_recordings() {
    let place = Place::default();
    let line = r#"{"kind": "answer", "answer": "No, it is not."}"#;
    let output = score(&place, &["pope", &file(&place, &[line]), "--json"]);
    let line = &lines(&output)[0];
    assert_eq!(line["official"], "no");
    assert_eq!(line["verdict"]["official"], "no");
    assert_eq!(line["verdict"]["lmms_eval"], "no, it is not.");
}

#[test]
fn standard_input_is_read_and_a_table_printed() {
    let place = Place::default();
    let mut child = place
        .demask(&["score", "math", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = r#"{"scorer": "math.answer", "prediction": "\\sqrt{8}", "reference": "2\\sqrt{2}"}"#;
    writeln!(child.stdin.take().unwrap(), "{line}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let row = text
        .lines()
        .find(|line| line.contains("minerva.is_equiv"))
        .unwrap();
    assert!(row.contains("1.000000"), "{text}");
}

#[test]
fn what_cannot_be_scored_is_named_and_is_no_success() {
    let place = Place::default();
    let path = file(&place, &[RIGHT, "{broken", r#"{"prediction": "7"}"#, WRONG]);
    let output = score(&place, &["gsm8k", &path, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = note(&output);
    assert!(
        said.contains("line 2") && said.contains("line 3") && said.contains("reference"),
        "{said}"
    );
    assert_eq!(
        lines(&output)
            .iter()
            .filter(|line| line.get("verdict").is_some())
            .count(),
        2
    );
    let strict = score(&place, &["gsm8k", &path, "--json", "--strict"]);
    assert_eq!(strict.status.code(), Some(1));
    assert!(note(&strict).contains("line 2"));
    assert_eq!(lines(&strict).len(), 1);
}

#[test]
fn lines_of_other_forms_are_read_or_named() {
    let place = Place::default();
    let path = place.path().join("lines.jsonl");
    let mixed: [&[u8]; 5] = [
        "\u{feff}".as_bytes(),
        RIGHT.as_bytes(),
        b"\r\n\r\n",
        b"{\"prediction\": \"\xff\", \"reference\": \"#### 7\"}\n",
        br#"{"scorer": "math.answer", "prediction": "7", "reference": "7"}"#,
    ];
    std::fs::write(&path, mixed.concat()).unwrap();
    let output = score(&place, &["gsm8k", &path.display().to_string(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = note(&output);
    assert!(said.contains("line 3: not UTF-8"), "{said}");
    assert!(
        said.contains("line 4: the line is for the scorer math.answer"),
        "{said}"
    );
    assert!(lines(&output)[0].get("verdict").is_some());
}

/// A set without rows is no score of 0, and the help says that the official tool has one.
#[test]
fn a_set_without_rows_is_refused_and_the_help_says_so() {
    let place = Place::default();
    let output = score(
        &place,
        &[
            "mme",
            &file(&place, &[r#"{"kind": "set", "rows": []}"#]),
            "--json",
        ],
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(note(&output).contains("line 1: the field rows is not a list with at least one entry"));
    assert!(lines(&output)[0].get("verdict").is_none());
    let help = String::from_utf8(score(&place, &["--help"]).stdout).unwrap();
    assert!(
        help.contains("a set without rows is an error (MME's says 0)"),
        "{help}"
    );
}

#[test]
fn scorers_are_listed_with_the_tool_that_each_equals() {
    let place = Place::default();
    let listed = score(&place, &["--list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let all = listed.as_array().unwrap();
    let of = |name: &str| {
        all.iter()
            .find(|scorer| scorer["scorer"] == name)
            .unwrap()
            .clone()
    };
    assert!(
        of("math.answer")["official"]
            .as_str()
            .unwrap()
            .contains("math-verify 0.8.0")
    );
    assert!(of("geneval")["official"].as_str().unwrap().contains("af4902f"));
    let table = score(&place, &["--list"]);
    assert!(String::from_utf8(table.stdout).unwrap().contains("vqav2.pair"));
}

#[test]
fn a_scorer_or_file_that_is_not_there_is_said() {
    let place = Place::default();
    let unknown = score(&place, &["nothing", &file(&place, &[RIGHT])]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(note(&unknown).contains("nothing"));
    let missing = score(&place, &["gsm8k", "no-such-file.jsonl"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(note(&missing).contains("no-such-file.jsonl"));
    let empty = score(&place, &["gsm8k", &file(&place, &[""])]);
    assert_eq!(empty.status.code(), Some(1));
}
