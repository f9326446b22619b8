//! The benchmark `wise`: whether drawings show what a prompt only implies (arXiv 2503.07265); 1000 prompts, one drawing
//! each, judged by a model.
//!
//! Its files are `cultural_common_sense.json`, `spatio-temporal_reasoning.json` and `natural_science.json`. The judge's
//! prompt has no licence and cannot be copied: it is read from `judge_prompt.txt` beside them, with the placeholders
//! `{PROMPT}` and `{EXPLANATION}`, and from an optional `judge_system.txt`.
//!
//! - `legacy` (reported by papers up to 2025): three scores; the judge is asked up to three times until all are there.
//! - `verified`: one score and other categories, on its own prompts.
//!
//! Results of the two protocols, or of two judges, are not comparable; the judge's name is stored with the result.

use std::collections::BTreeMap;

use serde_json::json;

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, number, said, understanding};
use crate::benchmarks::{
    BenchmarkSource, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, Verdict,
};
use crate::statistics::mean;

/// The file of the judge's prompt.
const JUDGE: &str = "judge_prompt.txt";
/// The file of the judge's system message.
const SYSTEM: &str = "judge_system.txt";

const DESCRIPTION: Description = Description {
    name: "wise",
    about: "whether drawings reflect world knowledge about a prompt, by a judge model",
    size: 1000,
    source: BenchmarkSource {
        licence: "none is given: for your own use",
        megabytes: 1,
        is_gated: false,
        hub: None,
        files: &[],
        from: "https://github.com/PKU-YuanGroup/WISE, data/ and the judge's prompt",
        places: &["benchmarks/wise", "wise"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::of("legacy", "wiscore"),
    Protocol::of("verified", "wiscore_binary"),
];

/// A category: its name, the number of its last prompt, its weight.
type Category = (&'static str, u64, f64);

/// The categories of the legacy report.
const LEGACY: [Category; 6] = [
    ("culture", 400, 0.4),
    ("time", 567, 0.167),
    ("space", 700, 0.133),
    ("biology", 800, 0.1),
    ("physics", 900, 0.1),
    ("chemistry", 1000, 0.1),
];
/// The categories of the verified report.
const VERIFIED: [Category; 6] = [
    ("culture", 400, 0.4),
    ("time", 520, 0.12),
    ("space", 640, 0.12),
    ("biology", 760, 0.12),
    ("physics", 880, 0.12),
    ("chemistry", 1000, 0.12),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Wise;

impl Published for Wise {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let rows = files.rows(|name| !name.contains("rewrite"))?;
        let mut records: Vec<PublishedRecord> = rows.into_iter().map(|(_, record)| record).collect();
        let text = |name: &str| files.text(name);
        let judge = text(JUDGE).map_err(|error| {
            let path = files.path(JUDGE);
            SuiteError::Absent(format!(
                "benchmark wise: the judge's prompt is looked for in {}: {error}; WISE's own prompt has no licence, so provide one with {{PROMPT}} and {{EXPLANATION}} in it",
                path.display()
            ))
        })?;
        let prompts = json!({ "judge": judge, "system": text(SYSTEM).unwrap_or_default() });
        records.push(PublishedRecord::of_object(JUDGE.to_owned(), &prompts).shown());
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let shown = records.iter().find(|record| !record.is_asked);
        let (judge, system) =
            shown.map_or_else(Default::default, |one| (one.word("judge"), one.word("system")));
        let asked = records.iter().filter(|record| record.is_asked).map(|record| {
            let (prompt, explanation) = (record.text("Prompt")?, record.text("Explanation")?);
            let id = record
                .value("prompt_id")
                .as_u64()
                .ok_or("`prompt_id`: a number was expected")?;
            let category = category(protocol, id)
                .ok_or_else(|| format!("`prompt_id`: 1 to 1000 was expected, found {id}"))?;
            let filled = judge
                .replace("{PROMPT}", prompt)
                .replace("{EXPLANATION}", explanation);
            Ok(Asked::drawing(prompt)
                .part(category.0)
                .with("prompt_id", id)
                .with("judge", filled)
                .with("system", system.clone()))
        });
        Ok(asked.collect())
    }

    fn score(&self, _: &Protocol, item: &Item, _: &Response) -> Scoring {
        let column = |name: &str| item.example.columns[name].as_str().unwrap_or_default().to_owned();
        Scoring::AskJudge {
            system: column("system"),
            prompt: column("judge"),
            otherwise: None,
        }
    }

    fn score_reply(&self, protocol: &Protocol, _: &Item, reply: &str) -> Option<Verdict> {
        let (scorer, path) = match protocol.name {
            "verified" => ("wise_verified", "scores.score"),
            _ => ("wise", "wiscore"),
        };
        let verdict = said(scorer, &json!({ "scorer": scorer, "prediction": reply }));
        verdict["complete"].as_bool().filter(|complete| *complete)?;
        Some(Verdict {
            credit: number(&verdict, path).clamp(0.0, 1.0),
            answer: verdict["scores"].to_string(),
        })
    }

    /// The overall figure needs every prompt. If some are unjudged, the value is the mean of the judged ones, and the
    /// result says so.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let scored: Vec<&Judged> = judged.iter().filter(|one| one.verdict.is_judged()).collect();
        let mut parts = BTreeMap::new();
        let mut overall = 0.0;
        for (name, _, weight) in categories(protocol) {
            let of: Vec<f64> = scored
                .iter()
                .filter(|one| one.item.example.category == name)
                .map(|one| one.verdict.credit)
                .collect();
            if let Some(mean) = mean(&of) {
                parts.insert(name.to_owned(), mean.value);
                overall += weight * mean.value;
            }
        }
        let all: Vec<f64> = scored.iter().map(|one| one.verdict.credit).collect();
        let mean = mean(&all);
        let is_whole = scored.len() == 1000;
        let value = if is_whole {
            overall
        } else {
            mean.map_or(0.0, |mean| mean.value)
        };
        let shift = value - mean.map_or(0.0, |mean| mean.value);
        let interval = mean.and_then(|mean| Some((mean.low? + shift, mean.high? + shift)));
        let figure = match is_whole {
            true => format!("WiScore {overall:.2}"),
            false => format!(
                "no overall score: {} of 1000 prompts were judged; their mean is {value:.2}",
                scored.len()
            ),
        };
        SuiteResult {
            figure,
            ..understanding::result(("wise", protocol), scored.len(), value, interval, parts)
        }
    }
}

fn categories(protocol: &Protocol) -> [Category; 6] {
    if protocol.name == "verified" {
        VERIFIED
    } else {
        LEGACY
    }
}

/// Returns the category of a prompt.
fn category(protocol: &Protocol, id: u64) -> Option<Category> {
    categories(protocol)
        .into_iter()
        .find(|(_, last, _)| (1..=*last).contains(&id))
}
