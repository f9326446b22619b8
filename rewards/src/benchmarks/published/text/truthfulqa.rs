//! The benchmark `truthfulqa`: 817 questions that people tend to answer wrongly (arXiv 2109.07958).
//!
//! Files: the hub's `truthfulqa/truthful_qa`, folder `multiple_choice`, JSON lines with the same columns, or the
//! authors' `mc_task.json`.
//!
//! - `llada-base`: lm-eval's `truthfulqa_mc2`, the share of probability on the true answers; 128 samples, because noise
//!   is exponentiated.
//! - `lm-eval`: its `truthfulqa_mc1`, the likeliest answer.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord, texts};
use super::super::{Description, Published, case, number, said};
use super::mmlu::with_kind;
use super::{of_likelihoods, shots};
use crate::benchmarks::result::mean_credit;
use crate::benchmarks::{
    BenchmarkSource, Figure, Item, ItemRequest, Judged, Protocol, SuiteError, SuiteResult, Verdict, accuracy,
};

/// The shots before each question.
static SHOTS: LazyLock<Value> = LazyLock::new(|| shots(include_str!("shots/truthfulqa.json")));
/// The samples of a log-likelihood.
const SAMPLES: usize = 128;

const DESCRIPTION: Description = Description {
    name: "truthfulqa",
    about: "questions that common beliefs answer wrongly",
    size: 817,
    source: BenchmarkSource {
        licence: "Apache-2.0",
        megabytes: 1,
        is_gated: false,
        hub: Some("truthfulqa/truthful_qa"),
        files: &["multiple_choice/validation-*"],
        from: "https://github.com/sylinrl/TruthfulQA",
        places: &["benchmarks/truthfulqa", "truthfulqa"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::of("llada-base", "mc2").published(&[Figure {
        model: "LLaDA-8B-Base",
        value: 46.1,
        cited: "arXiv 2502.09992, table 1",
    }]),
    Protocol::of("lm-eval", "mc1"),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct TruthfulQa;

impl Published for TruthfulQa {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let has_folder = files.has(|name| name.contains("multiple_choice/"));
        let rows = files.rows(|name| match has_folder {
            true => name.contains("multiple_choice/validation"),
            false => name.contains("mc_task") || name.contains("validation") || name.contains("test"),
        })?;
        Ok(rows.into_iter().map(|(_, record)| record).collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let column = if protocol.metric == "mc1" {
            "mc1_targets"
        } else {
            "mc2_targets"
        };
        let shown = SHOTS["text"].as_str().unwrap_or_default();
        let asked = records.iter().map(|record| {
            let (choices, labels) = targets(record.value(column))
                .ok_or_else(|| format!("`{column}`: choices with labels 0 and 1 were expected"))?;
            let right = labels
                .iter()
                .position(|label| *label == 1)
                .ok_or("no choice is true")?;
            let text = format!("{shown}\n\nQ: {}\nA:", record.text("question")?);
            Ok(Asked::plain(text, choices[right].clone())
                .bare(record.text("question")?, &choices)
                .with("choices", json!(choices))
                .with("labels", json!(labels)))
        });
        Ok(asked.collect())
    }

    fn request(&self, _: &Protocol, item: &Item) -> ItemRequest {
        let choices = texts(&item.example.columns["choices"]).unwrap_or_default();
        ItemRequest::likelihood(choices.iter().map(|one| format!(" {one}")).collect(), SAMPLES)
    }

    fn likeliest(&self, protocol: &Protocol, item: &Item, likelihoods: &[f64]) -> Verdict {
        let line = case([
            ("loglikelihoods", json!(likelihoods)),
            ("labels", item.example.columns["labels"].clone()),
        ]);
        let credit = match protocol.metric {
            "mc1" => number(&said("choices", &with_kind(line, "truthfulqa_mc1")), "acc"),
            _ => {
                let verdict = said("choices", &with_kind(line, "truthfulqa_mc2"));
                let path = if verdict["acc_v2"].is_number() {
                    "acc_v2"
                } else {
                    "acc_v3"
                };
                number(&verdict, path)
            }
        };
        of_likelihoods(credit, likelihoods)
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        match protocol.metric {
            "mc1" => accuracy(self.name(), protocol, judged),
            _ => mean_credit(self.name(), protocol, judged),
        }
    }
}

/// Reads choices and labels: two lists, as on the hub, or an object of labels by choice.
fn targets(value: &Value) -> Option<(Vec<String>, Vec<u64>)> {
    if let Some(choices) = texts(&value["choices"]) {
        let labels: Option<Vec<u64>> = value["labels"].as_array()?.iter().map(Value::as_u64).collect();
        return Some((choices, labels?)).filter(|(choices, labels)| choices.len() == labels.len());
    }
    let named = value.as_object()?.iter();
    let pairs: Option<Vec<(String, u64)>> = named
        .map(|(choice, label)| Some((choice.clone(), label.as_u64()?)))
        .collect();
    Some(pairs?.into_iter().unzip())
}
