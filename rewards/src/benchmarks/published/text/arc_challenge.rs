//! The benchmark `arc-challenge`: the hard half of the AI2 Reasoning Challenge (arXiv 1803.05457), three to five
//! choices.
//!
//! Files: the hub's `allenai/ai2_arc`, folder `ARC-Challenge`, or AI2's own `ARC-Challenge-Test.jsonl`.
//!
//! - `llada-base`: lm-eval's `arc_challenge` without shots, by likelihood normalised by length in characters
//!   (`acc_norm`), 128 samples.
//! - `lm-eval`: its `arc_challenge_chat`.
//! - `llada-instruct`: OpenCompass' `ARC_c_gen_1e0de5`, which uses only the rows with four choices.

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord, texts};
use super::super::{Description, Published, case, cut, number, said};
use super::mmlu::with_kind;
use super::{letter, lettered, of_likelihoods};
use crate::benchmarks::{BenchmarkSource, Figure, Item, ItemRequest, Protocol, SuiteError, Verdict};

/// The samples of a log-likelihood.
const SAMPLES: usize = 128;

const DESCRIPTION: Description = Description {
    name: "arc-challenge",
    about: "school science questions that retrieval alone answers wrongly",
    size: 1172,
    source: BenchmarkSource {
        licence: "CC-BY-SA-4.0",
        megabytes: 1,
        is_gated: false,
        hub: Some("allenai/ai2_arc"),
        files: &["ARC-Challenge/test-*"],
        from: "https://allenai.org/data/arc",
        places: &["benchmarks/arc-challenge", "arc-challenge"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::of("llada-base", "acc_norm").published(&[Figure {
        model: "LLaDA-8B-Base",
        value: 45.9,
        cited: "arXiv 2502.09992, table 1",
    }]),
    Protocol::accuracy("lm-eval").decoded(100, 100, 100),
    Protocol::accuracy("llada-instruct")
        .decoded(512, 512, 512)
        .published(&[Figure {
            model: "LLaDA-8B-Instruct",
            value: 89.2,
            cited: "LLaDA's EVAL.md, OpenCompass",
        }]),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Arc;

impl Published for Arc {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let rows = files.rows(|name| {
            let name = name.to_lowercase();
            name.contains("test") && !name.contains("easy")
        })?;
        let mut records: Vec<PublishedRecord> = rows.into_iter().map(|(_, record)| record).collect();
        if protocol.name == "llada-instruct" {
            records
                .retain(|record| ArcQuestion::of(record).is_ok_and(|question| question.choices.len() == 4));
        }
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let asked = records.iter().map(|record| {
            let question = ArcQuestion::of(record)?;
            let asked = match protocol.name {
                "llada-instruct" => question.opencompass(),
                "lm-eval" => question.chat(),
                _ => Asked::plain(
                    format!("Question: {}\nAnswer:", question.question),
                    question.choices[question.right].clone(),
                ),
            };
            Ok(asked
                .bare(&question.question, &question.choices)
                .with("choices", json!(question.choices))
                .with("labels", json!(question.labels))
                .with("answerKey", question.labels[question.right].clone())
                .with("letter", letter(question.right).to_string()))
        });
        Ok(asked.collect())
    }

    fn request(&self, protocol: &Protocol, item: &Item) -> ItemRequest {
        match protocol.name {
            "llada-base" => {
                let choices = texts(&item.example.columns["choices"]).unwrap_or_default();
                ItemRequest::likelihood(choices.iter().map(|one| format!(" {one}")).collect(), SAMPLES)
            }
            _ => ItemRequest::Generate { may_think: false },
        }
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let gold = item.example.columns["letter"].clone();
        let (scorer, path, reply) = match protocol.name {
            // The prompt gives the first words of the answer, so the comparison is with what follows them.
            "lm-eval" => (
                "arc_challenge_chat",
                "remove_whitespace.exact_match",
                cut(reply, &["\n\n", "."]),
            ),
            _ => ("opencompass_first_option", "correct", reply),
        };
        let line = case([("prediction", reply.into()), ("reference", gold)]);
        number(&said(scorer, &line), path).into()
    }

    fn likeliest(&self, _: &Protocol, item: &Item, likelihoods: &[f64]) -> Verdict {
        let columns = &item.example.columns;
        let line = case([
            ("loglikelihoods", json!(likelihoods)),
            ("choices", columns["choices"].clone()),
            ("labels", columns["labels"].clone()),
            ("answerKey", columns["answerKey"].clone()),
        ]);
        let verdict = said("choices", &with_kind(line, "arc_challenge"));
        of_likelihoods(number(&verdict, "acc_norm"), likelihoods)
    }
}

/// A question with its choices.
struct ArcQuestion {
    question: String,
    choices: Vec<String>,
    labels: Vec<String>,
    right: usize,
}

impl ArcQuestion {
    /// Reads the hub's columns, or AI2's own, in which the question is an object.
    fn of(record: &PublishedRecord) -> Result<Self, String> {
        let (question, choices) = match record.value("question") {
            Value::Object(own) => (own.get("stem"), own.get("choices")),
            text => (Some(text), Some(record.value("choices"))),
        };
        let wrong = |what: &str| {
            format!(
                "`{what}`: expected the form of ai2_arc; found {}",
                record.fields.names()
            )
        };
        let question = question
            .and_then(Value::as_str)
            .ok_or_else(|| wrong("question"))?
            .to_owned();
        let choices = choices.ok_or_else(|| wrong("choices"))?;
        let list = |name: &str| match choices {
            Value::Array(all) => all
                .iter()
                .map(|one| one[name].as_str().map(str::to_owned))
                .collect(),
            named => texts(&named[name]),
        };
        let texts: Vec<String> = list("text").ok_or_else(|| wrong("choices.text"))?;
        let labels: Vec<String> = list("label").ok_or_else(|| wrong("choices.label"))?;
        let key = record.text("answerKey")?;
        let right = labels.iter().position(|label| label == key);
        Ok(Self {
            question,
            right: right.filter(|at| *at < texts.len()).ok_or_else(|| {
                format!(
                    "`answerKey`: {key} is not one of the labels {}",
                    labels.join(", ")
                )
            })?,
            choices: texts,
            labels,
        })
    }

    /// Writes lm-eval's `arc_challenge_chat`. Its template contains the two characters of an escaped line feed instead
    /// of line feeds.
    fn chat(&self) -> Asked {
        let mut text = format!(
            r"Given the following question and four candidate answers (A, B, C and D), choose the best answer.\nQuestion: {}",
            self.question
        );
        for (at, choice) in self.choices.iter().enumerate().take(4) {
            text.push_str(&format!(r"\n{}. {choice}", letter(at)));
        }
        text.push_str(
            r#"\nYour response should end with "The best answer is [the_answer_letter]" where the [the_answer_letter] is one of A, B, C or D."#,
        );
        Asked::text(
            format!("{text}\n\nThe best answer is"),
            letter(self.right).to_string(),
        )
    }

    fn opencompass(&self) -> Asked {
        let text = format!("Question: {}{}\nAnswer:", self.question, lettered(&self.choices));
        Asked::text(text, letter(self.right).to_string())
    }
}
