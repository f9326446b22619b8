//! Picture understanding benchmarks: POPE, MME, Flickr30k, VQAv2, GQA, MMMU, MMBench, SEED-Bench.
//!
//! The protocol `official` is the benchmark's own scorer on LLaVA-1.5's prompt. `mmada` follows MMaDA's copy of
//! VLMEvalKit (2 new tokens, its post-processing and matching). `vlmevalkit` follows the current VLMEvalKit. Pictures
//! are cropped to their central square, as MMaDA does for every benchmark; `squash` and `pad` were not published and
//! are therefore no protocols. MMaDA's copy writes each picture to a file before it is shown, as JPEG unless the table
//! names it as PNG. `mmada` does so too, with an encoder whose rounding differs from Pillow's in the last bit.
//!
//! Not implemented: METEOR, SPICE, and judges for benchmarks other than MMBench.

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

/// Two tokens an answer, as in MMaDA's copy of VLMEvalKit.
const SHORTEST: (usize, usize, usize) = (2, 2, 2);
/// The length of a word or phrase answer here; no published setting of a masked model is known.
const WORDS: (usize, usize, usize) = (16, 16, 16);

/// Makes a protocol with this decoding.
const fn protocol(
    name: &'static str,
    metric: &'static str,
    (tokens, steps, block): (usize, usize, usize),
) -> Protocol {
    Protocol::of(name, metric).decoded(tokens, steps, block)
}

/// Makes the protocol of MMaDA's copy of VLMEvalKit: two-token answers, and pictures that went through JPEG files.
const fn mmada(metric: &'static str) -> Protocol {
    protocol("mmada", metric, SHORTEST).through_jpeg()
}

/// Writes the prompt that MMaDA or VLMEvalKit makes of a row.
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

/// Returns a row's columns for prompts and matching: the question, the hint, and the options by letter.
fn row(record: &PublishedRecord) -> Map<String, Value> {
    let mut row = Map::new();
    for (name, value) in &record.fields.values {
        let is_option = matches!(name.as_bytes(), [b'A'..=b'Z']);
        let is_wanted = is_option || matches!(name.as_str(), "question" | "hint");
        // The hub's copies write missing values as a word.
        let is_missing = value.is_null() || value == "nan" || value == "";
        if is_wanted && !is_missing {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            row.insert(name.clone(), text.into());
        }
    }
    row
}

/// Returns the options of a row by letter.
fn options(row: &Map<String, Value>) -> Map<String, Value> {
    let letters = row
        .iter()
        .filter(|(name, _)| matches!(name.as_bytes(), [b'A'..=b'Z']));
    letters.map(|(name, text)| (name.clone(), text.clone())).collect()
}

/// Returns the letter that a reply means under a protocol, by VLMEvalKit's `can_infer`; empty if it means none.
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

/// Makes a verdict on a letter.
fn letter_verdict(found: String, right: &str) -> Verdict {
    Verdict {
        credit: f64::from(u8::from(!found.is_empty() && found == right)),
        answer: found,
    }
}

/// Makes a result of a known value, interval and parts.
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
