//! The benchmark `math`: competition mathematics (arXiv 2103.03874).
//!
//! Files: the hub's `EleutherAI/hendrycks_math` (a folder a subject), or the original folders with one JSON file a
//! problem.
//!
//! - `llada-base`: lm-eval's `minerva_math`, four shots, plain text without a chat, graded by `math_verify`.
//! - `lm-eval`: the same, graded by its exact match.
//! - `llada-instruct`: OpenCompass without shots.

use std::sync::LazyLock;

use serde_json::Value;

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, cut, number, said};
use super::shots;
use crate::benchmarks::{BenchmarkSource, Figure, Item, Protocol, SuiteError, Verdict};

/// Minerva's shots.
static MINERVA: LazyLock<Value> = LazyLock::new(|| shots(include_str!("shots/minerva_math.json")));

const DESCRIPTION: Description = Description {
    name: "math",
    about: "problems of mathematics competitions in seven subjects",
    size: 5000,
    source: BenchmarkSource {
        licence: "MIT",
        megabytes: 5,
        is_gated: false,
        hub: Some("EleutherAI/hendrycks_math"),
        files: &["*/test-*"],
        from: "https://github.com/hendrycks/math",
        places: &["benchmarks/math", "math", "MATH"],
    },
    protocols: PROTOCOLS,
};

pub(super) const PROTOCOLS: &[Protocol] = &[
    Protocol::of("llada-base", "math_verify")
        .decoded(1024, 1024, 1024)
        .published(&[Figure {
            model: "LLaDA-8B-Base",
            value: 31.4,
            cited: "arXiv 2502.09992, table 1",
        }]),
    Protocol::of("lm-eval", "exact_match").decoded(1024, 1024, 1024),
    Protocol::accuracy("llada-instruct")
        .decoded(512, 512, 64)
        .published(&[Figure {
            model: "LLaDA-8B-Instruct",
            value: 42.7,
            cited: "LLaDA's EVAL.md, OpenCompass, block 64",
        }]),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Math;

impl Published for Math {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        // The original folders have one file a problem; the hub's have one table a subject.
        let rows = files.rows(|name| {
            let base = name.rsplit('/').next().unwrap_or(name);
            base.starts_with("test") || name.contains("test/")
        })?;
        let named = rows.into_iter().map(|(name, mut record)| {
            if record.value("type").is_null() {
                let folder = name.rsplit('/').nth(1).unwrap_or_default();
                record.fields.values.insert("type".to_owned(), folder.into());
            }
            record
        });
        Ok(named.collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        Ok(records
            .iter()
            .map(|record| asked(protocol, record, "type"))
            .collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        verdict(protocol, item, reply)
    }
}

/// Makes the question of a problem, which counts in the category of the column `part`.
pub(super) fn asked(protocol: &Protocol, record: &PublishedRecord, part: &str) -> Result<Asked, String> {
    let (problem, solution) = (record.text("problem")?, record.text("solution")?);
    let gold = said(
        "math.completion",
        &case([("prediction", "".into()), ("reference", solution.into())]),
    );
    let gold = gold["gold"]
        .as_str()
        .ok_or("`solution`: an answer in \\boxed{} was expected")?
        .to_owned();
    let asked = match protocol.name {
        "llada-instruct" => Asked::text(
            format!("{problem}\nPlease reason step by step, and put your final answer within \\boxed{{}}."),
            gold,
        ),
        _ => Asked::plain(minerva(problem), gold),
    };
    Ok(asked
        .bare(problem, [])
        .part(record.word(part))
        .with("solution", solution))
}

/// Writes lm-eval's `minerva_math`: its four shots, then the problem.
fn minerva(problem: &str) -> String {
    let mut text = String::new();
    for shot in MINERVA["shots"].as_array().into_iter().flatten() {
        let part = |name: &str| shot[name].as_str().unwrap_or_default();
        text.push_str(&format!(
            "Problem:\n{}\n\nSolution: {}\n\n",
            part("problem"),
            part("solution")
        ));
    }
    format!("{text}Problem:\n{problem}\n\nSolution:")
}

/// Scores a completion by the protocol's grader.
pub(super) fn verdict(protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
    let (path, answer, reply) = match (protocol.name, protocol.metric) {
        ("llada-instruct", _) => ("opencompass_v2.correct", "/opencompass_v2/extracted", reply),
        (_, "exact_match") => (
            "minerva_math_v2.exact_match",
            "/minerva_extracted",
            cut(reply, &["Problem:"]),
        ),
        _ => (
            "minerva_math_v3.math_verify",
            "/minerva_extracted",
            cut(reply, &["Problem:"]),
        ),
    };
    let line = case([
        ("prediction", reply.into()),
        ("reference", item.example.columns["solution"].clone()),
    ]);
    let verdict = said("math.completion", &line);
    Verdict {
        credit: number(&verdict, path),
        answer: verdict
            .pointer(answer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    }
}
