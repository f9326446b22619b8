//! The benchmark `gsm8k`: grade-school word problems (arXiv 2110.14168).
//!
//! Files: OpenAI's `test.jsonl` and `train.jsonl`, or the hub's `openai/gsm8k`, folder `main`.
//!
//! - Without a protocol, problems are asked as Demask's own models are trained, and answers are compared as numbers.
//! - `lm-eval`: its `gsm8k`, five shots drawn by Python's generator, plain text without a chat, `flexible-extract`.
//! - `lm-eval-strict`: the same with `strict-match`.
//! - `mmada`: the same shots after the instruction to reason (MMaDA `evaluation/lm`).
//! - `llada-instruct`: OpenCompass' four shots as a chat.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use demask_datasets::example::{Split, Turn};
use demask_datasets::formats::Reader;
use demask_datasets::formats::jsonl::JsonLinesReader;
use demask_datasets::formats::parquet::ParquetReader;
use demask_datasets::formats::row::{KeptColumns, Origin};
use demask_datasets::prompts::style::THINK;
use serde_json::Value;

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, cut, items, number, said};
use super::shots;
use crate::benchmarks::shared::take_items;
use crate::benchmarks::{
    Benchmark, BenchmarkSource, Data, Figure, Item, ItemRequest, Protocol, Response, Scoring, SuiteError,
    Verdict,
};
use crate::scorers::twister::Twister;
use crate::verifiers::Verifiers;

/// OpenCompass' shots.
static OPENCOMPASS: LazyLock<Value> = LazyLock::new(|| shots(include_str!("shots/gsm8k_opencompass.json")));
/// The seed with which lm-eval draws shots.
const SEED: u64 = 1234;
/// The side of a picture in pixels; the problems have none.
const PIXELS: usize = 32;
/// The number of shots.
const SHOTS: usize = 5;
/// The stop strings of lm-eval.
const STOPS: [&str; 3] = ["Question:", "</s>", "<|im_end|>"];

const DESCRIPTION: Description = Description {
    name: "gsm8k",
    about: "grade-school word problems in words",
    size: 1319,
    source: BenchmarkSource {
        licence: "MIT",
        megabytes: 5,
        is_gated: false,
        hub: Some("openai/gsm8k"),
        files: &["main/*"],
        from: "https://github.com/openai/grade-school-math",
        places: &["benchmarks/gsm8k", "gsm8k", "data/gsm8k"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::accuracy(""),
    Protocol::of("lm-eval", "flexible-extract").decoded(256, 256, 32),
    Protocol::of("lm-eval-strict", "strict-match").decoded(256, 256, 32),
    Protocol::of("mmada", "flexible-extract").decoded(256, 256, 64),
    Protocol::accuracy("llada-instruct")
        .decoded(256, 256, 8)
        .published(&[Figure {
            model: "LLaDA-8B-Instruct",
            value: 78.9,
            cited: "LLaDA's EVAL.md, OpenCompass, block 8",
        }]),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Gsm8k;

impl Benchmark for Gsm8k {
    fn name(&self) -> &'static str {
        DESCRIPTION.name
    }

    fn about(&self) -> &'static str {
        DESCRIPTION.about
    }

    fn data(&self) -> Data {
        Data::Published(const { &DESCRIPTION.source })
    }

    fn size(&self) -> usize {
        DESCRIPTION.size
    }

    fn protocols(&self) -> &'static [Protocol] {
        PROTOCOLS
    }

    fn items(&self, protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError> {
        match protocol.name.is_empty() {
            true => as_trained(count),
            false => items(&Problems, protocol, count),
        }
    }

    fn request(&self, _: &Protocol, item: &Item) -> ItemRequest {
        // Demask's own protocol allows reasoning; published protocols request it in their prompts only.
        ItemRequest::Generate {
            may_think: item.example.reasoning.is_some(),
        }
    }

    fn score(&self, protocol: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        match protocol.name.is_empty() {
            true => Scoring::Done(response.is_right(item, verifiers).into()),
            false => Published::score(&Problems, protocol, item, response),
        }
    }
}

/// Reads the problems with the readers of training data: with worked reasoning, and a number as the answer.
fn as_trained(count: usize) -> Result<Vec<Item>, SuiteError> {
    let files = Files::of(DESCRIPTION.name, DESCRIPTION.source.folder(DESCRIPTION.name)?)?;
    let tests = files.named(|name| is_main(name, "test"));
    let Some(name) = tests.first() else {
        return Err(SuiteError::Absent(
            "benchmark gsm8k: its folder has no test file".to_owned(),
        ));
    };
    let origin = Origin {
        source: DESCRIPTION.name.to_owned(),
        licence: DESCRIPTION.source.licence.to_owned(),
        split: Split::Test,
        pixels: PIXELS,
        columns: BTreeMap::new(),
        keep: KeptColumns::Nothing,
    };
    let reader: &dyn Reader = match name.ends_with(".parquet") {
        true => &ParquetReader,
        false => &JsonLinesReader,
    };
    let mut items = take_items(reader.open(&files.path(name), origin)?, None, count)?;
    for item in &mut items {
        item.bare = vec![item.example.prompt.clone()];
    }
    Ok(items)
}

/// Whether a file is of a split of the main configuration, not of the Socratic one.
fn is_main(name: &str, split: &str) -> bool {
    let base = name.rsplit('/').next().unwrap_or(name);
    base.starts_with(split) && !name.contains("socratic")
}

/// The problems as a published benchmark.
struct Problems;

impl Published for Problems {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let shows = matches!(protocol.name, "lm-eval" | "lm-eval-strict" | "mmada");
        let rows = files.rows(|name| is_main(name, "test") || (shows && is_main(name, "train")))?;
        let records = rows
            .into_iter()
            .map(|(name, record)| match is_main(&name, "train") {
                true => record.shown(),
                false => record,
            });
        Ok(records.collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let train: Vec<&PublishedRecord> = records.iter().filter(|record| !record.is_asked).collect();
        let mut random = Twister::new(SEED);
        let asked = records.iter().filter(|record| record.is_asked).map(|record| {
            // Each question draws its shots from one generator, in order.
            let drawn = random
                .sample(train.len(), SHOTS.min(train.len()))
                .unwrap_or_default();
            let (question, answer) = (record.text("question")?, record.text("answer")?);
            let mut shots = String::new();
            if protocol.name != "llada-instruct" {
                for at in drawn {
                    let (question, answer) = (train[at].text("question")?, train[at].text("answer")?);
                    shots.push_str(&format!("Question: {question}\nAnswer: {answer}\n\n"));
                }
            }
            let asked = format!("{shots}Question: {question}\nAnswer:");
            let asked = match protocol.name {
                "mmada" => Asked::text(format!("{THINK}\n\n{asked}"), final_number(answer)),
                "llada-instruct" => chat(question, answer),
                _ => Asked::plain(asked, final_number(answer)),
            };
            Ok(asked.bare(question, []).with("gold", answer))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let gold = item.example.columns["gold"].clone();
        let (path, reply) = match protocol.name {
            "llada-instruct" => ("opencompass", reply),
            "lm-eval-strict" => ("gsm8k.strict-match", cut(reply, &STOPS)),
            _ => ("gsm8k.flexible-extract", cut(reply, &STOPS)),
        };
        let verdict = said(
            "gsm8k",
            &case([("prediction", reply.into()), ("reference", gold)]),
        );
        let end = if protocol.name == "llada-instruct" {
            "correct"
        } else {
            "exact_match"
        };
        let extracted = path.split('.').fold(&verdict, |at, name| &at[name]);
        Verdict {
            credit: number(&verdict, &format!("{path}.{end}")),
            answer: extracted["extracted"].as_str().unwrap_or_default().to_owned(),
        }
    }
}

/// Returns the text after the last `####`.
fn final_number(answer: &str) -> String {
    answer
        .rsplit("####")
        .next()
        .unwrap_or(answer)
        .trim()
        .replace(',', "")
}

/// Writes OpenCompass' shots as turns, then the question.
fn chat(question: &str, answer: &str) -> Asked {
    let mut turns: Vec<Turn> = OPENCOMPASS["turns"].as_array().map_or_else(Vec::new, |turns| {
        let turn = |turn: &Value| {
            Some(Turn {
                role: turn["role"].as_str()?.to_owned(),
                content: turn["content"].as_str()?.to_owned(),
            })
        };
        turns.iter().filter_map(turn).collect()
    });
    let last = turns
        .pop()
        .map_or_else(String::new, |last| last.content.replace("{question}", question));
    turns.push(Turn::user(&last));
    Asked {
        turns,
        ..Asked::text(last, final_number(answer))
    }
}
