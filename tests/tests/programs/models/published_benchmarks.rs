//! The published benchmarks through the command, on their embedded rows and the shipped model: every protocol is run,
//! judged by the named judges, split and merged, and computed once.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write as _;
use std::process::Output;

use demask_tests::Place;
use demask_tests::http::chat_server;
use serde_json::{Value, json};

fn lines(out: &Output) -> Vec<Value> {
    assert!(out.status.success(), "{}", said(out));
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn said(out: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    )
}

fn query(place: &Place, sql: &str) -> Vec<Value> {
    lines(&place.run(&["query", sql, "--format", "jsonl", "--limit", "0"]))
}

fn eval(place: &Place, more: &[&str]) -> Output {
    let all: Vec<&str> = ["eval", "--embedded", "--json"]
        .iter()
        .chain(more)
        .copied()
        .collect();
    place.run(&all)
}

/// Every published suite runs on its embedded rows with the shipped model, asks every item, and stores no
/// row of GPQA, whose terms forbid it.
#[test]
fn every_way_is_walked_on_the_embedded_rows() {
    let place = Place::default();
    let results = lines(&eval(&place, &["all", "mmlu"]));
    let names: Vec<&str> = results.iter().map(|one| one["suite"].as_str().unwrap()).collect();
    for suite in [
        "mmlu:llada-base",
        "arc-challenge:lm-eval",
        "truthfulqa:llada-base",
        "gsm8k:mmada",
        "math:llada-base",
        "gpqa:llada-base",
    ] {
        assert!(names.contains(&suite), "{suite}: {names:?}");
    }
    for suite in [
        "pope:official",
        "mme:mmada",
        "flickr30k:official",
        "vqav2:official",
        "gqa:official",
        "mmmu:official",
        "mmbench:mmada",
        "seed:ranking",
    ] {
        assert!(names.contains(&suite), "{suite}: {names:?}");
    }
    for result in &results {
        assert!(result["n"].as_u64().unwrap() > 0, "{result}");
        assert!(!result["protocol"].as_str().unwrap().is_empty(), "{result}");
        assert!(result["value"].as_f64().unwrap().is_finite(), "{result}");
    }
    let asked = query(
        &place,
        "SELECT count(*) AS n FROM v_item WHERE output LIKE 'not asked%'",
    );
    assert_eq!(
        asked,
        [json!({"n": 0})],
        "{:?}",
        query(
            &place,
            "SELECT suite, output FROM v_item WHERE output LIKE 'not asked%'"
        )
    );
    let shown = query(
        &place,
        "SELECT count(*) AS n FROM v_item WHERE suite LIKE 'gpqa%' AND prompt LIKE '%unit%'",
    );
    assert_eq!(shown, [json!({"n": 0})]);
    // A log-likelihood is stored with its error, and an item about a picture with the picture.
    let likely = query(
        &place,
        "SELECT count(*) AS n FROM v_item WHERE suite = 'arc-challenge:llada-base' AND output LIKE '%±%'",
    );
    assert_eq!(likely, [json!({"n": 3})]);
    let pictures = query(
        &place,
        "SELECT count(picture) AS n FROM v_item WHERE suite = 'pope:official'",
    );
    assert_eq!(pictures, [json!({"n": 12})]);
}

#[test]
fn l8_parts_of_an_evaluation_are_put_together_to_the_same_result() {
    let (whole, parted) = (Place::default(), Place::default());
    let suites = ["mme", "mmlu", "gsm8k:lm-eval"];
    let expected = lines(&eval(&whole, &suites));
    for part in ["1/3", "2/3", "3/3"] {
        let more: Vec<&str> = suites.iter().copied().chain(["--shards", part]).collect();
        lines(&eval(&parted, &more));
    }
    let parts = query(&parted, "SELECT run FROM v_evaluation ORDER BY started_us");
    let ids: Vec<&str> = parts.iter().map(|row| row["run"].as_str().unwrap()).collect();
    let missing = parted.run(&["eval", "merge", ids[0], ids[1]]);
    assert!(said(&missing).contains("are in no part"), "{}", said(&missing));
    // The embedded rows are not user files: the merged evaluation finds them unchanged.
    let merged = lines(&parted.run(&["eval", "merge", ids[0], ids[1], ids[2], "--json"]));
    assert_eq!(merged, expected);
    let twice = parted.run(&["eval", "merge", ids[0], ids[0], ids[1], ids[2]]);
    assert!(said(&twice).contains("is in two parts"), "{}", said(&twice));
}

/// A figure by another estimator is not one of the published protocol, also if its parts are put together.
#[test]
fn parts_by_another_estimator_give_a_result_that_names_it() {
    let place = Place::default();
    for part in ["1/2", "2/2"] {
        let more = ["mmlu", "--likelihood", "chain", "--shards", part];
        assert_eq!(lines(&eval(&place, &more))[0]["protocol"], "llada-base, chain");
    }
    let parts = query(&place, "SELECT run FROM v_evaluation ORDER BY started_us");
    let ids: Vec<&str> = parts.iter().map(|row| row["run"].as_str().unwrap()).collect();
    let merged = lines(&place.run(&["eval", "merge", ids[0], ids[1], "--json"]));
    assert_eq!(merged[0]["protocol"], "llada-base, chain");
}

#[test]
fn l1_what_was_computed_once_is_not_computed_again() {
    let place = Place::default();
    lines(&eval(&place, &["mmlu", "--limit", "2"]));
    let again = eval(&place, &["mmlu", "gpqa:lm-eval"]);
    assert!(said(&again).contains("2 items were reused"), "{}", said(&again));
    let rows = query(
        &place,
        "SELECT count(*) AS n FROM v_item WHERE suite = 'mmlu:llada-base'",
    );
    assert_eq!(rows, [json!({"n": 6})]);
    let fresh = eval(&place, &["mmlu", "--fresh"]);
    assert!(!said(&fresh).contains("reused"), "{}", said(&fresh));
    assert_eq!(lines(&fresh)[0], lines(&again)[0]);
    // Another seed makes another evaluation.
    let other = eval(&place, &["mmlu", "--seed", "7"]);
    assert!(!said(&other).contains("reused"), "{}", said(&other));
}

/// A detector that finds each requested object once, in red.
const DETECTOR: &str = r#"
import json, os, sys
for line in sys.stdin:
    asked = json.loads(line)
    assert os.path.getsize(asked["path"]) > 0
    found = {name: [[0, 0, 9, 9, 0.95]] for name in asked["classes"]}
    print(json.dumps({"detections": found, "colors": {name: ["red"] for name in found}}), flush=True)
"#;

/// GenEval's drawings are judged by a detector command or by recorded detections. It is refused without
/// either, and a broken recording is reported with its line.
#[test]
fn a_detector_and_what_it_said_before_judge_drawings() {
    let place = Place::default();
    let refused = eval(&place, &["geneval", "--limit", "1"]);
    assert!(
        !refused.status.success() && said(&refused).contains("--detector"),
        "{}",
        said(&refused)
    );
    let script = place.path().join("detector.py");
    fs::write(&script, DETECTOR).unwrap();
    let command = format!("python3 {}", script.display());
    let result = lines(&eval(&place, &["geneval", "--detector", &command])).remove(0);
    // A bowl and a red cup are found; two apples are not.
    assert_eq!(result["parts"]["single_object"], json!(1.0));
    assert_eq!(result["parts"]["colors"], json!(1.0));
    assert_eq!(result["parts"]["counting"], json!(0.0));
    let file = place.path().join("detections.jsonl");
    let row = |prompt: usize, sample: usize, class: &str| {
        let image = format!("{prompt:05}/samples/{sample:04}.png");
        format!(
            "{}\n",
            json!({"image": image, "detections": {class: [[0, 0, 9, 9, 0.95]]}, "colors": {class: ["blue"]}})
        )
    };
    let all = (0..4).flat_map(|sample| {
        [
            row(0, sample, "bowl"),
            row(1, sample, "cup"),
            row(2, sample, "apple"),
        ]
    });
    fs::write(&file, all.collect::<String>()).unwrap();
    let result = lines(&eval(
        &place,
        &["geneval", "--detections", file.to_str().unwrap()],
    ))
    .remove(0);
    assert_eq!(result["parts"]["colors"], json!(0.0));
    fs::write(&file, "{\"image\": \"x\"}\n").unwrap();
    let wrong = eval(&place, &["geneval", "--detections", file.to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said(&wrong).contains("detections.jsonl:1"), "{}", said(&wrong));
}

/// Serves a judge that gives no score for the first drawing it sees, and scores all others. The length of the file
/// is the number of its requests.
fn judge(asked: std::path::PathBuf) -> String {
    chat_server(move |body| {
        let content = &body["messages"][0]["content"];
        let picture = content[1]["image_url"]["url"].as_str().unwrap();
        assert!(picture.starts_with("data:image/png;base64,"));
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&asked)
            .unwrap();
        file.write_all(b".").unwrap();
        let is_first = content[0]["text"].as_str().unwrap().contains("cars to stop");
        match is_first {
            true => "What a fine drawing.",
            false => "Consistency: 2\nRealism: 1\nAesthetic Quality: 0",
        }
        .to_owned()
    })
}

/// A judge model gets each drawing. A reply that cannot be read is repeated, then recorded as unjudged, and
/// the figure says how many were judged.
#[test]
fn a_judge_model_is_asked_with_the_drawing_and_one_that_rambles_is_told() {
    let place = Place::default();
    let refused = eval(&place, &["wise"]);
    assert!(
        !refused.status.success() && said(&refused).contains("--judge URL"),
        "{}",
        said(&refused)
    );
    let asked = place.path().join("asked");
    let address = judge(asked.clone());
    let result = lines(&eval(
        &place,
        &["wise:legacy", "--judge", &address, "--judge-model", "gpt"],
    ))
    .remove(0);
    // One of the two was judged: (0.7 · 2 + 0.2 · 1 + 0.1 · 0) / 2.
    assert_eq!(result["n"], json!(1));
    assert!((result["value"].as_f64().unwrap() - 0.8).abs() < 1e-9, "{result}");
    assert!(
        result["figure"]
            .as_str()
            .unwrap()
            .starts_with("no overall score: 1 of 1000"),
        "{result}"
    );
    assert_eq!(fs::read(&asked).unwrap().len(), 4);
    let kept = query(&place, "SELECT output FROM v_item ORDER BY number");
    assert!(
        kept[0]["output"]
            .as_str()
            .unwrap()
            .contains("reply cannot be parsed: What a fine drawing."),
        "{kept:?}"
    );
    assert!(
        kept[1]["output"].as_str().unwrap().contains("Consistency: 2"),
        "{kept:?}"
    );
}

/// Serves a text-only judge that names an option for every question except the second.
fn judge_of_options() -> String {
    chat_server(|body| {
        let said = body.to_string();
        assert!(
            said.contains("find which option is most similar to the answer"),
            "{said}"
        );
        let is_second = said.contains("Which shape");
        if is_second { "who knows" } else { "A" }.to_owned()
    })
}

/// MMBench uses a judge model only if one is named, and the protocol then says so. A reply that cannot be
/// read is recorded, and every item still has an answer.
#[test]
fn mmbench_has_a_judge_only_where_one_is_named() {
    let place = Place::default();
    let alone = lines(&eval(&place, &["mmbench:vlmevalkit"])).remove(0);
    assert_eq!(alone["protocol"], json!("vlmevalkit"));
    let address = judge_of_options();
    let named = ["mmbench:vlmevalkit", "--judge", &address, "--judge-model", "gpt"];
    let judged = lines(&eval(&place, &named)).remove(0);
    assert_eq!(judged["protocol"], json!("vlmevalkit, judged by gpt"));
    let kept = query(
        &place,
        "SELECT answer, output, prompt FROM v_item WHERE run = (SELECT run FROM v_evaluation ORDER BY started_us DESC LIMIT 1)",
    );
    assert_eq!(kept.len(), 6);
    for item in &kept {
        // Whoever determined it, an answer is an option or none of them.
        let answer = item["answer"].as_str().unwrap();
        assert!(["A", "B", "C", "D", "Z"].contains(&answer), "{item}");
    }
    let unread = |item: &Value| {
        item["output"]
            .as_str()
            .unwrap()
            .contains("reply cannot be parsed: who knows")
    };
    assert!(kept.iter().any(unread), "{kept:?}");
}

#[test]
fn a_likelihood_that_is_worked_out_in_another_way_is_named_beside_the_protocol() {
    let place = Place::default();
    let protocol = |more: &[&str]| lines(&eval(&place, more)).remove(0)["protocol"].clone();
    assert_eq!(protocol(&["arc-challenge"]), json!("llada-base"));
    assert_eq!(
        protocol(&["arc-challenge", "--likelihood", "reduced"]),
        json!("llada-base, reduced")
    );
    assert_eq!(
        protocol(&["arc-challenge", "--likelihood", "chain"]),
        json!("llada-base, chain")
    );
    assert_eq!(protocol(&["pope", "--likelihood", "chain"]), json!("official"));
}

/// The list of suites has their protocols and published values. Benchmarks that cannot be pulled, or do not
/// exist, are refused with the alternatives.
#[test]
fn what_there_is_and_how_to_get_the_rest_is_listed() {
    let place = Place::default();
    let out = place.run(&["eval", "--list", "--json"]);
    let all: Vec<Value> = serde_json::from_slice(&out.stdout).unwrap();
    let gpqa = all.iter().find(|one| one["suite"] == "gpqa:llada-base").unwrap();
    assert_eq!(
        (&gpqa["gated"], &gpqa["protocol"]),
        (&json!(true), &json!("llada-base"))
    );
    assert!(gpqa["published"][0]["value"].is_number());
    let out = place.run(&["pull", "--benchmark", "geneval"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("djghosh13/geneval"), "{}", said(&out));
    let out = place.run(&["pull", "--benchmark", "nonsense"]);
    assert!(
        said(&out).contains("there are mmlu, arc-challenge"),
        "{}",
        said(&out)
    );
    let out = place.run(&["eval", "--embedded", "tabletop-sums"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(said(&out).contains("has no embedded rows"), "{}", said(&out));
    let out = place.run(&["eval", "mmlu", "--shards", "4/3"]);
    assert_eq!(out.status.code(), Some(2));
}
