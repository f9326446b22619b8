//! The benchmark `seed`: SEED-Bench's questions about pictures, nine dimensions (arXiv 2307.16125). Questions about
//! videos are left out; results over pictures and videos are not comparable with these.
//!
//! Files: `SEED-Bench.json` with `SEED-Bench-image/`, VLMEvalKit's `SEEDBench_IMG.tsv`, or the hub's
//! `lmms-lab/SEED-Bench`.
//!
//! - `official`: the reply must be the letter (LLaVA).
//! - `mmada`, `vlmevalkit`: the reply is matched to the options.
//! - `ranking`: the likeliest choice after `Question: … Answer:`, as the authors' own script ranks by loss; 128
//!   samples.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::text::of_likelihoods;
use super::super::{Description, Published};
use super::{WORDS, inferred, letter_verdict, mmada, options, prompt, protocol, row};
use crate::benchmarks::{BenchmarkSource, Figure, Item, ItemRequest, Protocol, SuiteError, Verdict};
use crate::scorers::understanding::prompts::LETTER;

/// The samples of a log-likelihood.
const SAMPLES: usize = 128;

const DESCRIPTION: Description = Description {
    name: "seed",
    about: "scenes, objects, their positions and counts, texts in pictures",
    size: 14_233,
    source: BenchmarkSource {
        licence: "CC-BY-NC-4.0",
        megabytes: 3000,
        is_gated: false,
        hub: Some("lmms-lab/SEED-Bench"),
        files: &["data/*"],
        from: "https://github.com/AILab-CVC/SEED-Bench",
        places: &["benchmarks/seed", "seed", "SEED-Bench"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "accuracy", WORDS).published(&[Figure {
        model: "LLaVA-1.5-7B",
        value: 66.2,
        cited: "lmms-eval issue 132, pictures alone",
    }]),
    mmada("accuracy"),
    protocol("vlmevalkit", "accuracy", WORDS),
    protocol("ranking", "accuracy", WORDS),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Seed;

impl Published for Seed {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        if let Some(name) = files.named(|name| name.ends_with("SEED-Bench.json")).first() {
            return official(files, name);
        }
        let rows = files.rows(|_| true)?;
        let mut records: Vec<PublishedRecord> =
            rows.into_iter().map(|(_, record)| lettered(record)).collect();
        records.retain(|record| record.value("data_type").is_null() || record.word("data_type") == "image");
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
            let (question, answer) = (record.text("question")?, record.text("answer")?);
            if !options.contains_key(answer) {
                return Err(format!("`answer`: {answer} is not one of the options"));
            }
            let text = match protocol.name {
                "ranking" => format!("Question: {question}\nAnswer:"),
                "official" => prompt(&Protocol::accuracy("mmada"), "SEEDBench", &row),
                _ => prompt(protocol, "SEEDBench", &row),
            };
            debug_assert!(protocol.name != "official" || text.ends_with(LETTER) || !text.is_ascii());
            let part = ["category", "question_type_id"]
                .iter()
                .map(|name| record.word(name))
                .find(|one| !one.is_empty());
            Ok(Asked::question(text, answer)
                .part(part.unwrap_or_default())
                .with("options", options))
        });
        Ok(asked.collect())
    }

    fn request(&self, protocol: &Protocol, item: &Item) -> ItemRequest {
        let texts = item.example.columns["options"].as_object().into_iter().flatten();
        match protocol.name {
            "ranking" => ItemRequest::likelihood(
                texts
                    .map(|(_, text)| format!(" {}", text.as_str().unwrap_or_default()))
                    .collect(),
                SAMPLES,
            ),
            _ => ItemRequest::Generate { may_think: false },
        }
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let right = item.example.reference();
        match protocol.name {
            "official" => letter_verdict(reply.trim().to_owned(), &right),
            _ => letter_verdict(
                inferred(protocol, &item.example.columns["options"], reply),
                &right,
            ),
        }
    }

    fn likeliest(&self, _: &Protocol, item: &Item, likelihoods: &[f64]) -> Verdict {
        let losses: Vec<f64> = likelihoods.iter().map(|one| -one).collect();
        let said = super::said("seed", &json!({ "kind": "ranking", "prediction": losses }));
        let letters: Vec<&String> = item.example.columns["options"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect();
        // The scorer returns a position among the options; missing options have none.
        let place = said["official"]
            .as_str()
            .and_then(|letter| letter.bytes().next())
            .map(|letter| usize::from(letter - b'A'));
        let is_right = place
            .and_then(|place| letters.get(place))
            .is_some_and(|letter| **letter == item.example.reference());
        of_likelihoods(f64::from(u8::from(is_right)), likelihoods)
    }
}

/// Returns a row with its choices by letter.
fn lettered(mut record: PublishedRecord) -> PublishedRecord {
    for (letter, name) in [
        ("A", "choice_a"),
        ("B", "choice_b"),
        ("C", "choice_c"),
        ("D", "choice_d"),
    ] {
        let value = record.value(name).clone();
        if !value.is_null() {
            record.fields.values.insert(letter.to_owned(), value);
        }
    }
    record
}

/// Reads the official file: the questions and the names of their types.
fn official(files: &Files, name: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let document = files.document(name)?;
    let none = Map::new();
    let kinds = document["question_type"].as_object().unwrap_or(&none);
    let names: HashMap<u64, &str> = kinds
        .iter()
        .filter_map(|(name, id)| Some((id.as_u64()?, name.as_str())))
        .collect();
    let questions = document["questions"].as_array().into_iter().flatten().zip(1..);
    Ok(questions
        .filter(|(question, _)| question["data_type"] == "image")
        .map(|(question, line): (&Value, i32)| {
            let mut record = lettered(PublishedRecord::of_object(format!("{name}:{line}"), question));
            let kind = question["question_type_id"]
                .as_u64()
                .and_then(|id| names.get(&id));
            record
                .fields
                .values
                .insert("category".to_owned(), kind.copied().unwrap_or_default().into());
            let picture = files.picture(&record.word("data_id"));
            record.about(picture)
        })
        .collect())
}
