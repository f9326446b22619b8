//! An evaluation is stored item by item: shown, compared, and resumed after a `kill -9` with the same result.
#![allow(clippy::unwrap_used, missing_docs)]

use std::process::Stdio;

use demask_tests::Place;
use serde_json::Value;

fn lines(out: &std::process::Output) -> Vec<Value> {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn query(place: &Place, sql: &str) -> Vec<Value> {
    lines(&place.run(&["query", sql, "--format", "jsonl", "--limit", "0"]))
}

/// Returns rows of items without what differs between runs.
fn items(place: &Place, evaluation: &str) -> Vec<Value> {
    let columns = "suite, number, item, prompt, output, answer, reference, credit, tokens, forwards";
    query(
        place,
        &format!("SELECT {columns} FROM v_item WHERE run = '{evaluation}' ORDER BY suite, number"),
    )
}

fn id_of(place: &Place, order: &str) -> String {
    let rows = query(
        place,
        &format!("SELECT run FROM v_evaluation ORDER BY started_us {order} LIMIT 1"),
    );
    rows[0]["run"].as_str().unwrap().to_owned()
}

/// `--limit` counts scored items. Every item is a row, the rows add up to the result, and two evaluations
/// are compared on equal items.
#[test]
fn a_limit_is_what_is_counted_and_every_item_is_a_row_that_can_be_shown_and_compared() {
    let place = Place::default();
    let result = lines(&place.run(&[
        "eval",
        "tabletop-draw",
        "tabletop-sums",
        "--limit",
        "24",
        "--json",
    ]));
    assert_eq!(
        (result[0]["n"].as_u64(), result[1]["n"].as_u64()),
        (Some(24), Some(24))
    );
    let first = id_of(&place, "ASC");
    let rows = query(
        &place,
        &format!(
            "SELECT suite, sum(credit) AS credit, sum(counted) AS n, count(drawn) AS drawn, min(reference) AS reference FROM v_item WHERE run = '{first}' AND counted = 1 GROUP BY suite"
        ),
    );
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (rows[0]["n"].as_u64(), rows[0]["drawn"].as_u64()),
        (Some(24), Some(24))
    );
    assert!(!rows[0]["reference"].as_str().unwrap().is_empty());
    let share = rows[1]["credit"].as_f64().unwrap() / 24.0;
    assert!((share - result[1]["value"].as_f64().unwrap()).abs() < 1e-12);

    // Without reasoning, the same items are asked but answered differently.
    let again = ["eval", "tabletop-sums", "--limit", "24", "--no-think", "--json"];
    let direct = lines(&place.run(&again));
    let second = id_of(&place, "DESC");
    let compared = place.run(&["eval", "compare", &first, &second, "--json"]);
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    let suite = &compared[0];
    assert_eq!(
        (suite["suite"].as_str(), suite["paired"]["n"].as_u64()),
        (Some("tabletop-sums"), Some(24))
    );
    let difference = suite["paired"]["difference"]["value"].as_f64().unwrap();
    let values = direct[0]["value"].as_f64().unwrap() - result[1]["value"].as_f64().unwrap();
    assert!((difference - values).abs() < 1e-12);

    let wrong = lines(&place.run(&["eval", "show", &second, "--wrong", "--limit", "0", "--json"]));
    let expected = 24.0 * (1.0 - direct[0]["value"].as_f64().unwrap()) + uncounted(&wrong);
    assert!((wrong.len() as f64 - expected).abs() < 1e-9);
    let none = place.run(&["eval", "show", "zzz"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&none.stderr)
            .contains("no evaluation with items has an id that begins or ends with 'zzz'")
    );
}

fn uncounted(items: &[Value]) -> f64 {
    items.iter().filter(|item| item["counted"] == false).count() as f64
}

/// A killed evaluation continues after its stored items and ends with the result and the items of an
/// undisturbed one.
#[test]
fn l1_an_evaluation_that_was_killed_goes_on_item_by_item_with_the_same_result() {
    let arguments = ["eval", "tabletop-sums", "--limit", "400", "--json"];
    let calm = Place::default();
    let whole = lines(&calm.run(&arguments));
    let place = Place::default();
    let mut killed = place
        .demask(&arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // It is killed after it has stored some items, unless it has ended by then.
    let kept = || {
        let out = place.run(&["query", "SELECT count(*) AS n FROM v_item", "--format", "jsonl"]);
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        serde_json::from_str::<Value>(&text)
            .ok()
            .and_then(|row| row["n"].as_u64())
    };
    while kept().unwrap_or(0) == 0 && killed.try_wait().unwrap().is_none() {}
    let in_time = killed.try_wait().unwrap().is_none();
    killed.kill().unwrap();
    killed.wait().unwrap();
    let before = kept().unwrap();
    let out = place.run(&arguments);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    if in_time && before < 400 {
        assert!(said.contains(&format!("which has {before} items")), "{said}");
    }
    assert_eq!(lines(&out), whole);
    let (id, calm_id) = (id_of(&place, "ASC"), id_of(&calm, "ASC"));
    assert_eq!(items(&place, &id), items(&calm, &calm_id));
    assert_eq!(
        query(&place, "SELECT DISTINCT state FROM v_evaluation")[0]["state"],
        "done"
    );
}

/// With `--samples`, every sample is a row with noise of its own, and the result has `pass@N`. Greedy
/// decoding, which would repeat one answer, is refused.
#[test]
fn several_samples_of_an_item_are_rows_of_their_own_and_what_has_one_answer_is_refused() {
    let place = Place::default();
    let sampling = r#"{"text": {"temperature": 1.5}}"#;
    let eval = |more: &[&str]| {
        let mut arguments = vec![
            "eval",
            "tabletop-sums",
            "--limit",
            "6",
            "--samples",
            "3",
            "--json",
        ];
        arguments.extend(more);
        place.run(&arguments)
    };
    let out = eval(&["--sampling", sampling]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let result = &lines(&out)[0];
    let pass = result["parts"]["pass@3"].as_f64().unwrap();
    assert!(pass >= result["value"].as_f64().unwrap(), "{result}");
    assert_eq!(result["n"], 6);
    let rows = items(&place, &id_of(&place, "DESC"));
    let numbers: Vec<_> = rows.iter().map(|row| row["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..18).collect::<Vec<u64>>());
    let outputs = |number: usize| rows[number]["output"].as_str().unwrap();
    assert!(
        (0..6).any(|at| outputs(at) != outputs(at + 6)),
        "samples have noise of their own"
    );
    let refused = eval(&["--sampling", r#"{"text": {"temperature": 0.0}}"#]);
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("--samples: tabletop-sums: the text sampler's temperature is 0"),
        "{said}"
    );
}

/// An item is reused only where the same device computed it in the same precision.
#[test]
fn what_another_device_or_precision_computed_is_not_reused() {
    let place = Place::default();
    let evaluate = || {
        let out = place.run(&["eval", "tabletop-sums", "--limit", "2", "--device", "cpu"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{said}");
        said.contains("were reused")
    };
    assert!(!evaluate(), "nothing is stored yet");
    assert!(evaluate(), "the same device");
    let settings = query(&place, "SELECT settings FROM v_evaluation")[0]["settings"].to_string();
    let (now, other) = match settings.contains("bf16") {
        true => ("bf16", "f32"),
        false => ("f32", "bf16"),
    };
    for (now, other) in [
        (format!("\"dtype\":\"{now}\""), format!("\"dtype\":\"{other}\"")),
        (
            "\"name\":\"cpu\"".to_owned(),
            "\"name\":\"NVIDIA H100\"".to_owned(),
        ),
    ] {
        let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); \
                       c.execute('UPDATE evaluation SET settings = replace(settings, ?, ?)', sys.argv[2:]); c.commit()";
        let changed = std::process::Command::new("python3")
            .args(["-c", program])
            .arg(place.home().database())
            .args([&now, &other])
            .status();
        assert!(changed.unwrap().success());
        assert!(!evaluate(), "{other}");
        assert!(evaluate(), "{now}");
    }
}

/// A part whose data file had another item is not merged, although number and file are the same.
#[test]
fn parts_of_different_data_are_not_merged() {
    let place = Place::default();
    let file = place.path().join("sums.jsonl");
    let named = file.to_str().unwrap();
    let written = |second: &str| {
        let row = |question: &str| serde_json::json!({ "question": question, "answer": "7" }).to_string();
        std::fs::write(
            &file,
            format!(
                "{}\n{}\n",
                row("Ann has 3 pens and finds 4. How many pens?"),
                row(second)
            ),
        )
        .unwrap();
    };
    let part = |part: &str| {
        lines(&place.run(&["eval", named, "--shards", part, "--json"]));
        id_of(&place, "DESC")
    };
    let merged = |ids: [&str; 2]| place.run(&["eval", "merge", ids[0], ids[1], "--suites", named, "--json"]);
    written("Ben has 5 cups and finds 2. How many cups?");
    let (first, second) = (part("1/2"), part("2/2"));
    assert_eq!(lines(&merged([first.as_str(), second.as_str()]))[0]["n"], 2);
    written("Ben has 9 cups and loses 2. How many cups?");
    let other = part("2/2");
    written("Ben has 5 cups and finds 2. How many cups?");
    let out = merged([first.as_str(), other.as_str()]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("item 1 of") && said.contains(&other), "{said}");
}
