//! The benchmark `gpqa`: questions on which search does not help (arXiv 2311.12022).
//!
//! Files: the authors' `gpqa_main.csv` and `gpqa_diamond.csv`, which the hub gives after their terms are accepted. The
//! terms forbid showing questions in the open: no row of them is stored or printed.
//!
//! - `llada-base`: lm-eval's `gpqa_main_n_shot`, five shots, the likeliest letter, 128 samples.
//! - `lm-eval`: its `gpqa_main_zeroshot`.
//! - `llada-instruct`: the diamond rows with five worked examples of the authors' prompt. That prompt cannot be copied:
//!   it is read from `worked_examples.txt` beside the tables.

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said};
use super::mmlu::with_kind;
use super::{letter, of_likelihoods};
use crate::benchmarks::{BenchmarkSource, Figure, Item, ItemRequest, Protocol, SuiteError, Verdict};
use crate::scorers::twister::Twister;

/// The samples of a log-likelihood.
const SAMPLES: usize = 128;
/// The number of shots.
const SHOTS: usize = 5;
/// The seed of the choices' orders in lm-eval's task.
const ORDER_SEED: u64 = 42;
/// The seed with which lm-eval draws shots.
const DRAW_SEED: u64 = 1234;
/// The columns of the choices, the right one last.
const CHOICES: [&str; 4] = [
    "Incorrect Answer 1",
    "Incorrect Answer 2",
    "Incorrect Answer 3",
    "Correct Answer",
];
/// The text before the shots.
const INTRODUCTION: &str = "Here are some example questions from experts. Answer the final question yourself, following the format of the previous questions exactly.\n";
/// The file of worked examples.
const WORKED: &str = "worked_examples.txt";

const DESCRIPTION: Description = Description {
    name: "gpqa",
    about: "questions of biology, physics and chemistry by experts",
    size: 448,
    source: BenchmarkSource {
        licence: "CC-BY-4.0, not to be shown in the open",
        megabytes: 3,
        is_gated: true,
        hub: Some("Idavidrein/gpqa"),
        files: &["gpqa_main.csv", "gpqa_diamond.csv"],
        from: "https://github.com/idavidrein/gpqa",
        places: &["benchmarks/gpqa", "gpqa"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::accuracy("llada-base").published(&[Figure {
        model: "LLaDA-8B-Base",
        value: 25.2,
        cited: "arXiv 2502.09992, table 1",
    }]),
    Protocol::accuracy("lm-eval"),
    Protocol::accuracy("llada-instruct")
        .decoded(64, 64, 64)
        .published(&[Figure {
            model: "LLaDA-8B-Instruct",
            value: 32.3,
            cited: "LLaDA's EVAL.md, OpenCompass",
        }]),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Gpqa;

impl Published for Gpqa {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let table = if protocol.name == "llada-instruct" {
            "gpqa_diamond"
        } else {
            "gpqa_main"
        };
        let rows = files.rows(|name| name.contains(table))?;
        let mut records: Vec<PublishedRecord> = rows.into_iter().map(|(_, record)| record).collect();
        if protocol.name == "llada-instruct" {
            let path = files.path(WORKED);
            let text = files.text(WORKED).map_err(|error| {
                SuiteError::Absent(format!(
                    "gpqa:llada-instruct shows five worked examples of its authors' prompt, which should be in {}: {error}",
                    path.display()
                ))
            })?;
            let worked = PublishedRecord::of_object(WORKED.to_owned(), &json!({ "worked": text }));
            records.push(worked.shown());
        }
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let rows: Vec<&PublishedRecord> = records.iter().filter(|record| record.is_asked).collect();
        Ok(match protocol.name {
            "llada-instruct" => {
                let worked = records.iter().find(|record| !record.is_asked);
                let worked = worked.map_or_else(String::new, |record| record.word("worked"));
                let mut random = Twister::new(0);
                rows.iter()
                    .map(|row| {
                        let mut order = [3, 0, 1, 2];
                        random.shuffle(&mut order);
                        Ok(GpqaQuestion::of(row, order)?.instructed(&worked))
                    })
                    .collect()
            }
            _ => with_shots(&rows, protocol.name == "llada-base"),
        })
    }

    fn request(&self, protocol: &Protocol, _: &Item) -> ItemRequest {
        match protocol.name {
            "llada-instruct" => ItemRequest::Generate { may_think: false },
            _ => ItemRequest::likelihood(
                ["A", "B", "C", "D"].map(|one| format!(" ({one})")).to_vec(),
                SAMPLES,
            ),
        }
    }

    fn verdict(&self, _: &Protocol, item: &Item, reply: &str) -> Verdict {
        let line = case([
            ("prediction", reply.into()),
            ("answer", item.example.columns["letter"].clone()),
            ("choices", json!([])),
        ]);
        let verdict = said("gpqa_generative", &line);
        let found = verdict["opencompass_correct_answer_is"]
            .as_str()
            .unwrap_or_default();
        Verdict {
            answer: found.to_owned(),
            ..(Some(found) == item.example.columns["letter"].as_str()).into()
        }
    }

    fn likeliest(&self, _: &Protocol, item: &Item, likelihoods: &[f64]) -> Verdict {
        let line = case([
            ("loglikelihoods", json!(likelihoods)),
            ("answer", item.example.columns["marked"].clone()),
        ]);
        of_likelihoods(
            number(&said("choices", &with_kind(line, "gpqa_n_shot")), "acc"),
            likelihoods,
        )
    }
}

/// Follows lm-eval's task, in which one generator orders the choices of all rows as shots, then continues to order them
/// as questions.
fn with_shots(rows: &[&PublishedRecord], shows: bool) -> Vec<Result<Asked, String>> {
    let mut random = Twister::new(ORDER_SEED);
    let mut ordered = || -> Vec<Result<GpqaQuestion, String>> {
        let question = |row: &&PublishedRecord| {
            let mut order = [0, 1, 2, 3];
            random.shuffle(&mut order);
            GpqaQuestion::of(row, order)
        };
        rows.iter().map(question).collect()
    };
    let shown = if shows { ordered() } else { Vec::new() };
    let asked = ordered();
    let mut draws = Twister::new(DRAW_SEED);
    asked
        .into_iter()
        .map(|question| {
            // Each question draws its shots anew, one more than are shown, in case the question itself is among them.
            let drawn = draws
                .sample(shown.len(), (SHOTS + 1).min(shown.len()))
                .unwrap_or_default();
            let question = question?;
            if !shows {
                return Ok(question.alone());
            }
            let others = drawn.iter().filter_map(|at| shown[*at].as_ref().ok());
            let others = others.filter(|shot| shot.id != question.id).take(SHOTS);
            let shots: String = others
                .map(|shot| format!("{} ({})\n\n", shot.text(), letter(shot.right)))
                .collect();
            Ok(question.marked(format!("{INTRODUCTION}{shots}{}", question.text()), false))
        })
        .collect()
}

/// A question with ordered choices.
struct GpqaQuestion {
    id: String,
    part: String,
    question: String,
    choices: Vec<String>,
    right: usize,
}

impl GpqaQuestion {
    fn of(record: &PublishedRecord, order: [usize; 4]) -> Result<Self, String> {
        let clean = |name: &str| -> String {
            let value = record.value(name);
            let verdict = said("gpqa_preprocess", &case([("prediction", value.clone())]));
            verdict["v0_4_8"].as_str().unwrap_or(" ").to_owned()
        };
        record.text("Correct Answer")?;
        let choices: Vec<String> = order.iter().map(|from| clean(CHOICES[*from])).collect();
        let gold = clean(CHOICES[3]);
        Ok(Self {
            id: record.word("Record ID"),
            part: record.word("High-level domain"),
            question: record.text("Question")?.to_owned(),
            right: choices.iter().position(|choice| *choice == gold).unwrap_or(0),
            choices,
        })
    }

    fn text(&self) -> String {
        let lines = self.choices.iter().enumerate();
        let lines: String = lines
            .map(|(at, choice)| format!("({}) {choice}\n", letter(at)))
            .collect();
        format!("Question: {}\nChoices:\n{lines}Answer:", self.question)
    }

    /// Writes lm-eval's `gpqa_*_zeroshot`.
    fn alone(&self) -> Asked {
        let lines = self.choices.iter().enumerate();
        let lines: String = lines
            .map(|(at, choice)| format!("({}) {choice}\n", letter(at)))
            .collect();
        self.marked(
            format!(
                "What is the correct answer to this question:{}\nChoices:\n{lines}Answer:",
                self.question
            ),
            false,
        )
    }

    fn instructed(&self, worked: &str) -> Asked {
        let choices = super::lettered(&self.choices);
        self.marked(format!(
            "{worked}\nQuestion:\n{}\nChoices:{choices}\nWhen you're ready to answer, please use the format 'The correct answer is (X)' where X is the correct letter choice from 'ABCD'.",
            self.question
        ), true)
    }

    fn marked(&self, prompt: String, is_chat: bool) -> Asked {
        let letter = letter(self.right).to_string();
        let asked = match is_chat {
            true => Asked::text(prompt, letter.clone()),
            false => Asked::plain(prompt, letter.clone()),
        };
        let asked = asked
            .bare(&self.question, &self.choices)
            .part(self.part.clone())
            .with("marked", Value::from(format!("({letter})")))
            .with("letter", letter);
        Asked {
            is_secret: true,
            ..asked
        }
    }
}
