//! The benchmark `pope`: whether an object is in the picture (arXiv 2305.10355); three splits of 3000 questions.
//!
//! Files: the authors' `coco_pope_{random,popular,adversarial}.json` (JSON lines) with COCO's val2014 pictures,
//! VLMEvalKit's `POPE.tsv` (5127 rows, some of which count in several splits), or the hub's `lmms-lab/POPE`. `official`
//! is the mean of the splits' F1, as LLaVA reports it; `mmada` and `vlmevalkit` are F1 over all.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said, spread};
use super::{WORDS, mmada, protocol, result};
use crate::benchmarks::{BenchmarkSource, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict};
use crate::scorers::understanding::prompts::SHORT;

const DESCRIPTION: Description = Description {
    name: "pope",
    about: "object hallucination: whether the model sees objects that are not in the picture",
    size: 9000,
    source: BenchmarkSource {
        licence: "MIT; COCO's pictures have their own terms",
        megabytes: 250,
        is_gated: false,
        hub: Some("lmms-lab/POPE"),
        files: &["Full/*"],
        from: "https://github.com/RUCAIBox/POPE",
        places: &["benchmarks/pope", "pope"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "f1", WORDS),
    mmada("f1"),
    protocol("vlmevalkit", "f1", WORDS),
];

/// The splits.
const SPLITS: [&str; 3] = ["random", "popular", "adversarial"];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Pope;

impl Published for Pope {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let (official, full) = (files.has(is_official), files.has(|name| name.contains("Full/")));
        let rows = files.rows(|name| match (official, full) {
            (true, _) => is_official(name),
            (false, true) => name.contains("Full/"),
            _ => true,
        })?;
        let named = rows.into_iter().map(|(name, mut record)| {
            if official {
                for (known, own) in [("question", "text"), ("answer", "label")] {
                    let value = record.value(own).clone();
                    record.fields.values.insert(known.to_owned(), value);
                }
                let picture = files.picture(&record.word("image"));
                record = record.about(picture);
            }
            if official || full {
                let split = SPLITS.iter().find(|split| name.contains(*split));
                record
                    .fields
                    .values
                    .insert("category".to_owned(), split.copied().unwrap_or_default().into());
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
        let asked = records.iter().map(|record| {
            let question = record.text("question")?;
            let text = match protocol.name {
                "official" => format!("{question}\n{SHORT}"),
                _ => question.to_owned(),
            };
            Ok(Asked::question(text, record.text("answer")?.to_lowercase()).part(record.text("category")?))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let read = said("pope.answer", &case([("prediction", reply.into())]));
        let (path, kept) = match protocol.name {
            "official" => ("official", reply.trim()),
            "mmada" => (
                "mmada_then_vlmevalkit",
                read["mmada_post"].as_str().unwrap_or_default(),
            ),
            _ => ("vlmevalkit", reply),
        };
        let found = read[path].as_str().unwrap_or_default().to_lowercase();
        Verdict {
            answer: kept.to_owned(),
            ..(found == item.example.reference()).into()
        }
    }

    // The official protocol reports the mean of the splits' F1, VLMEvalKit the F1 over all answers.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let is_official = protocol.name == "official";
        let all: Vec<Answered> = judged
            .iter()
            .flat_map(|one| Answered::of(one, is_official))
            .collect();
        let rows: Vec<Value> = all.iter().map(Answered::row).collect();
        let set =
            &said("pope.set", &json!({ "rows": rows }))[if is_official { "official" } else { "vlmevalkit" }];
        let scale = if is_official { 1.0 } else { 100.0 };
        let mut parts = BTreeMap::new();
        let whole = if is_official { "overall" } else { "Overall" };
        for split in SPLITS
            .iter()
            .copied()
            .chain([whole])
            .filter(|split| set[split].is_object())
        {
            for name in ["f1", "acc", "precision", "recall", "yes_ratio"] {
                if set[split][name].is_number() {
                    parts.insert(
                        format!("{split} {name}"),
                        number(set, &format!("{split}.{name}")) / scale,
                    );
                }
            }
        }
        let value = match is_official {
            true => mean_f1(&all, None),
            false => number(set, "Overall.f1") / 100.0,
        };
        let figure = |drawn: &[usize]| match is_official {
            true => mean_f1(&all, Some(drawn)),
            false => f1(drawn.iter().map(|at| &all[*at])),
        };
        result(
            (self.name(), protocol),
            judged.len(),
            value,
            spread::interval(all.len(), figure),
            parts,
        )
    }
}

fn is_official(name: &str) -> bool {
    name.contains("coco_pope_")
}

/// An answered question of one split.
struct Answered {
    split: String,
    is_yes: bool,
    said_yes: bool,
    reply: String,
}

impl Answered {
    /// Makes one for each split of the row.
    fn of(one: &Judged, is_official: bool) -> impl Iterator<Item = Self> + use<'_> {
        let is_yes = one.item.example.reference() == "yes";
        let said_yes = match (one.verdict.credit >= 1.0, is_official) {
            (right, true) => right == is_yes,
            // A reply that is neither yes nor no does not count as yes.
            (right, false) => right && is_yes || !right && !is_yes && says_yes(&one.verdict.answer),
        };
        one.item.example.category.split(',').map(move |split| Self {
            split: split.trim().to_owned(),
            is_yes,
            said_yes,
            reply: one.verdict.answer.clone(),
        })
    }

    fn row(&self) -> Value {
        json!({ "category": self.split, "label": if self.is_yes { "yes" } else { "no" }, "answer": self.reply })
    }
}

fn says_yes(reply: &str) -> bool {
    said("pope.answer", &case([("prediction", reply.into())]))["vlmevalkit"] == "Yes"
}

/// Computes F1 with yes as the positive class; 0 if it is undefined.
fn f1<'a>(answered: impl Iterator<Item = &'a Answered>) -> f64 {
    let (mut both, mut said, mut there) = (0.0, 0.0, 0.0);
    for one in answered {
        both += f64::from(u8::from(one.is_yes && one.said_yes));
        said += f64::from(u8::from(one.said_yes));
        there += f64::from(u8::from(one.is_yes));
    }
    if said + there == 0.0 {
        0.0
    } else {
        2.0 * both / (said + there)
    }
}

/// Computes the mean of the splits' F1.
fn mean_f1(all: &[Answered], drawn: Option<&[usize]>) -> f64 {
    let everything: Vec<usize> = (0..all.len()).collect();
    let drawn = drawn.unwrap_or(&everything);
    let of_split = |split: &str| {
        let of: Vec<&Answered> = drawn
            .iter()
            .map(|at| &all[*at])
            .filter(|one| one.split == split)
            .collect();
        (!of.is_empty()).then(|| f1(of.into_iter()))
    };
    let each: Vec<f64> = SPLITS.iter().filter_map(|split| of_split(split)).collect();
    each.iter().sum::<f64>() / each.len().max(1) as f64
}
