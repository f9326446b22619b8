//! WISE's scorers on what its scripts read and JSON or other line ends would not allow; the recorded verdicts are in
//! `tests/scorers.rs`.

use demask_rewards::scorers::score_line;
use serde_json::json;

/// Lines that are JSON for Python alone, against what CPython 3.11 reads.
#[test]
fn lines_of_scores_are_read_as_python_reads_them() {
    let segment = |lines: &[String]| {
        let line = json!({ "scorer": "wise_segment", "prediction": lines });
        score_line("wise_segment", &line).unwrap().1
    };
    let scored = |id: &str, consistency: &str| {
        format!(
            r#"{{"prompt_id": {id}, "consistency": {consistency}, "realism": 2, "aesthetic_quality": 2}}"#
        )
    };
    let lines = [
        scored("1", "NaN"),
        scored("2", "-Infinity"),
        scored("3", "1e400"),
        scored("4, \"note\": \"\\ud800\"", "2"),
        scored("5, \"note\": \"a\u{2028}b\"", "2"),
        scored("18446744073709551616", "2"),
        format!(
            "{}\n{}\r\n{{\"prompt_id\": 8}}",
            scored("6", "2.0"),
            scored("7", "null")
        ),
        "{\"prompt_id\": -0, \"prompt_id\": -9}".to_owned(),
        "{\"prompt_id\": 10,}".to_owned(),
        "{\"prompt_id\": 011}".to_owned(),
        "{\"prompt_id\": 12, \"note\": \"\\u12g4\"}".to_owned(),
        "{\"prompt_id\": 13} {}".to_owned(),
        "{\"prompt_id\": 14.0}".to_owned(),
        "\u{feff}{\"prompt_id\": 15}".to_owned(),
        " {\"prompt_id\" :true , \"list\": [1, {\"a\": [ ]}, -Infinity] } ".to_owned(),
    ];
    let near = 0.999_999_999_999_999_9;
    assert_eq!(
        segment(&lines),
        json!({
            "scores": { "CULTURE": ["__nan__", "__-inf__", "__inf__", near, near, near] },
            "present_ids": [-9, 1, 2, 3, 4, 5, 6, 7, 8, "18446744073709551616"],
        })
    );
    let nested = |depth: usize| {
        format!(
            "{{\"prompt_id\": 1, \"a\": {}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    let digits = |count: usize| format!("{{\"prompt_id\": {}}}", "9".repeat(count));
    for (line, error) in [
        ("3".to_owned(), "AttributeError"),
        (scored("1", &format!("1{}", "0".repeat(400))), "OverflowError"),
        (digits(4301), "ValueError"),
        (nested(993), "RecursionError"),
    ] {
        assert_eq!(segment(&[scored("1", "2"), line])["error"], error);
    }
    assert_eq!(segment(&[nested(992)])["present_ids"], json!([1]));
    assert_eq!(segment(&[digits(4300)])["present_ids"], json!(["9".repeat(4300)]));
}

/// A judge's bare digits stand on lines that a line feed ends, as in a pattern of Python's with `(?m)`.
#[test]
fn a_line_of_a_judge_ends_with_a_line_feed() {
    let scores = |scorer: &str, reply: &str| {
        let line = json!({ "scorer": scorer, "prediction": reply });
        score_line(scorer, &line).unwrap().1["scores"].clone()
    };
    let three = json!({ "consistency": 1.0, "realism": 2.0, "aesthetic_quality": 0.0 });
    assert_eq!(scores("wise", "\u{2028}1\u{2028}\n2\r\n\n0"), three);
    assert_eq!(scores("wise", "1\u{2028}2\u{2028}0"), json!({}));
    assert_eq!(
        scores(
            "wise",
            "Consistency:\u{1c}1\nRealism:\u{2028}2\nAesthetic Quality 0"
        ),
        three
    );
    assert_eq!(
        scores("wise_verified", "\u{2028}1\u{85}"),
        json!({ "score": 1.0 })
    );
    assert_eq!(scores("wise_verified", "1\u{2028}1"), json!({}));
}
