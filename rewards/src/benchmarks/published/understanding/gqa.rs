//! The benchmark `gqa`: questions generated from scene graphs (arXiv 1902.09506), the balanced half of testdev.
//!
//! Files: `testdev_balanced_questions.json` with `images/`, VLMEvalKit's `GQA_TestDev_Balanced.tsv`, or the hub's
//! `lmms-lab/GQA` (questions and pictures in two tables).
//!
//! - `official`: equality after LLaVA's conversion, as for published results.
//! - `mmada` and `vlmevalkit`: equality of stripped, lower-case text.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said};
use super::{WORDS, mmada, prompt, protocol};
use crate::benchmarks::{
    BenchmarkSource, Figure, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict, accuracy,
};

const DESCRIPTION: Description = Description {
    name: "gqa",
    about: "questions about objects, their attributes and positions",
    size: 12_578,
    source: BenchmarkSource {
        licence: "MIT; Visual Genome's pictures have their own terms",
        megabytes: 80,
        is_gated: false,
        hub: Some("lmms-lab/GQA"),
        files: &["testdev_balanced_*/*"],
        from: "https://cs.stanford.edu/people/dorarad/gqa",
        places: &["benchmarks/gqa", "gqa"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "accuracy", WORDS).published(&[Figure {
        model: "LLaVA-1.5-7B",
        value: 62.0,
        cited: "LLaVA MODEL_ZOO",
    }]),
    mmada("accuracy"),
    protocol("vlmevalkit", "accuracy", WORDS),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Gqa;

impl Published for Gqa {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        if let Some(name) = files.named(|name| name.ends_with("questions.json")).first() {
            return official(files, name);
        }
        let is_pictures = |name: &str| name.contains("_images/");
        let pictures: HashMap<String, PublishedRecord> = files
            .rows(is_pictures)?
            .into_iter()
            .map(|(_, record)| (record.word("id"), record))
            .collect();
        let rows = files.rows(|name| !is_pictures(name))?;
        Ok(rows
            .into_iter()
            .map(|(_, record)| {
                let named = record.word("imageId");
                match (record.picture.is_some() || named.is_empty(), pictures.get(&named)) {
                    (true, _) => record,
                    (
                        false,
                        Some(PublishedRecord {
                            picture: Some(picture),
                            ..
                        }),
                    ) => record.about(Ok(picture.clone())),
                    _ => record.about(Err(format!("the picture {named} is not among the pictures"))),
                }
            })
            .collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let asked = records.iter().map(|record| {
            let question = record.text("question")?;
            let row: Map<String, Value> = [("question".to_owned(), Value::from(question))]
                .into_iter()
                .collect();
            let structural = record.value("types")["structural"].as_str().unwrap_or_default();
            let mut asked =
                Asked::question(prompt(protocol, "GQA", &row), record.text("answer")?).part(structural);
            for name in ["types", "groups", "semantic", "isBalanced", "entailed"] {
                if !record.value(name).is_null() {
                    asked = asked.with(name, record.value(name).clone());
                }
            }
            Ok(asked
                .with("question", question)
                .with("number", record.word("number")))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let reply = reply.trim();
        let line = case([
            ("prediction", reply.into()),
            ("reference", item.example.reference().into()),
        ]);
        let verdict = said("gqa.pair", &line);
        let (path, kept) = match protocol.name {
            "official" => (
                "official_after_llava_conversion",
                verdict["llava_converted"].as_str().unwrap_or(reply),
            ),
            _ => ("vlmevalkit", reply),
        };
        Verdict {
            credit: number(&verdict, path),
            answer: kept.to_owned(),
        }
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut result = accuracy(self.name(), protocol, judged);
        result.parts.extend(figures(judged));
        result
    }
}

/// Returns the official script's further numbers, if the questions' types are known: accuracy of binary and open
/// questions, and the distance of the answer distributions.
fn figures(judged: &[Judged]) -> BTreeMap<String, f64> {
    let known = judged
        .iter()
        .filter(|one| one.item.example.columns.contains_key("types"));
    let questions: Map<String, Value> = known
        .clone()
        .enumerate()
        .map(|(at, one)| {
            let example = &one.item.example;
            let mut question = Value::Object(example.columns.clone());
            question["answer"] = example.reference().into();
            question["isBalanced"] = true.into();
            (at.to_string(), question)
        })
        .collect();
    let predictions: Vec<Value> = known
        .enumerate()
        .map(|(at, one)| json!({ "questionId": at.to_string(), "prediction": one.verdict.answer }))
        .collect();
    if predictions.is_empty() {
        return BTreeMap::new();
    }
    let said = said(
        "gqa.set",
        &json!({ "questions": questions, "predictions": predictions }),
    );
    let parts = ["binary", "open", "distribution"];
    let there = parts.iter().filter(|name| said["official"][**name].is_number());
    there
        .map(|name| (format!("({name})"), number(&said["official"], name) / 100.0))
        .collect()
}

/// Reads the official file: an object of questions by number.
fn official(files: &Files, name: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let document = files.document(name)?;
    let questions = document.as_object().into_iter().flatten();
    Ok(questions
        .filter(|(_, question)| question["isBalanced"] != false)
        .map(|(number, question)| {
            let mut record = PublishedRecord::of_object(format!("{name}:{number}"), question);
            record
                .fields
                .values
                .insert("number".to_owned(), number.clone().into());
            let picture = files.picture(&format!("{}.jpg", record.word("imageId")));
            record.about(picture)
        })
        .collect())
}
