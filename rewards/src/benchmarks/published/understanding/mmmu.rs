//! The benchmark `mmmu`: college questions with pictures, 30 subjects (arXiv 2311.16502), the validation split.
//!
//! Files: the hub's `MMMU/MMMU` (a folder a subject) or `lmms-lab/MMMU`, or VLMEvalKit's `MMMU_DEV_VAL.tsv`. MMaDA
//! reads the first picture of a question; the text keeps the marks of the others.
//!
//! - `official`: MMMU's own parsing of letters and numbers. Where it guesses, the answer counts as wrong here, so a
//!   result may lie below one with guesses.
//! - `mmada` and `vlmevalkit`: after it was asked, an open question is scored as a choice between its answer and
//!   another, as in VLMEvalKit.

use demask_datasets::formats::tables::python_list::strings;
use serde_json::{Map, Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said};
use super::{WORDS, inferred, letter_verdict, mmada, options, prompt, protocol, row};
use crate::benchmarks::{
    BenchmarkSource, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict, accuracy,
};
use crate::scorers::understanding::mmmu_domains::DOMAINS;
use crate::scorers::understanding::prompts::{LETTER, SHORT};

const DESCRIPTION: Description = Description {
    name: "mmmu",
    about: "college questions of 30 subjects with diagrams, tables and pictures",
    size: 900,
    source: BenchmarkSource {
        licence: "Apache-2.0",
        megabytes: 350,
        is_gated: false,
        hub: Some("MMMU/MMMU"),
        files: &["*/validation-*"],
        from: "https://mmmu-benchmark.github.io",
        places: &["benchmarks/mmmu", "mmmu"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "accuracy", WORDS),
    mmada("accuracy"),
    protocol("vlmevalkit", "accuracy", WORDS),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Mmmu;

impl Published for Mmmu {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let rows = files.rows(|name| {
            let base = name.rsplit('/').next().unwrap_or(name);
            base.starts_with("validation") || base.ends_with(".tsv")
        })?;
        let mut records: Vec<PublishedRecord> =
            rows.into_iter().map(|(_, record)| normalised(record)).collect();
        records.retain(|record| record.value("split").is_null() || record.word("split") == "validation");
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let asked = records.iter().map(|record| {
            let row = row(record);
            let options = options(&row);
            let (question, answer) = (record.text("question")?, record.word("answer"));
            let text = match protocol.name {
                "official" => official(question, &options),
                _ => prompt(protocol, "MMMU", &row),
            };
            let golds = strings(&answer).unwrap_or_else(|| vec![answer.clone()]);
            Ok(Asked::question(text, golds.join(" or "))
                .part(subject(&record.word("id")))
                .with("id", record.word("id"))
                .with("options", options)
                .with("golds", golds))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let columns = &item.example.columns;
        let (options, golds) = (&columns["options"], &columns["golds"]);
        let is_open = options.as_object().is_none_or(Map::is_empty);
        match (protocol.name, is_open) {
            ("official", true) => {
                let line = case([("prediction", reply.into()), ("reference", golds.clone())]);
                Verdict {
                    credit: number(&said("mmmu.open", &line), "official_correct"),
                    answer: reply.trim().to_owned(),
                }
            }
            ("official", false) => {
                let texts: Vec<&Value> = options
                    .as_object()
                    .into_iter()
                    .flatten()
                    .map(|(_, text)| text)
                    .collect();
                let line = case([("prediction", reply.into()), ("reference", json!(texts))]);
                let verdict = said("mmmu.choice", &line);
                let found = verdict["official"].as_str().filter(|found| *found != "RANDOM");
                letter_verdict(
                    found.unwrap_or_default().to_owned(),
                    golds[0].as_str().unwrap_or_default(),
                )
            }
            (_, true) => {
                let turned = json!({ "A": golds[0], "B": "Other Answers" });
                letter_verdict(inferred(protocol, &turned, reply), "A")
            }
            _ => letter_verdict(
                inferred(protocol, options, reply),
                golds[0].as_str().unwrap_or_default(),
            ),
        }
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut result = accuracy(self.name(), protocol, judged);
        for (domain, subjects) in DOMAINS {
            let of = judged
                .iter()
                .filter(|one| subjects.contains(&one.item.example.category.as_str()));
            let (right, all) = of.fold((0.0, 0.0), |(right, all), one| {
                (right + one.verdict.credit, all + 1.0)
            });
            if all > 0.0 {
                result.parts.insert(format!("({domain})"), right / all);
            }
        }
        result
    }
}

/// Normalises a hub row to the form of the tables: options by letter, the first picture.
fn normalised(mut record: PublishedRecord) -> PublishedRecord {
    if let Some(listed) = record.value("options").as_str().and_then(strings) {
        for (letter, text) in ('A'..='Z').zip(listed) {
            record.fields.values.insert(letter.to_string(), text.into());
        }
    }
    if record.value("id").is_null() {
        let id = format!("validation_{}_{}", record.word("category"), record.word("index"));
        record.fields.values.insert("id".to_owned(), id.into());
    }
    let first = ["image_1", "image"]
        .iter()
        .find_map(|name| record.fields.pictures.get(*name)?.first().cloned());
    match first {
        Some(picture) => record.about(Ok(picture)),
        None => record.about(Err("a question without a picture".to_owned())),
    }
}

/// Returns the subject in a question's id, `validation_SUBJECT_12`.
fn subject(id: &str) -> String {
    let parts: Vec<&str> = id.split('_').collect();
    parts
        .get(1..parts.len().saturating_sub(1))
        .unwrap_or_default()
        .join("_")
}

/// Writes MMMU's own prompt for LLaVA-1.5.
fn official(question: &str, options: &Map<String, Value>) -> String {
    if options.is_empty() {
        return format!("{question}\n\n{SHORT}");
    }
    let lines: Vec<String> = options
        .iter()
        .map(|(letter, text)| format!("({letter}) {}", text.as_str().unwrap_or_default()))
        .collect();
    format!("{question}\n\n{}\n\n{LETTER}", lines.join("\n"))
}
