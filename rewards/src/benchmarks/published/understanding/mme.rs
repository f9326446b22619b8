//! The benchmark `mme`: fourteen tasks of yes-or-no questions, two a picture (arXiv 2306.13394).
//!
//! Files: the release's folders of pictures and texts, VLMEvalKit's `MME.tsv`, or the hub's `lmms-lab/MME`. The figure
//! that papers call MME is perception, of 2000; cognition has 800. The two questions of a picture are never separated.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said, spread};
use super::{WORDS, mmada, prompt, protocol, result};
use crate::benchmarks::{BenchmarkSource, Figure, Item, Judged, Protocol, SuiteError, SuiteResult, Verdict};
use crate::scorers::understanding::prompts::SHORT;

const DESCRIPTION: Description = Description {
    name: "mme",
    about: "perception and cognition, by pairs of yes-or-no questions",
    size: 2374,
    source: BenchmarkSource {
        licence: "research use, on request",
        megabytes: 864,
        is_gated: false,
        hub: Some("lmms-lab/MME"),
        files: &["data/*"],
        from: "https://github.com/BradyFU/Awesome-Multimodal-Large-Language-Models",
        places: &["benchmarks/mme", "mme"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    protocol("official", "perception", WORDS).published(&[Figure {
        model: "LLaVA-1.5-7B",
        value: 1510.7,
        cited: "LLaVA MODEL_ZOO",
    }]),
    mmada("perception"),
    protocol("vlmevalkit", "perception", WORDS),
];

/// The highest perception score.
const PERCEPTION: f64 = 2000.0;
/// The highest score of a task.
const TASK: f64 = 200.0;
/// Folders of the release that are not tasks.
const INNER: [&str; 2] = ["images", "questions_answers_YN"];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Mme;

impl Published for Mme {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let texts = files.named(|name| name.ends_with(".txt") && !name.contains("eval_tool"));
        if !texts.is_empty() {
            return texts
                .into_iter()
                .map(|name| of_text(files, name))
                .collect::<Result<Vec<_>, _>>()
                .map(|all| all.concat());
        }
        let rows = files.rows(|name| !name.contains("eval_tool"))?;
        Ok(rows
            .into_iter()
            .map(|(_, mut record)| {
                let named = ["image_path", "question_id"].iter().map(|name| record.word(name));
                let picture = named
                    .into_iter()
                    .find(|name| !name.is_empty())
                    .unwrap_or_default();
                record.fields.values.insert("picture".to_owned(), picture.into());
                record
            })
            .collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let asked = records.iter().map(|record| {
            let (question, task) = (record.text("question")?, record.text("category")?);
            let row: Map<String, Value> = [("question".to_owned(), Value::from(question))]
                .into_iter()
                .collect();
            let text = match protocol.name {
                "official" => format!("{question}\n{SHORT}"),
                _ => prompt(protocol, "MME", &row),
            };
            let picture = record.word("picture");
            Ok(Asked::question(text, record.text("answer")?)
                .part(task)
                .grouped(format!("{task}/{picture}"))
                .with("picture", picture))
        });
        Ok(asked.collect())
    }

    fn verdict(&self, protocol: &Protocol, item: &Item, reply: &str) -> Verdict {
        let read = said("mme.answer", &case([("prediction", reply.into())]));
        let (path, kept) = match protocol.name {
            "official" => ("official", reply.trim()),
            "mmada" => (
                "mmada_then_vlmevalkit",
                read["mmada_post"].as_str().unwrap_or_default(),
            ),
            _ => ("vlmevalkit", reply),
        };
        let found = read[path].as_str().unwrap_or_default();
        Verdict {
            answer: kept.replace('\n', " "),
            ..found.eq_ignore_ascii_case(&item.example.reference()).into()
        }
    }

    // The interval is over pictures, not over questions, because the score counts the two questions of a picture
    // together.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut groups: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
        for one in judged {
            groups
                .entry(one.item.group.as_deref().unwrap_or_default())
                .or_default()
                .push(one);
        }
        let groups: Vec<Vec<&Judged>> = groups.into_values().collect();
        let set = scores(protocol, groups.iter().flatten().copied());
        let perception = number(&set, "perception");
        let mut parts = BTreeMap::new();
        let tasks = if protocol.name == "official" {
            &set["tasks"]
        } else {
            &set
        };
        for (task, figures) in tasks.as_object().into_iter().flatten() {
            let score = figures.as_f64().or_else(|| figures["score"].as_f64());
            if !matches!(task.as_str(), "perception" | "reasoning")
                && let Some(score) = score
            {
                parts.insert(task.clone(), score / TASK);
            }
        }
        let cognition = ["cognition", "reasoning"]
            .iter()
            .find_map(|name| set[*name].as_f64())
            .unwrap_or(0.0);
        parts.insert("(cognition, of 800)".to_owned(), cognition / 800.0);
        let shares = MmeShares::of(&groups);
        let interval = spread::interval(groups.len(), |drawn| shares.perception(drawn) / PERCEPTION);
        SuiteResult {
            figure: format!("{perception:.1} of 2000, cognition {cognition:.1} of 800"),
            ..result(
                (self.name(), protocol),
                judged.len(),
                perception / PERCEPTION,
                interval,
                parts,
            )
        }
    }
}

/// Reads the two questions of a text of the release, with their picture.
fn of_text(files: &Files, name: &str) -> Result<Vec<PublishedRecord>, SuiteError> {
    let path = files.path(name);
    let text = files
        .text(name)
        .map_err(|error| SuiteError::Absent(format!("benchmark mme: {}: {error}", path.display())))?;
    let mut folders: Vec<&str> = name.split('/').collect();
    let file = folders.pop().unwrap_or_default();
    let stem = file.trim_end_matches(".txt");
    if folders.last().is_some_and(|last| INNER.contains(last)) {
        folders.pop();
    }
    let task = folders.last().copied().unwrap_or_default();
    let below = folders.join("/");
    let is_picture = |other: &str| {
        let inside = other
            .strip_prefix(&below)
            .unwrap_or_default()
            .trim_start_matches('/');
        let inside = inside.strip_prefix("images/").unwrap_or(inside);
        inside
            .rsplit_once('.')
            .is_some_and(|(own, end)| own == stem && end != "txt")
    };
    let picture = files.named(is_picture).first().map(|name| (*name).to_owned());
    let base = picture
        .as_deref()
        .and_then(|name| name.rsplit('/').next())
        .unwrap_or(stem)
        .to_owned();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).zip(1..);
    Ok(lines
        .map(|(line, number)| {
            let place = format!("{}:{number}", path.display());
            let Some((question, answer)) = line.split_once('\t') else {
                return PublishedRecord::broken(
                    place,
                    "a question, a tab, and Yes or No were expected".to_owned(),
                );
            };
            let row =
                json!({ "question": question, "answer": answer.trim(), "category": task, "picture": base });
            let found = match &picture {
                Some(name) => Ok(demask_datasets::formats::Encoded::File(files.path(name))),
                None => Err(format!("the picture {stem} is not beside its text")),
            };
            PublishedRecord::of_object(place, &row).about(found)
        })
        .collect())
}

/// Computes all tasks' scores.
fn scores<'a>(protocol: &Protocol, judged: impl Iterator<Item = &'a Judged>) -> Value {
    let rows: Vec<Value> = judged
        .map(|one| {
            let example = &one.item.example;
            json!({
                "category": example.category, "image": example.columns["picture"],
                "answer": example.reference(), "prediction": one.verdict.answer,
            })
        })
        .collect();
    let harness = if protocol.name == "official" {
        "official"
    } else {
        "vlmevalkit"
    };
    said("mme.set", &json!({ "rows": rows }))[harness].clone()
}

/// The task, right answers and questions of each picture.
struct MmeShares(Vec<(String, f64, f64)>);

impl MmeShares {
    fn of(groups: &[Vec<&Judged>]) -> Self {
        let one = |group: &Vec<&Judged>| {
            let right = group.iter().map(|one| one.verdict.credit).sum();
            let task = group
                .first()
                .map_or_else(String::new, |one| one.item.example.category.clone());
            (task, right, group.len() as f64)
        };
        Self(groups.iter().map(one).collect())
    }

    /// Computes the perception score of resampled pictures: per task, the share of right answers plus the share of
    /// right pictures, in hundredths.
    fn perception(&self, drawn: &[usize]) -> f64 {
        const COGNITION: [&str; 4] = [
            "commonsense_reasoning",
            "numerical_calculation",
            "text_translation",
            "code_reasoning",
        ];
        let mut tasks: BTreeMap<&str, [f64; 4]> = BTreeMap::new();
        for (task, right, questions) in drawn.iter().map(|at| &self.0[*at]) {
            let sums = tasks.entry(task).or_default();
            let both = f64::from(u8::from(right >= questions));
            *sums = [
                sums[0] + right,
                sums[1] + questions,
                sums[2] + both,
                sums[3] + 1.0,
            ];
        }
        let scores = tasks.iter().filter(|(task, _)| !COGNITION.contains(task));
        scores
            .map(|(_, sums)| 100.0 * (sums[0] / sums[1] + sums[2] / sums[3]))
            .sum()
    }
}
