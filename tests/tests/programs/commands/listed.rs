//! Lists of prompts and pictures: JSON lines in, JSON lines out, several samples each, each equal to the result of a
//! single call.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Output;

use demask_tests::{Place, said};
use serde_json::Value;

fn lines(out: &Output) -> Vec<Value> {
    assert!(out.status.success(), "{}", said(out));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Lists of prompts and pictures give, for every sample, the result of a single call with the same seed.
/// Broken lists and conflicting flags are refused.
#[test]
fn pictures_of_a_list_are_drawn_and_read_as_each_would_alone() {
    let place = Place::default();
    let at = |name: &str| place.path().join(name).display().to_string();
    std::fs::write(
        at("prompts.jsonl"),
        "{\"prompt\": \"a red circle\"}\n\na blue square\n",
    )
    .unwrap();
    let folder = at("drawn/here");
    let drawn = lines(&place.run(&[
        "imagine",
        "--file",
        &at("prompts.jsonl"),
        "--samples",
        "2",
        "--seed",
        "5",
        "--output",
        &folder,
        "--json",
    ]));
    let told: Vec<(&str, u64)> = drawn
        .iter()
        .map(|line| (line["prompt"].as_str().unwrap(), line["seed"].as_u64().unwrap()))
        .collect();
    assert_eq!(
        told,
        [
            ("a red circle", 5),
            ("a red circle", 6),
            ("a blue square", 5),
            ("a blue square", 6)
        ]
    );
    let file = |at: usize| drawn[at]["file"].as_str().unwrap();
    assert!(file(3).ends_with("00002-1.png"));
    let alone = at("alone.png");
    assert!(
        place
            .run(&["imagine", "a blue square", "--seed", "6", "--output", &alone])
            .status
            .success()
    );
    assert_eq!(std::fs::read(file(3)).unwrap(), std::fs::read(&alone).unwrap());
    // Paths are relative to the list's folder; a line may also be a question.
    let asked = format!(
        "{{\"image\": \"{}\", \"prompt\": \"is there a circle?\"}}\ndrawn/here/00002-0.png\n",
        file(0)
    );
    std::fs::write(at("pictures.jsonl"), asked).unwrap();
    let read = lines(&place.run(&[
        "describe",
        "--file",
        &at("pictures.jsonl"),
        "--samples",
        "2",
        "--json",
    ]));
    assert_eq!(read.len(), 4);
    assert_eq!(
        (&read[0]["question"], &read[0]["seed"]),
        (&"is there a circle?".into(), &0.into())
    );
    let single = place.run(&["describe", file(0), "is there a circle?", "--json"]);
    let single: Value = serde_json::from_slice(&single.stdout).unwrap();
    assert_eq!(
        (&single["answer"], &single["file"]),
        (&read[0]["answer"], &read[0]["file"])
    );
    assert!(
        read[2]["answer"].as_str().unwrap().contains("square"),
        "{}",
        read[2]
    );
    for (arguments, code, words) in [
        (vec!["imagine", "--output", "x.png"], 2, "<PROMPT>"),
        (vec!["describe"], 2, "<FILE.png>"),
        (
            vec!["imagine", "a circle", "--samples", "2", "--output", "x.png"],
            2,
            "cannot be used with",
        ),
        (vec!["describe", "--file", "nowhere.jsonl"], 1, "nowhere.jsonl"),
    ] {
        let out = place.run(&arguments);
        assert_eq!(out.status.code(), Some(code), "{arguments:?}: {}", said(&out));
        assert!(said(&out).contains(words), "{arguments:?}: {}", said(&out));
    }
    std::fs::write(
        at("broken.jsonl"),
        "{\"image\": \"a.png\"}\n{\"picture\": \"b.png\"}\n",
    )
    .unwrap();
    let broken = place.run(&["describe", "--file", &at("broken.jsonl")]);
    assert!(
        said(&broken).contains("broken.jsonl:2") && said(&broken).contains("\"image\""),
        "{}",
        said(&broken)
    );
}

#[test]
fn a_daemon_logs_json_where_it_is_asked_to() {
    let place = Place::default();
    let started = place.run(&["daemon", "start", "--log-format", "json"]);
    assert!(started.status.success(), "{}", said(&started));
    assert!(place.run(&["daemon", "stop"]).status.success());
    let log = std::fs::read_to_string(place.home().log()).unwrap();
    assert!(!log.trim().is_empty());
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"] == "INFO", "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
}

#[test]
fn a_flag_of_the_logs_format_goes_before_the_environment() {
    let place = Place::default();
    let started = place
        .demask(&["daemon", "start", "--log-format", "text"])
        .env("DEMASK_LOG_FORMAT", "json")
        .output()
        .unwrap();
    assert!(started.status.success(), "{}", said(&started));
    assert!(place.run(&["daemon", "stop"]).status.success());
    let log = std::fs::read_to_string(place.home().log()).unwrap();
    assert!(!log.trim().is_empty() && !log.contains("{\"timestamp\""), "{log}");
}
