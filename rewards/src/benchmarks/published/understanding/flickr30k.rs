//! The benchmark `flickr30k`: captions compared with those of five people (TACL 2014), by CIDEr.
//!
//! Files: Karpathy's `dataset_flickr30k.json`, the original `results_20130124.token`, nlphuji's CSV file, the hub's
//! `lmms-lab/flickr30k`, or a table in VLMEvalKit's caption form; with pictures beside them.
//!
//! - `official`: the 1000 pictures of Karpathy's test split, if a file has splits.
//! - `lmms-eval`: every picture, as for Show-o's and most likely MMaDA's results.
//!
//! CIDEr depends on the number of pictures, so the two are not comparable, nor is a run with a limit.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord, texts};
use super::super::{Description, Published, number, said, spread};
use super::{protocol, result};
use crate::benchmarks::{BenchmarkSource, Figure, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict};

/// The tokens, steps and block of a caption.
const CAPTION: (usize, usize, usize) = (64, 64, 64);
/// lmms-eval's prompt.
const PROMPT: &str = "Provide a one-sentence caption for the provided image.";
/// VLMEvalKit's prompt.
const KIT_PROMPT: &str = "Please describe this image in general. Directly provide the description, do not include prefix like \"This image depicts\". ";

const DESCRIPTION: Description = Description {
    name: "flickr30k",
    about: "captions, compared with those of five people",
    size: 31_783,
    source: BenchmarkSource {
        licence: "research use; Flickr's terms",
        megabytes: 4400,
        is_gated: false,
        hub: Some("lmms-lab/flickr30k"),
        files: &["data/*"],
        from: "https://shannon.cs.illinois.edu/DenotationGraph",
        places: &["benchmarks/flickr30k", "flickr30k"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "cider", CAPTION),
    protocol("lmms-eval", "cider", CAPTION).published(&[Figure {
        model: "Show-o",
        value: 62.5,
        cited: "Show-o issue 60",
    }]),
    protocol("vlmevalkit", "cider", CAPTION),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Flickr30k;

impl Published for Flickr30k {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, protocol: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let mut records = match files
            .named(|name| name.ends_with("dataset_flickr30k.json"))
            .first()
        {
            Some(name) => karpathy(files, name)?,
            None => match files.named(|name| name.ends_with(".token")).first() {
                Some(name) => tokens(files, name)?,
                None => tables(files)?,
            },
        };
        let tells_splits = records.iter().any(|record| record.word("split") == "test");
        if protocol.name == "official" && tells_splits {
            records.retain(|record| record.broken.is_some() || record.word("split") == "test");
        }
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let text = if protocol.name == "vlmevalkit" {
            KIT_PROMPT
        } else {
            PROMPT
        };
        let asked = records.iter().map(|record| {
            let captions = record.texts("captions")?;
            let first = captions
                .first()
                .cloned()
                .ok_or("`captions`: at least one was expected")?;
            Ok(Asked::question(text, first).with("captions", captions))
        });
        Ok(asked.collect())
    }

    /// A single caption has no CIDEr, which depends on all others; an item shows its ROUGE-L instead.
    fn verdict(&self, _: &Protocol, item: &Item, reply: &str) -> Verdict {
        let set = corpus(&[(item, reply)]);
        Verdict {
            credit: number(&set["official"], "ROUGE_L").clamp(0.0, 1.0),
            answer: reply.trim().to_owned(),
        }
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let all: Vec<(&Item, &str)> = judged
            .iter()
            .map(|one| (&one.item, one.verdict.answer.as_str()))
            .collect();
        let set = corpus(&all);
        let scored = if protocol.name == "vlmevalkit" {
            &set["vlmevalkit_untokenised"]
        } else {
            &set["official"]
        };
        let cider = number(scored, "CIDEr");
        let mut parts = BTreeMap::from([("ROUGE_L".to_owned(), number(scored, "ROUGE_L"))]);
        for (at, bleu) in scored["Bleu"].as_array().into_iter().flatten().enumerate() {
            parts.insert(format!("BLEU-{}", at + 1), bleu.as_f64().unwrap_or(0.0));
        }
        let each: Vec<f64> = set["official"]["CIDEr_per_image"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_f64)
            .collect();
        let mean = |drawn: &[usize]| drawn.iter().map(|at| each[*at]).sum::<f64>() / drawn.len() as f64;
        SuiteResult {
            figure: format!("CIDEr {:.1} over {} pictures", 100.0 * cider, judged.len()),
            ..result(
                (self.name(), protocol),
                judged.len(),
                cider,
                spread::interval(each.len(), mean),
                parts,
            )
        }
    }
}

/// Returns the official scorers' verdict on captions.
fn corpus(all: &[(&Item, &str)]) -> Value {
    let predictions: Vec<&str> = all.iter().map(|(_, reply)| *reply).collect();
    let references: Vec<Vec<String>> = all
        .iter()
        .map(|(item, _)| {
            item.example
                .columns
                .get("captions")
                .and_then(texts)
                .unwrap_or_default()
        })
        .collect();
    said(
        "flickr30k",
        &json!({ "kind": "corpus", "predictions": predictions, "references": references }),
    )
}

fn karpathy(files: &Files, name: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let document = files.document(name)?;
    let pictures = document["images"].as_array().into_iter().flatten().zip(1..);
    Ok(pictures
        .map(|(row, line): (&Value, i32)| {
            let captions = row["sentences"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["raw"].as_str());
            let captions: Vec<&str> = captions.collect();
            let file = row["filename"].as_str().unwrap_or_default();
            let record = json!({ "captions": captions, "split": row["split"], "filename": file });
            PublishedRecord::of_object(format!("{name}:{line}"), &record).about(files.picture(file))
        })
        .collect())
}

/// Reads the original file: `NAME.jpg#K`, a tab, the caption.
fn tokens(files: &Files, name: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let path = files.path(name);
    let text = files
        .text(name)
        .map_err(|error| SuiteError::Absent(format!("benchmark flickr30k: {}: {error}", path.display())))?;
    let mut pictures: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in text.lines() {
        if let Some((named, caption)) = line.split_once('\t') {
            let file = named.split('#').next().unwrap_or(named);
            pictures.entry(file).or_default().push(caption);
        }
    }
    Ok(pictures
        .into_iter()
        .map(|(file, captions)| {
            let record = json!({ "captions": captions, "filename": file });
            PublishedRecord::of_object(format!("{name}:{file}"), &record).about(files.picture(file))
        })
        .collect())
}

/// Reads tables with captions in `caption`, `raw` or `answer`, as a list or as the text of one.
fn tables(files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
    let rows = files.rows(|_| true)?;
    Ok(rows
        .into_iter()
        .map(|(_, mut record)| {
            let value = ["caption", "raw", "answer"]
                .iter()
                .map(|name| record.value(name))
                .find(|value| !value.is_null());
            let captions = match value {
                Some(Value::String(text)) => serde_json::from_str(text)
                    .ok()
                    .or_else(|| demask_datasets::formats::tables::python_list::strings(text)),
                Some(value) => texts(value),
                None => None,
            };
            let captions: Vec<String> = captions.unwrap_or_default();
            record
                .fields
                .values
                .insert("captions".to_owned(), json!(captions));
            match record.picture.is_some() {
                true => record,
                false => {
                    let file = record.word("filename");
                    record.about(files.picture(&file))
                }
            }
        })
        .collect())
}
