//! User-defined benchmarks without Rust, through the built programs: a file, a template, a scorer; in an evaluation, in
//! a run, and as the held-out share of a source.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use demask_tests::Place;
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use serde_json::{Value, json};

/// Returns the folder of the shipped example.
fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../actors/examples/benchmarks/pens.toml")
}

fn results(place: &Place, arguments: &[&str]) -> Vec<Value> {
    let out = place.run(&[&["eval", "--json"], arguments].concat());
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8_lossy(&out.stdout);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A file of benchmarks is listed, evaluated and stored item by item, with prompts from its template and
/// verdicts from its scorer. Two evaluations are compared on the items that both have.
#[test]
fn a_file_of_benchmarks_is_listed_evaluated_kept_and_compared() {
    let place = Place::default();
    let file = shipped();
    let file = file.to_str().unwrap();
    let listed = place.run(&["eval", "--list", "--json", file]);
    let all: Vec<Value> = serde_json::from_slice(&listed.stdout).unwrap();
    let pens = all.iter().find(|one| one["suite"] == "pens").unwrap();
    assert_eq!(
        (pens["items"].as_u64(), pens["available"].as_bool()),
        (Some(4), Some(true))
    );
    assert!(all.iter().any(|one| one["suite"] == "tabletop-sums"));

    let found = results(&place, &[file]);
    let names: Vec<&str> = found.iter().map(|one| one["suite"].as_str().unwrap()).collect();
    assert_eq!(names, ["pens", "pens-choice", "pens-words"]);
    assert!(found.iter().all(|one| one["n"] == 4), "{found:?}");
    assert_eq!(found[0]["metric"], "accuracy");
    assert_eq!(found[2]["metric"], "mean_credit");
    assert_eq!(found[2]["parts"].as_object().unwrap().len(), 3, "Ana, Ben, Cem");

    let items = rows_as_json(
        &place,
        "SELECT suite, number, prompt, output, answer, reference, credit FROM v_item ORDER BY suite, number",
    );
    let items = items.as_array().unwrap();
    assert_eq!(items.len(), 12);
    assert_eq!(items[0]["prompt"], "Ana has 5 pens, buys 2. How many pens?");
    assert_eq!(items[0]["reference"], "7");
    assert!(
        items[4]["prompt"].as_str().unwrap().ends_with("A. 6\nB. 7\nC. 9"),
        "{}",
        items[4]
    );
    for item in items.iter().filter(|item| item["suite"] == "pens") {
        let right = item["answer"].as_str().unwrap().parse::<f64>().ok()
            == item["reference"].as_str().unwrap().parse().ok();
        assert_eq!(item["credit"].as_f64().unwrap() == 1.0, right, "{item}");
    }
    let one = results(&place, &[&format!("{file}:pens"), "--limit", "2"]);
    assert_eq!((one.len(), one[0]["n"].as_u64()), (1, Some(2)));
    let runs = rows_as_json(
        &place,
        "SELECT run, settings FROM v_evaluation ORDER BY started_us",
    );
    assert!(
        runs[0]["settings"].as_str().unwrap().contains("{{ has + more }}"),
        "{runs}"
    );
    let (first, second) = (runs[0]["run"].as_str().unwrap(), runs[1]["run"].as_str().unwrap());
    let compared = place.run(&["eval", "compare", first, second, "--json"]);
    let compared: Value = serde_json::from_slice(&compared.stdout).unwrap();
    assert_eq!(
        (&compared[0]["suite"], &compared[0]["paired"]["n"]),
        (&json!("pens"), &json!(2))
    );
}

/// Errors in a benchmark's definition exit with 2 and name the line; errors in its rows exit with 1 and name
/// file, row and column.
#[test]
fn what_is_wrong_is_told_with_its_line_its_file_and_its_column() {
    let place = Place::default();
    let (toml, rows) = (place.path().join("my.toml"), place.path().join("rows.jsonl"));
    fs::write(
        &rows,
        "{\"question\": \"one?\", \"answer\": \"1\"}\n{\"question\": \"two?\"}\n",
    )
    .unwrap();
    let eval = |text: &str| {
        fs::write(&toml, text).unwrap();
        let out = place.run(&["eval", toml.to_str().unwrap(), "--no-store"]);
        (
            out.status.code(),
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let own = |more: &str| format!("[[benchmark]]\nname = \"my\"\nfile = \"rows.jsonl\"\n{more}\n");
    // Errors in the benchmark's definition, with its line.
    for (more, expected) in [
        (
            "scorer = \"exakt\"",
            "my.toml, line 4: scorer is exakt; there are exact, number, choice, regex, f1",
        ),
        (
            "prompt = \"{{ question\"",
            "my.toml, line 4: prompt of benchmark my is not a template",
        ),
        ("scorer = \"regex\"", "my.toml, line 1: pattern is missing"),
        ("kind = \"drawing\"", "use a reward to judge drawings"),
        ("lenght = 3", "my.toml, line 4"),
        (
            "columns = { prompt = \"question\" }",
            "columns names prompt; there are image, reference, choices, category",
        ),
    ] {
        let (code, said) = eval(&own(more));
        assert_eq!(code, Some(2), "{more}: {said}");
        assert!(said.contains(expected), "{more}: {said}");
    }
    let (code, said) = eval(&own("").replace("rows.jsonl", "nowhere.jsonl"));
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("line 3: benchmark my: there is no nowhere.jsonl"),
        "{said}"
    );
    // Errors in the rows, with file, line and column.
    for (more, expected) in [
        (
            "",
            "rows.jsonl:2: reference: the scorer exact needs a right answer",
        ),
        (
            "prompt = \"{{ questoin }}\"",
            "rows.jsonl:1: prompt: undefined value",
        ),
        ("prompt = \"{{ questoin }}\"", "the row has the columns"),
        (
            "scorer = \"choice\"",
            "rows.jsonl:1: choices: the scorer choice needs a list",
        ),
        (
            "kind = \"question\"",
            "rows.jsonl:1: image: a question needs a picture",
        ),
    ] {
        let (code, said) = eval(&own(more));
        assert_eq!(code, Some(1), "{more}: {said}");
        assert!(said.contains(expected), "{more}: {said}");
    }
}

/// A row whose reference its scorer cannot use is reported before the model is asked. References in the
/// formats of MMLU, ARC, GSM8K and VQAv2 are understood.
#[test]
fn a_right_answer_that_cannot_be_held_against_any_is_told_before_anything_is_asked() {
    let place = Place::default();
    let (toml, rows) = (place.path().join("my.toml"), place.path().join("rows.jsonl"));
    let eval = |row: &Value, more: &str| {
        fs::write(&rows, format!("{row}\n")).unwrap();
        let text = format!("[[benchmark]]\nname = \"my\"\nfile = \"rows.jsonl\"\n{more}\n");
        fs::write(&toml, text).unwrap();
        place.run(&["eval", toml.to_str().unwrap(), "--json"])
    };
    let mmlu = json!({"question": "2 + 6?", "choices": ["4", "2", "8", "0"], "answer": 2});
    let arc =
        json!({"question": "2 + 6?", "choices": {"text": ["4", "8"], "label": ["1", "2"]}, "answerKey": "2"});
    let misnamed = json!({"question": "2 + 6?", "solution": "8"});
    for (row, more, expected) in [
        (
            json!({"question": "2 + 6?", "choices": ["4", "8"], "answer": "six"}),
            "scorer = \"choice\"",
            "rows.jsonl:1: reference: six matches none of A 4, B 8",
        ),
        (
            misnamed.clone(),
            "scorer = \"gsm8k\"",
            "rows.jsonl:1: reference: the scorer gsm8k needs a right answer",
        ),
        (
            misnamed,
            "scorer = \"vqav2.pair\"",
            "rows.jsonl:1: reference: the scorer vqav2.pair needs a right answer",
        ),
    ] {
        let out = eval(&row, more);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{more}: {said}");
        assert!(said.contains(expected), "{more}: {said}");
    }
    // ARC's labels and MMLU's numbers are converted to letters.
    let arc_columns = "scorer = \"choice\"\ncolumns = { reference = \"answerKey\" }";
    for (row, more, metric) in [
        (&mmlu, "scorer = \"choice\"", "accuracy"),
        (&arc, arc_columns, "accuracy"),
        (
            &json!({"question": "2 + 6?", "answer": "#### 8"}),
            "scorer = \"gsm8k\"",
            "accuracy",
        ),
        (
            &json!({"question": "2 + 6?", "answers": ["8", "eight"]}),
            "scorer = \"vqav2.pair\"",
            "mean_credit",
        ),
    ] {
        let out = eval(row, more);
        assert!(
            out.status.success(),
            "{more}: {}",
            String::from_utf8_lossy(&out.stderr)
        );
        let found: Value = serde_json::from_slice(&out.stdout).unwrap();
        assert_eq!(found["metric"], metric, "{more}");
    }
    let kept = rows_as_json(
        &place,
        "SELECT i.reference FROM v_item i JOIN v_evaluation e ON e.run = i.run ORDER BY e.started_us",
    );
    let letters: Vec<&Value> = kept
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["reference"])
        .collect();
    assert_eq!(letters[..2], [&json!("C"), &json!("B")], "{kept}");
}

/// A benchmark may ask about pictures or for drawings. A drawing is scored by an external reward, whose
/// range is scaled to 0..=1.
#[test]
fn questions_about_pictures_and_drawings_are_asked_too() {
    let place = Place::default();
    let picture = image::RgbImage::from_pixel(32, 32, image::Rgb([200, 30, 30]));
    picture.save(place.path().join("red.png")).unwrap();
    let row =
        json!({"pic": "red.png", "ask": "is there a circle?", "says": "no", "said": ["a circle", "no"]});
    fs::write(place.path().join("rows.jsonl"), format!("{row}\n")).unwrap();
    let score = "import json, sys\nfor line in sys.stdin:\n    items = json.loads(line)[\"items\"]\n    \
                 print(json.dumps({\"values\": [len(item[\"picture\"]) > 0 and 7.5 for item in items]}), flush=True)\n";
    fs::write(place.path().join("score.py"), score).unwrap();
    let toml = place.path().join("my.toml");
    let text = r#"
[[benchmark]]
name = "seen"
kind = "question"
file = "rows.jsonl"
columns = { image = "pic", reference = "says" }
prompt = "{{ ask }}"
scorer = "gqa.pair"
[[benchmark]]
name = "drawn"
kind = "drawing"
file = "rows.jsonl"
prompt = "a {{ said[0].split(' ')[1] }}"
scorer = "scored"
[[benchmark]]
name = "shape"
kind = "question"
file = "rows.jsonl"
columns = { image = "pic" }
prompt = "{{ ask }}"
reference = "any"
scorer = "regex"
pattern = "(?s).*"
[[reward]]
name = "scored"
command = ["python3", "score.py"]
range = [5, 10]
"#;
    fs::write(&toml, text).unwrap();
    let found = results(&place, &[toml.to_str().unwrap()]);
    assert_eq!(found[1]["value"], json!(0.5), "7.5 of 5 to 10: {found:?}");
    let items = rows_as_json(
        &place,
        "SELECT suite, prompt, picture, drawn FROM v_item ORDER BY suite",
    );
    assert_eq!(items[0]["prompt"], "a circle");
    assert!(
        items[0]["drawn"].is_string() && items[0]["picture"].is_null(),
        "{items}"
    );
    assert!(items[1]["picture"].is_string(), "{items}");
    // Another range is another evaluation: credits of the first one are not taken over.
    fs::write(&toml, text.replace("range = [5, 10]", "range = [0, 10]")).unwrap();
    let wider = results(&place, &[toml.to_str().unwrap()]);
    assert_eq!(wider[1]["value"], json!(0.75), "7.5 of 0 to 10: {wider:?}");
}

/// A bare file of rows is a benchmark, given a scorer. Its items can be written to a file, which is not
/// overwritten.
#[test]
fn a_file_of_rows_is_evaluated_as_it_is_and_its_items_are_a_file() {
    let place = Place::default();
    let rows = place.path().join("sums.jsonl");
    let row =
        |sum: u32| json!({"prompt": format!("What is {sum} + 2?"), "answer": sum + 2, "category": "sum"});
    fs::write(
        &rows,
        (1..4).map(|sum| format!("{}\n", row(sum))).collect::<String>(),
    )
    .unwrap();
    let rows = rows.to_str().unwrap();
    let items = place.path().join("items.jsonl");
    let found = results(
        &place,
        &[rows, "--scorer", "number", "--items", items.to_str().unwrap()],
    );
    assert_eq!((&found[0]["suite"], &found[0]["n"]), (&json!("sums"), &json!(3)));
    let text = fs::read_to_string(&items).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let references: Vec<&Value> = lines.iter().map(|line| &line["reference"]).collect();
    assert_eq!(references, ["3", "4", "5"]);
    assert!(
        lines
            .iter()
            .all(|line| line["output"].is_string() && line["credit"].is_number()),
        "{text}"
    );
    let again = place.run(&["eval", rows, "--items", items.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(2), "what is there is not written over");
    // Another file of the same name would take the place of the first one's items.
    let folder = place.path().join("other");
    fs::create_dir(&folder).unwrap();
    let other = folder.join("sums.jsonl");
    fs::copy(rows, &other).unwrap();
    let twice = place.run(&["eval", rows, other.to_str().unwrap(), "--scorer", "number"]);
    let said = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(
        twice.status.code() == Some(2) && said.contains("two of the suites are named sums"),
        "{said}"
    );
    let unknown = place.run(&["eval", rows, "--scorer", "nubmer"]);
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        unknown.status.code() == Some(2) && said.contains("is nubmer; there are exact"),
        "{said}"
    );
}

/// Writes a source of which some rows are held out.
fn source(place: &Place) -> String {
    let rows: String = (0..40)
        .map(|at| {
            format!(
                "{}\n",
                json!({"question": format!("How many are {at} and 2?"), "answer": (at + 2).to_string()})
            )
        })
        .collect();
    let file = place.path().join("own.jsonl");
    fs::write(&file, rows).unwrap();
    format!(
        "[limits]\nnear_duplicate = 2.0\n[[source]]\nname = \"own\"\nkind = \"jsonl\"\npath = {:?}\ntest_share = 0.3\n",
        file.to_str().unwrap()
    )
}

/// A run evaluates its profile's benchmarks, the held-out share of a source, and the gate's suites. A row
/// that is also in a benchmark is not trained on (L6), and an unknown suite is refused.
#[test]
fn a_run_evaluates_its_own_benchmarks_and_what_is_held_out_of_its_sources() {
    let place = Place::default();
    fs::write(
        place.path().join("rows.jsonl"),
        "{\"question\": \"How many are 91 and 8?\", \"answer\": \"99\"}\n{\"question\": \"How many are 3 and 2?\", \"answer\": \"5\"}\n",
    )
    .unwrap();
    let text = smoke_with_stages(&format!(
        r#"
{}
[[benchmark]]
name = "mine"
file = "rows.jsonl"
[gate]
suites = ["own-test"]
limit = 4
[[stage]]
name = "codes"
kind = "tokenizer"
batch = 4
[[stage]]
name = "learn"
kind = "pretrain"
steps = 3
batch = 4
[[stage]]
name = "after"
kind = "evaluate"
suites = ["mine", "own-test"]
limit = 5
"#,
        source(&place)
    ));
    let file = place.path().join("my.toml");
    fs::write(&file, &text).unwrap();
    let out = place.run(&["profile", "check", file.to_str().unwrap(), "--json"]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let checked: Value = serde_json::from_slice(&out.stdout).unwrap();
    let own = checked["sources"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "own")
        .unwrap();
    assert_eq!(own["benchmarks"], json!(["mine", "own-test"]));
    let out = place.run_profile(&file);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let found = rows_as_json(&place, "SELECT step, suite, n FROM v_eval ORDER BY step, suite");
    assert_eq!(
        found,
        json!([{"step": 3, "suite": "own-test", "n": 4}, {"step": 5, "suite": "mine", "n": 2}, {"step": 5, "suite": "own-test", "n": 5}])
    );
    let items = rows_as_json(
        &place,
        "SELECT prompt, reference FROM v_item WHERE suite = 'own-test' LIMIT 1",
    );
    assert!(
        items[0]["prompt"].as_str().unwrap().starts_with("How many are"),
        "{items}"
    );
    // L6: the row that is also in the benchmark was not trained on.
    let clean = rows_as_json(
        &place,
        "SELECT overlapped FROM v_clean WHERE source = 'own' AND benchmark = 'mine'",
    );
    assert_eq!(clean, json!([{"overlapped": 1}]));
    let wrong = text.replace("suites = [\"mine\", \"own-test\"]", "suites = [\"mein\"]");
    fs::write(&file, wrong).unwrap();
    let out = place.run_profile(&file);
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&out.stderr).contains("names mein"));
    // The benchmark also works outside a run, by the profile's file.
    fs::write(&file, &text).unwrap();
    let found = results(&place, &[&format!("{}:own-test", file.display()), "--limit", "3"]);
    assert_eq!(
        (&found[0]["suite"], &found[0]["n"]),
        (&json!("own-test"), &json!(3))
    );
    assert!(place.run(&["daemon", "stop"]).status.success());
}
