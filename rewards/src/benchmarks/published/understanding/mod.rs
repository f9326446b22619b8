//! Benchmarks of picture understanding: POPE, MME, Flickr30k, VQAv2, GQA, MMMU, MMBench, SEED-Bench.
//!
//! Protocols: `official` is the benchmark's own scorer on LLaVA-1.5's prompt; `mmada` is what MMaDA's copy of VLMEvalKit does
//! (2 new tokens, its post-processing and matching); `vlmevalkit` is VLMEvalKit's head. Pictures are cut to their middle
//! square, as MMaDA does for every benchmark; `squash` and `pad` are not published and so are no protocol here. MMaDA's copy
//! writes each picture to a file before it is shown, as JPEG unless the table names it as PNG: so does `mmada`, by an encoder whose
//! rounding is not Pillow's to the last bit.
//!
//! Not here, and said so: METEOR and SPICE, and judges of other benchmarks than MMBench.

pub mod flickr30k;
pub mod gqa;
pub mod mmbench;
pub mod mme;
pub mod mmmu;
pub mod pope;
pub mod seed;
pub mod vqav2;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::files::PublishedRecord;
use super::{case, said};
use crate::benchmarks::{Protocol, SuiteResult, Verdict};

/// MMaDA's copy of VLMEvalKit gives every answer two tokens.
const SHORTEST: (usize, usize, usize) = (2, 2, 2);
/// What we give answers of a word or phrase; no published setting of a masked model is known.
const WORDS: (usize, usize, usize) = (16, 16, 16);

/// A protocol with answers of so many tokens.
const fn protocol(
    name: &'static str,
    metric: &'static str,
    (tokens, steps, block): (usize, usize, usize),
) -> Protocol {
    Protocol::of(name, metric).decoded(tokens, steps, block)
}

/// What MMaDA's copy of VLMEvalKit does: shortest answers, and pictures from files that it wrote as JPEG.
const fn mmada(metric: &'static str) -> Protocol {
    protocol("mmada", metric, SHORTEST).through_jpeg()
}

/// What MMaDA and VLMEvalKit ask of a row.
fn prompt(protocol: &Protocol, dataset: &str, row: &Map<String, Value>) -> String {
    let asked = said(
        "understanding-prompts.prompt",
        &json!({ "dataset": dataset, "row": row }),
    );
    let name = if protocol.name == "vlmevalkit" {
        "vlmevalkit_default"
    } else {
        "mmada"
    };
    asked[name].as_str().unwrap_or_default().to_owned()
}

/// A row's columns for prompts and matching: question, hint, options by letter that are there.
fn row(record: &PublishedRecord) -> Map<String, Value> {
    let mut row = Map::new();
    for (name, value) in &record.fields.values {
        let is_option = matches!(name.as_bytes(), [b'A'..=b'Z']);
        let is_wanted = is_option || matches!(name.as_str(), "question" | "hint");
        // The hub's copies write what is missing as a word.
        let is_missing = value.is_null() || value == "nan" || value == "";
        if is_wanted && !is_missing {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            row.insert(name.clone(), text.into());
        }
    }
    row
}

/// The options of a row by letter.
fn options(row: &Map<String, Value>) -> Map<String, Value> {
    let letters = row
        .iter()
        .filter(|(name, _)| matches!(name.as_bytes(), [b'A'..=b'Z']));
    letters.map(|(name, text)| (name.clone(), text.clone())).collect()
}

/// The letter that a reply means under a protocol, by VLMEvalKit's `can_infer`; empty where it means none.
fn inferred(protocol: &Protocol, options: &Value, reply: &str) -> String {
    let line = case([
        ("prediction", reply.into()),
        ("choices", options.clone()),
        ("kind", "can_infer".into()),
    ]);
    let path = if protocol.name == "mmada" {
        "mmada_post_then_infer"
    } else {
        "vlmevalkit_head"
    };
    said("mmbench", &line)[path]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// A verdict on a letter.
fn letter_verdict(found: String, right: &str) -> Verdict {
    Verdict {
        credit: f64::from(u8::from(!found.is_empty() && found == right)),
        answer: found,
    }
}

/// A result whose value, interval and parts are known.
pub(super) fn result(
    (name, protocol): (&str, &Protocol),
    n: usize,
    value: f64,
    interval: Option<(f64, f64)>,
    parts: BTreeMap<String, f64>,
) -> SuiteResult {
    let (low, high) = interval.unwrap_or((value, value));
    SuiteResult {
        suite: name.to_owned(),
        protocol: protocol.label().to_owned(),
        metric: protocol.metric.to_owned(),
        figure: String::new(),
        value,
        low: low.min(value),
        high: high.max(value),
        n,
        parts,
        networks: BTreeMap::new(),
    }
}
