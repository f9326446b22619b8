//! The benchmark `vqav2`: questions about COCO's pictures with ten people's answers (arXiv 1612.00837), the validation
//! split; the answers of the test split are secret.
//!
//! Files: `v2_OpenEnded_*_questions.json` and `v2_*_annotations.json` with the pictures, the hub's `lmms-lab/VQAv2`
//! (large: its tables are held in memory), or VLMEvalKit's tables. `official` is the official accuracy of LLaVA's
//! cleaned-up answer.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said};
use super::{WORDS, prompt, protocol};
use crate::benchmarks::result::mean_credit;
use crate::benchmarks::{BenchmarkSource, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict};

const DESCRIPTION: Description = Description {
    name: "vqav2",
    about: "open questions about pictures, against ten people's answers",
    size: 214_354,
    source: BenchmarkSource {
        licence: "CC-BY-4.0; COCO's pictures have their own terms",
        megabytes: 13_000,
        is_gated: false,
        hub: Some("lmms-lab/VQAv2"),
        files: &["data/validation-*"],
        from: "https://visualqa.org/download.html",
        places: &["benchmarks/vqav2", "vqav2"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "accuracy", WORDS),
    protocol("vlmevalkit", "accuracy", WORDS),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Vqav2;

impl Published for Vqav2 {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let of = |what: &str| {
            let ending = format!("_{what}.json");
            let found = files.named(|name| name.ends_with(&ending) && !name.contains("test"));
            // Beside the validation split, whoever downloads the release has the much larger training split.
            let validation = found.iter().find(|name| name.contains("_val"));
            validation.or(found.first()).copied()
        };
        if let Some(questions) = of("questions") {
            let Some(answers) = of("annotations") else {
                let message =
                    format!("benchmark vqav2: beside {questions} the file of annotations is missing");
                return Err(SuiteError::Absent(message));
            };
            return official(files, questions, answers);
        }
        let rows = files.rows(|name| !name.contains("test"))?;
        Ok(rows.into_iter().map(|(_, record)| record).collect())
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
            let answers = record.value("answers");
            if answers.as_array().is_none_or(Vec::is_empty) {
                return Err(
                    "`answers`: those of ten people were expected; the answers of the test split are not published".to_owned(),
                );
            }
            let common = record.word("multiple_choice_answer");
            Ok(Asked::question(prompt(protocol, "VQAv2", &row), common)
                .part(record.word("answer_type"))
                .with("answers", answers.clone()))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let answers = item.example.columns["answers"].clone();
        let scored = |reply: &str| {
            said(
                "vqav2.pair",
                &case([("prediction", reply.into()), ("answers", answers.clone())]),
            )
        };
        let verdict = scored(reply);
        if protocol.name == "vlmevalkit" {
            return Verdict {
                credit: number(&verdict, "vlmevalkit"),
                answer: reply.trim().to_owned(),
            };
        }
        let cleaned = verdict["llava_submission_answer"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Verdict {
            credit: number(&scored(&cleaned), "official_exact") / 100.0,
            answer: cleaned,
        }
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        mean_credit(self.name(), protocol, judged)
    }
}

/// Joins the official files by question number.
fn official(files: &Files, questions: &str, answers: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let (asked, answered) = (files.document(questions)?, files.document(answers)?);
    let rows = answered["annotations"].as_array().into_iter().flatten();
    let by_number: HashMap<u64, &Value> = rows
        .filter_map(|row| Some((row["question_id"].as_u64()?, row)))
        .collect();
    let all = asked["questions"].as_array().into_iter().flatten();
    Ok(all
        .zip(1..)
        .map(|(question, line)| {
            let mut record = PublishedRecord::of_object(format!("{questions}:{line}"), question);
            let number = question["question_id"].as_u64();
            let Some(answer) = number.and_then(|number| by_number.get(&number)) else {
                return record.about(Err("there is no annotation with its question_id".to_owned()));
            };
            for name in [
                "answers",
                "answer_type",
                "question_type",
                "multiple_choice_answer",
            ] {
                record.fields.values.insert(name.to_owned(), answer[name].clone());
            }
            let number = question["image_id"].as_u64().unwrap_or(0);
            let split = if questions.contains("train") {
                "train2014"
            } else {
                "val2014"
            };
            record.about(files.picture(&format!("COCO_{split}_{number:012}.jpg")))
        })
        .collect())
}
