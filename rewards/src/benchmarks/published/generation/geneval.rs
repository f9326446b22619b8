//! The benchmark `geneval`: whether drawings show the requested objects, numbers, colours and positions (arXiv
//! 2310.11513); 553 prompts, four drawings each.
//!
//! Its file is `evaluation_metadata.jsonl`. Boxes and colours come from an external detector, either a program
//! (`--detector`) or a file of detections (`--detections`). Every decision on them follows the published script. The
//! result is the unweighted mean of the six tasks' shares of right drawings, and is stored with the detector's name.
//! The tabletop's detector is not used here.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, said};
use crate::benchmarks::{
    BenchmarkSource, Figure, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, Verdict,
    mean_of_categories,
};

/// The drawings per prompt.
const SAMPLES: usize = 4;

const DESCRIPTION: Description = Description {
    name: "geneval",
    about: "whether drawings show the requested objects, by a detector",
    size: 553 * SAMPLES,
    source: BenchmarkSource {
        licence: "MIT",
        megabytes: 1,
        is_gated: false,
        hub: None,
        files: &[],
        from: "https://github.com/djghosh13/geneval, prompts/evaluation_metadata.jsonl",
        places: &["benchmarks/geneval", "geneval"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[Protocol::of("official", "mean_of_tasks").published(&[
    Figure {
        model: "MMaDA-8B",
        value: 63.0,
        cited: "arXiv 2505.15809, table 3",
    },
    Figure {
        model: "Show-o",
        value: 53.0,
        cited: "arXiv 2505.15809, table 3",
    },
])];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct GenEval;

impl Published for GenEval {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let rows = files.rows(|name| name.ends_with("evaluation_metadata.jsonl"))?;
        let numbered = rows.into_iter().enumerate().flat_map(|(prompt, (_, record))| {
            (0..SAMPLES).map(move |sample| {
                let mut record = record.clone();
                let image = format!("{prompt:05}/samples/{sample:04}.png");
                record.fields.values.insert("image".to_owned(), image.into());
                record
            })
        });
        Ok(numbered.collect())
    }

    fn asked(
        &self,
        _: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let asked = records.iter().map(|record| {
            let mut values = record.fields.values.clone();
            let image = values.remove("image").unwrap_or_default();
            if !values.get("include").is_some_and(Value::is_array) {
                return Err("`include`: the list of objects to draw was expected".to_owned());
            }
            Ok(Asked::drawing(record.text("prompt")?)
                .part(record.text("tag")?)
                .grouped(
                    image
                        .as_str()
                        .and_then(|image| image.split('/').next())
                        .unwrap_or_default(),
                )
                .with("metadata", Value::Object(values))
                .with("image", image))
        });
        Ok(asked.collect())
    }

    fn score(&self, _: &Protocol, item: &Item, _: &Response) -> Scoring {
        let classes = item.example.columns["metadata"]["include"]
            .as_array()
            .into_iter()
            .flatten();
        Scoring::AskDetector {
            image: item.example.columns["image"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
            classes: classes
                .filter_map(|one| one["class"].as_str().map(str::to_owned))
                .collect(),
        }
    }

    fn score_reply(&self, _: &Protocol, item: &Item, reply: &str) -> Option<Verdict> {
        let found: Value = serde_json::from_str(reply).ok()?;
        let line = json!({
            "scorer": "geneval",
            "prediction": with_colours(&found)?,
            "reference": item.example.columns["metadata"],
            "options": found.get("options").cloned().unwrap_or_else(|| json!({})),
        });
        let verdict = said("geneval", &line);
        let is_right = verdict["correct"].as_bool()?;
        let reason = verdict["reason"].as_str().unwrap_or_default().replace('\n', "; ");
        Some(Verdict {
            answer: if is_right { "correct".to_owned() } else { reason },
            ..is_right.into()
        })
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut result = mean_of_categories("geneval", protocol, judged);
        let mut prompts: BTreeMap<&str, bool> = BTreeMap::new();
        for one in judged {
            *prompts
                .entry(one.item.group.as_deref().unwrap_or_default())
                .or_default() |= one.verdict.credit >= 1.0;
        }
        let solved = prompts.values().filter(|right| **right).count();
        result.parts.insert(
            "(prompts with a right drawing)".to_owned(),
            solved as f64 / prompts.len().max(1) as f64,
        );
        result
    }
}

/// Normalises detections as the script's own functions have them: boxes by class, each with its colour. `detections`
/// has `[x1, y1, x2, y2, score]`, `colors` a name for each box; a box may also have its colour as a sixth value.
fn with_colours(found: &Value) -> Option<Value> {
    let classes = found.get("detections").unwrap_or(found).as_object()?;
    let mut all = Map::new();
    for (class, boxes) in classes
        .iter()
        .filter(|(class, _)| !matches!(class.as_str(), "options" | "image" | "detector"))
    {
        let colours = found["colors"][class].as_array();
        let boxes: Option<Vec<Value>> = boxes
            .as_array()?
            .iter()
            .enumerate()
            .map(|(at, one)| {
                let mut one = one.as_array()?.clone();
                if let (5, Some(colour)) = (one.len(), colours.and_then(|colours| colours.get(at))) {
                    one.push(colour.clone());
                }
                Some(Value::Array(one))
            })
            .collect();
        all.insert(class.clone(), Value::Array(boxes?));
    }
    Some(Value::Object(all))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use demask_datasets::formats::tables::TableRow;

    #[test]
    fn detections_decide_as_the_script_does() {
        let metadata = json!({
            "tag": "colors", "prompt": "a photo of a red cow", "image": "00000/samples/0000.png",
            "include": [{"class": "cow", "count": 1, "color": "red"}],
        });
        let record = PublishedRecord::of(TableRow {
            place: "x:1".into(),
            fields: demask_datasets::formats::Fields {
                values: metadata.as_object().unwrap().clone(),
                ..Default::default()
            },
        });
        let asked = GenEval
            .asked(&PROTOCOLS[0], std::slice::from_ref(&record))
            .unwrap()
            .remove(0);
        let item = record.item(&GenEval, asked);
        let verdict = |reply: Value| GenEval.score_reply(&PROTOCOLS[0], &item, &reply.to_string());
        let right = json!({"detections": {"cow": [[0, 0, 9, 9, 0.9]]}, "colors": {"cow": ["red"]}});
        assert_eq!(verdict(right).unwrap().credit, 1.0);
        let blue = json!({"detections": {"cow": [[0, 0, 9, 9, 0.9]]}, "colors": {"cow": ["blue"]}});
        assert_eq!(verdict(blue).unwrap().credit, 0.0);
        assert_eq!(verdict(json!({"detections": {}})).unwrap().credit, 0.0);
        assert_eq!(verdict(json!({"detections": {"cow": "none"}})), None);
    }
}
