//! A teacher over HTTP in a whole run: asked by the reasoner, accepted only where the verifier agrees, trained on, and
//! named in the lineage.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::{TcpListener, TcpStream};

use demask_tests::store::rows_as_json;
use demask_tests::{Place, SMOKE, http};
use serde_json::{Value, json};

const PROBLEMS: u32 = 12;

/// Serves a teacher on this machine until the test ends; returns its address. The first request is refused, and a
/// problem that begins with an odd number gets a wrong answer.
fn school() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            answer(&stream.unwrap(), number == 0);
        }
    });
    format!("http://{address}/v1")
}

fn answer(stream: &TcpStream, turned_away: bool) {
    let body = http::request_body(stream);
    let (status, reply) = if turned_away {
        ("503 Service Unavailable\r\nRetry-After: 0", "busy".to_owned())
    } else {
        (
            "200 OK",
            taught(&serde_json::from_slice(&body).unwrap()).to_string(),
        )
    };
    http::answer(stream, status, &reply);
}

fn taught(request: &Value) -> Value {
    let messages = request["messages"].as_array().unwrap();
    let asked = messages.last().unwrap()["content"].as_str().unwrap();
    let first: u32 = asked
        .split_whitespace()
        .find_map(|word| word.parse().ok())
        .unwrap();
    let sum = first + 5 + first % 2;
    json!({
        "choices": [{"message": {"content": format!("<think>{first} + 5 = {sum}.</think>{sum}")}, "finish_reason": "stop"}],
        "usage": {"total_tokens": 60},
    })
}

fn profile(url: &str, problems: &str) -> String {
    let (head, _) = SMOKE.split_once("[[source]]").unwrap();
    format!(
        r#"{head}
[teacher]
url = "{url}"
model = "school"

[[source]]
name = "given"
kind = "jsonl"
path = "{problems}"
licence = "MIT"

[[stage]]
name = "reason"
kind = "reason"
batch = 6
group = 1

[[stage]]
name = "cot"
kind = "finetune"
steps = 2
batch = 16
"#
    )
}

/// Writes word problems with their answers to a file of the place.
fn problems(place: &Place) -> String {
    let line = |first: u32| {
        let sum = first + 5;
        format!(
            "{{\"question\": \"There are {first} pens and 5 more come. How many pens?\", \"answer\": \"{first}+5={sum}.\\n#### {sum}\"}}\n"
        )
    };
    let file = place.path().join("problems.jsonl");
    std::fs::write(&file, (10..10 + PROBLEMS).map(line).collect::<String>()).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Serves a teacher that refuses every request.
fn closed_school() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            // The request does not matter, but it is read so that the answer is not cut off.
            drop(http::request_body(&stream));
            http::answer(&stream, "401 Unauthorized", "no key");
        }
    });
    format!("http://{address}/v1")
}

/// A teacher that refuses every question fails the run with the number of questions and the teacher's
/// message.
#[test]
fn a_teacher_that_answers_nothing_fails_the_run() {
    let place = Place::default();
    let file = place.path().join("untaught.toml");
    std::fs::write(&file, profile(&closed_school(), &problems(&place))).unwrap();
    let out = place.run_profile(&file);
    assert_eq!(
        out.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let run = rows_as_json(&place, "SELECT status, reason FROM v_run");
    assert_eq!(run[0]["status"], "failed");
    let reason = run[0]["reason"].as_str().unwrap();
    for word in [
        "the teacher answered none of 6 questions",
        "401",
        "no key",
        "[teacher]",
    ] {
        assert!(reason.contains(word), "{word}: {reason}");
    }
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// A teacher's traces are verified against the problems' answers, wrong ones are rejected with the reason,
/// and accepted ones are trained on under the teacher's name. A refused first request is repeated.
#[test]
fn what_the_teacher_says_is_verified_trained_on_and_named() {
    let place = Place::default();
    let file = place.path().join("taught.toml");
    std::fs::write(&file, profile(&school(), &problems(&place))).unwrap();
    let out = place.run_profile(&file);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let traces = rows_as_json(
        &place,
        "SELECT DISTINCT trace, generator, prompt, gate, passed, reason FROM v_trace WHERE gate = 'verify'",
    );
    let traces = traces.as_array().unwrap();
    assert_eq!(
        traces.len(),
        6,
        "one a problem, the one that was turned away at first too"
    );
    for trace in traces {
        let words = trace["prompt"].as_str().unwrap().split_whitespace();
        let first: u32 = words.filter_map(|word| word.parse().ok()).next().unwrap();
        assert_eq!(trace["generator"], "teacher:school");
        assert_eq!(trace["passed"], json!(1 - first % 2), "{trace}");
    }
    assert!(
        traces
            .iter()
            .any(|trace| trace["reason"] == "a step of the trace is not true")
    );
    let trained = rows_as_json(
        &place,
        "SELECT count(*) AS n FROM v_lineage WHERE stage = 'cot' AND generator = 'teacher:school' AND verifier = 'trace'",
    );
    assert!(trained[0]["n"].as_u64().unwrap() > 0, "traces are trained on");
    // L5: what was trained on is the trace as proposed, with its verdicts and the problem that it solves.
    let joined = rows_as_json(
        &place,
        "SELECT count(*) AS n FROM v_lineage JOIN v_trace ON trace = subject AND gate = 'accept' AND passed \
         JOIN example ON example.id = v_trace.example WHERE stage = 'cot' AND v_lineage.generator = 'teacher:school'",
    );
    assert_eq!(joined[0]["n"], trained[0]["n"]);
    assert!(place.run(&["daemon", "stop"]).status.success());
}
