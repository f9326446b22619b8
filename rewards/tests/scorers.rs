//! The official scorers against recorded verdicts of the published code: a dozen lines of each file always,
//! and all lines where the recordings are available in `../shared/golden/scorers`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use demask_rewards::scorers::score_line;
use serde_json::{Map, Value, json};

/// The input fields of each kind of line. The other fields are the verdict.
const INPUTS: [(&str, &[&str]); 24] = [
    ("pope.answer", &["answer"]),
    ("pope.set", &["rows"]),
    ("pope.merged_set", &["rows"]),
    ("mme.answer", &["answer"]),
    ("mme.set", &["rows"]),
    ("vqav2.pair", &["answers", "prediction"]),
    ("vqav2.set", &["rows"]),
    ("gqa.pair", &["answer", "prediction"]),
    ("gqa.set", &["questions", "predictions", "choices", "consistency"]),
    ("mmmu.choice", &["options", "response"]),
    ("mmmu.open", &["answer", "response"]),
    ("mmmu.numbers", &["text"]),
    ("mmmu.normalise", &["text"]),
    ("mmmu.aggregate", &["answers", "predictions", "model"]),
    ("mmbench.can_infer", &["choices", "prediction"]),
    ("mmbench.circular", &["rows", "g_index_column"]),
    ("mmbench.circularise", &["rows"]),
    ("seed.answer", &["choices", "response"]),
    (
        "seed.prompt",
        &["question", "choice_a", "choice_b", "choice_c", "choice_d"],
    ),
    ("seed.ranking", &["losses"]),
    ("seed.set", &["questions", "choices", "answers", "question_type"]),
    ("flickr30k.tokenise", &["caption", "source"]),
    ("flickr30k.corpus", &["name", "references", "predictions"]),
    ("understanding-prompts.prompt", &["dataset", "row"]),
];
const JUDGE_INPUTS: &[&str] = &["question", "choices", "prediction"];

/// Recorded lines that are known to differ, with the reason.
const KNOWN: [(&str, &str, &str); 1] = [(
    "flickr30k.tokenise",
    "A.J. and B.",
    "recorded in a set, before a caption that begins with A, which drops the full stop; alone it gives b., there too",
)];

/// Returns the inputs and the recorded verdict of a line.
fn parts(family: &str, line: &Value) -> (Value, Value) {
    let mut input = line.as_object().unwrap().clone();
    if let Some(verdict) = input.remove("verdict") {
        return (Value::Object(input), verdict);
    }
    let kind = input["kind"].as_str().unwrap().to_owned();
    let name = format!("{family}.{kind}");
    let fields = INPUTS
        .iter()
        .find(|inputs| inputs.0 == name)
        .map_or(JUDGE_INPUTS, |inputs| inputs.1);
    let is_input = |field: &str| field == "kind" || fields.contains(&field);
    let verdict: Map<String, Value> = input
        .clone()
        .into_iter()
        .filter(|(field, _)| !is_input(field))
        .collect();
    input.retain(|field, _| is_input(field));
    (Value::Object(input), Value::Object(verdict))
}

/// Returns whether two values are equal, floats to a relative 1e-9.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// Returns every difference in a folder's files, and the number of lines.
fn differences(folder: &Path) -> (Vec<String>, usize) {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    let (mut different, mut lines) = (Vec::new(), 0);
    for file in files {
        let family = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for (number, line) in std::fs::read_to_string(&file).unwrap().lines().enumerate() {
            let line: Value = serde_json::from_str(line).unwrap();
            let (input, recorded) = parts(&family, &line);
            let is_known = KNOWN.iter().any(|known| line["caption"] == known.1);
            lines += 1;
            match score_line(&family, &input) {
                Ok((_, verdict)) if is_same(&recorded, &verdict) != is_known => {}
                Ok((scorer, verdict)) => different.push(format!(
                    "{family}:{} {}: recorded {recorded}, ours {verdict}",
                    number + 1,
                    scorer.name
                )),
                Err(error) => different.push(format!("{family}:{}: {error}", number + 1)),
            }
        }
    }
    (different, lines)
}

#[test]
fn a_dozen_lines_of_each_file_have_their_recorded_verdict() {
    let (different, lines) =
        differences(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scorers"));
    assert!(lines > 100, "{lines}");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn all_recorded_verdicts_are_given() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/scorers");
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden/scorers");
    let Some(folder) = [beside, folder].into_iter().find(|folder| folder.is_dir()) else {
        println!("skipped: no recordings in ../shared/golden/scorers");
        return;
    };
    let (different, lines) = differences(&folder);
    assert!(lines > 1000, "{lines}");
    assert!(
        different.is_empty(),
        "{} of {lines}:\n{}",
        different.len(),
        different.join("\n")
    );
}

#[test]
fn fields_are_found_in_either_form() {
    let plain = json!({ "kind": "pair", "answers": ["a", "a", "b"], "prediction": "a" });
    let nested =
        json!({ "scorer": "vqav2.pair", "prediction": "a", "reference": { "answers": ["a", "a", "b"] } });
    let list = json!({ "prediction": "a", "reference": ["a", "a", "b"] });
    let verdict = |line: &Value| score_line("vqav2", line).unwrap().1;
    assert_eq!(verdict(&plain), verdict(&nested));
    assert_eq!(verdict(&plain), verdict(&list));
}

#[test]
fn what_is_missing_is_named() {
    let error = |asked: &str, line: Value| score_line(asked, &line).unwrap_err().to_string();
    assert!(error("gsm8k", json!({ "prediction": "4" })).contains("reference"));
    assert!(error("nothing", json!({})).contains("nothing"));
    assert!(error("choices", json!({ "reference": 1 })).contains("arc_challenge"));
    assert!(error("pope", json!([])).contains("JSON object"));
}

/// The official tokenizer gets all captions of a set as one text, which affects how a caption is split
/// (recorded with CoreNLP 3.4.1).
#[test]
fn captions_of_a_set_are_tokenised_one_before_the_other() {
    let said = |predictions: &[&str]| {
        let references: Vec<[&str; 1]> = vec![["x y"]; predictions.len()];
        let line = json!({ "kind": "corpus", "predictions": predictions, "references": references });
        let (_, verdict) = score_line("flickr30k", &line).unwrap();
        verdict["predictions_tokenised"].clone()
    };
    assert_eq!(
        said(&[
            "A.J. and B.",
            "A dog",
            "and B.",
            "a dog",
            "and B. ",
            " The dog",
            "and B.",
            "<b> dog",
            "and B."
        ]),
        json!([
            "a.j. and b",
            "a dog",
            "and b.",
            "a dog",
            "and b",
            "the dog",
            "and b",
            "<b> dog",
            "and b."
        ])
    );
    assert_eq!(
        said(&[
            "see No.", "1 dog", "see No.", "A dog", "see p.", "1 dog", "see B. .", "A dog", "the U.S.",
            "A dog"
        ]),
        json!([
            "see no.", "1 dog", "see no", "a dog", "see p.", "1 dog", "see b.", "a dog", "the u.s.", "a dog"
        ])
    );
}

/// n-grams are counted within a picture and over all pictures, including repeats and Unicode white space. The
/// scores are those of the published code for a small set (pycocoevalcap 1.2).
#[test]
fn captions_with_repeats_have_the_published_scores() {
    let line = json!({
        "kind": "corpus",
        "predictions": ["a a a dog", "the cat", "a\u{a0}dog runs"],
        "references": [["a a dog", "a dog a dog"], ["the the cat sat", "cat"], ["dog runs", "a dog runs"]],
    });
    let (_, verdict) = score_line("flickr30k", &line).unwrap();
    let scores = &verdict["official"];
    let near = |path: &str, value: f64| {
        let found = scores.pointer(path).unwrap().as_f64().unwrap();
        assert!((found - value).abs() < 1e-9, "{path}: {found}");
    };
    near("/CIDEr", 4.004_186_805_319_430_5);
    near("/ROUGE_L", 0.959_935_897_435_897_5);
    near("/Bleu/3", 0.000_149_071_198_439_943_46);
}

/// What is no set, or a line of another scorer, is an error that names the field or the scorer.
#[test]
fn what_is_no_set_is_an_error() {
    let error = |asked: &str, line: Value| score_line(asked, &line).unwrap_err().to_string();
    for (asked, field) in [
        ("pope.set", "rows"),
        ("pope.merged_set", "rows"),
        ("mme.set", "rows"),
        ("vqav2.set", "rows"),
        ("mmbench.circular", "rows"),
        ("mmbench.circularise", "rows"),
        ("geneval_summary", "prediction"),
    ] {
        assert!(
            error(asked, json!({ field: [] })).contains("at least one"),
            "{asked}"
        );
    }
    let corpus = |references: Value| {
        error(
            "flickr30k.corpus",
            json!({ "predictions": ["a dog"], "references": references }),
        )
    };
    assert!(corpus(json!([[]])).contains("references"));
    assert!(corpus(json!([["", " "]])).contains("references"));
    assert!(error("vqav2.pair", json!({ "prediction": "a", "answers": [] })).contains("at least one"));
    let twice = json!({
        "question_id": 1, "question_type": "what", "answer_type": "other", "answers": ["a"], "prediction": "a"
    });
    assert!(error("vqav2.set", json!({ "rows": [twice, twice] })).contains("question_id once"));
    let label = json!({ "rows": [{ "category": "random", "label": "maybe", "answer": "no" }] });
    assert!(error("pope.set", label).contains("yes or no"));
    let summary = |category: &str, realism: &str| {
        json!({
            "first_id": 1, "category": category,
            "consistency": "22", "realism": realism, "aesthetic_quality": "22",
        })
    };
    assert!(error("wise_summary", summary("all", "2")).contains("as long as"));
    assert!(error("wise_summary", summary("science fiction", "22")).contains("space-time"));
    let likelihoods = json!({ "loglikelihoods": [-1.0], "labels": [1, 0] });
    assert!(error("truthfulqa_mc2", likelihoods).contains("(1 and 2)"));
    let open = json!({ "question_type": "open", "ground_truth": "4" });
    let aggregate = json!({ "answers": { "dev_Math_1": open }, "predictions": { "dev_Math_1": null } });
    assert!(error("mmmu.aggregate", aggregate).contains("predictions.dev_Math_1"));
}

/// Where a tool gives nothing or a silent 0, the set is refused: MME's script says 0 of no rows, and VLMEvalKit has an
/// empty table where no row is a question's first pass.
#[test]
fn a_set_without_what_is_scored_is_refused() {
    let error = |asked: &str, line: Value| score_line(asked, &line).unwrap_err().to_string();
    assert!(error("mme.set", json!({ "rows": [] })).contains("at least one entry"));
    let turned = json!({ "index": 1_000_003, "A": "a", "B": "b", "answer": "A", "prediction": "A" });
    assert!(error("mmbench.circular", json!({ "rows": [turned] })).contains("first pass"));
}

#[test]
fn a_line_of_another_scorer_is_not_scored() {
    let error = |asked: &str, line: Value| score_line(asked, &line).unwrap_err().to_string();
    let line = |scorer: &str| json!({ "scorer": scorer, "prediction": "7", "reference": "#### 7" });
    assert!(score_line("gsm8k", &line("gsm8k")).is_ok());
    assert!(error("gsm8k", line("math.answer")).contains("math.answer"));
    assert!(error("gsm8k", line("gsm9k")).contains("no scorer gsm9k"));
    assert!(error("pope", line("gsm8k")).contains("is for the scorer gsm8k"));
    let kind = |kind: &str| json!({ "kind": kind, "answer": "No" });
    assert!(score_line("pope.answer", &kind("answer")).is_ok());
    assert!(score_line("pope.answer", &kind("difficult")).is_ok());
    assert!(error("pope.answer", kind("set")).contains("is for the scorer set"));
    assert!(error("pope", kind("pair")).contains("is for the scorer pair"));
    assert!(error("pope", kind("difficult")).contains("no scorer difficult"));
}

/// A model may fill its whole answer with blanks, whose search takes the square of their number. Such a reply is graded
/// too, instead of ending the evaluation.
#[test]
fn blanks_without_end_are_graded() {
    let verdict = |blanks: usize, end: &str| {
        let said = format!("\\boxed{{1{}{end}}}", " ".repeat(blanks));
        let line = json!({ "prediction": said, "reference": "so it is $\\boxed{1}$" });
        score_line("math.completion", &line).unwrap().1
    };
    for blanks in [1, 700] {
        assert_eq!(
            verdict(blanks, "")["minerva_math_v3"]["math_verify"],
            1,
            "{blanks}"
        );
        assert_eq!(
            verdict(blanks, "2")["minerva_math_v3"]["math_verify"],
            0,
            "{blanks}"
        );
    }
    assert!(verdict(20_000, "2")["minerva_math_v3"].is_object());
}

/// Calls and scripts within one another have twice as many readings at each level. A text that has too many is given up;
/// a model may well write `sqrt(` for as long as it may.
#[test]
fn nesting_with_too_many_readings_is_given_up() {
    let verdict = |said: &str| {
        let line = json!({ "prediction": said, "reference": "so it is $\\boxed{1}$" });
        score_line("math.completion", &line).unwrap().1
    };
    for said in [
        format!("{}7{}", "sqrt(".repeat(60), ")".repeat(60)),
        format!("{}7", "x^{".repeat(60)),
    ] {
        let announced = format!("Final Answer: The final answer is ${said}$. I hope it is correct.");
        assert_eq!(verdict(&announced)["minerva_math_v2"]["exact_match"], 0);
        assert_eq!(verdict(&format!("${said}$"))["minerva_math_v3"]["math_verify"], 0);
    }
    let nested = "so it is $\\boxed{f(g(h(2)))}$";
    let line = json!({ "prediction": nested, "reference": nested });
    let verdict = score_line("math.completion", &line).unwrap().1;
    assert_eq!(verdict["minerva_math_v3"]["math_verify"], 1);
}
