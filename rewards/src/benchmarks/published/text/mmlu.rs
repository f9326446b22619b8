//! The benchmark `mmlu`: Measuring Massive Multitask Language Understanding (arXiv 2009.03300), 57 subjects.
//!
//! Files: the hub's `cais/mmlu` (`all/` or a folder a subject), JSON lines with the same columns, or the original CSV
//! files `dev/SUBJECT_dev.csv`, `test/SUBJECT_test.csv`.
//!
//! - `llada-base`: lm-eval's `mmlu`, five shots of the subject's `dev` rows, the likeliest letter. A letter is one
//!   token, so one forward pass is exact.
//! - `llada-instruct`: OpenCompass' `mmlu_gen_a484b3` as a chat, 3 tokens, the mean of the subjects.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use demask_datasets::example::Turn;
use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, case, number, said};
use super::{letter, lettered, of_likelihoods, right_choice, shots};
use crate::benchmarks::{
    BenchmarkSource, Figure, Item, ItemRequest, Judged, Protocol, SuiteError, SuiteResult, Verdict, accuracy,
    mean_of_categories,
};

/// The group of each subject.
static SUBJECTS: LazyLock<Value> = LazyLock::new(|| shots(include_str!("shots/mmlu_subjects.json")));
/// The number of shots.
const SHOTS: usize = 5;
/// The columns of the original files, which have no header line.
const COLUMNS: [&str; 6] = ["question", "A", "B", "C", "D", "answer"];

const DESCRIPTION: Description = Description {
    name: "mmlu",
    about: "57 subjects from school to profession, four choices",
    size: 14_042,
    source: BenchmarkSource {
        licence: "MIT",
        megabytes: 5,
        is_gated: false,
        hub: Some("cais/mmlu"),
        files: &["all/dev-*", "all/test-*"],
        from: "https://people.eecs.berkeley.edu/~hendrycks/data.tar",
        places: &["benchmarks/mmlu", "mmlu"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[
    Protocol::accuracy("llada-base").published(&[Figure {
        model: "LLaDA-8B-Base",
        value: 65.9,
        cited: "arXiv 2502.09992, table 1",
    }]),
    Protocol::of("llada-instruct", "mean_of_categories")
        .decoded(3, 3, 3)
        .published(&[Figure {
            model: "LLaDA-8B-Instruct",
            value: 65.4,
            cited: "LLaDA's EVAL.md, OpenCompass",
        }]),
];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct Mmlu;

impl Published for Mmlu {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let has_all = files.has(|name| name.contains("all/test"));
        let is_meant = |name: &str| {
            let base = name.rsplit('/').next().unwrap_or(name);
            let split = base.starts_with("dev")
                || base.starts_with("test")
                || base.contains("_dev.")
                || base.contains("_test.");
            split && (!has_all || name.contains("all/"))
        };
        let rows = files.rows(is_meant)?;
        Ok(rows
            .into_iter()
            .map(|(name, mut record)| {
                let base = name.rsplit('/').next().unwrap_or(&name).to_owned();
                if record.value("subject").is_null() {
                    let subject = match base.split_once("_dev.").or(base.split_once("_test.")) {
                        Some((subject, _)) => subject,
                        None => name.rsplit('/').nth(1).unwrap_or_default(),
                    };
                    record.fields.values.insert("subject".to_owned(), subject.into());
                }
                match base.contains("dev") {
                    true => record.shown(),
                    false => record,
                }
            })
            .collect())
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let mut shown: BTreeMap<String, Vec<MmluQuestion>> = BTreeMap::new();
        for record in records.iter().filter(|record| !record.is_asked) {
            if let Ok(question) = MmluQuestion::of(record) {
                let of = shown.entry(question.subject.clone()).or_default();
                if of.len() < SHOTS {
                    of.push(question);
                }
            }
        }
        let asked = records.iter().filter(|record| record.is_asked).map(|record| {
            let question = MmluQuestion::of(record)?;
            let shots = shown.get(&question.subject).map_or(&[][..], Vec::as_slice);
            let asked = match protocol.name {
                "llada-instruct" => question.chat(shots),
                _ => Asked::plain(question.with_shots(shots), letter(question.right).to_string()),
            };
            Ok(asked
                .bare(&question.question, &question.choices)
                .part(question.subject.clone())
                .with("answer", question.right))
        });
        Ok(asked.collect())
    }

    fn request(&self, protocol: &Protocol, _: &Item) -> ItemRequest {
        match protocol.name {
            "llada-instruct" => ItemRequest::Generate { may_think: false },
            _ => ItemRequest::likelihood(["A", "B", "C", "D"].map(|one| format!(" {one}")).to_vec(), 1),
        }
    }

    fn verdict(&self, _: &Protocol, item: &Item, reply: &str) -> Verdict {
        let line = case([
            ("prediction", reply.into()),
            ("reference", item.example.reference().into()),
        ]);
        let verdict = said("opencompass_first_option", &line);
        Verdict {
            credit: number(&verdict, "correct"),
            answer: verdict["extracted"].as_str().unwrap_or_default().to_owned(),
        }
    }

    fn likeliest(&self, _: &Protocol, item: &Item, likelihoods: &[f64]) -> Verdict {
        let line = case([
            ("loglikelihoods", json!(likelihoods)),
            ("answer", item.example.columns["answer"].clone()),
        ]);
        let line = with_kind(line, "mmlu");
        of_likelihoods(number(&said("choices", &line), "acc"), likelihoods)
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let mut result = match protocol.name {
            "llada-instruct" => mean_of_categories(self.name(), protocol, judged),
            _ => accuracy(self.name(), protocol, judged),
        };
        let mut groups: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for one in judged {
            let group = SUBJECTS["subjects"][&one.item.example.category].as_str();
            let sums = groups.entry(group.unwrap_or("other")).or_default();
            *sums = (sums.0 + one.verdict.credit, sums.1 + 1.0);
        }
        let shares = groups
            .into_iter()
            .map(|(group, (right, all))| (format!("({group})"), right / all));
        result.parts.extend(shares);
        result
    }
}

/// Adds the scorer's name to a case.
pub(super) fn with_kind(mut line: Value, scorer: &str) -> Value {
    line["scorer"] = scorer.into();
    line
}

/// A question with its choices.
struct MmluQuestion {
    subject: String,
    question: String,
    choices: Vec<String>,
    right: usize,
}

impl MmluQuestion {
    fn of(record: &PublishedRecord) -> Result<Self, String> {
        let choices = match record.value("choices") {
            Value::Null => COLUMNS[1..5]
                .iter()
                .map(|name| record.text(name).map(str::to_owned))
                .collect::<Result<_, _>>()?,
            _ => record.texts("choices")?,
        };
        if choices.len() != 4 {
            return Err(format!("`choices`: four were expected, found {}", choices.len()));
        }
        Ok(Self {
            subject: record.word("subject"),
            question: record.text("question")?.to_owned(),
            right: right_choice(record, "answer", choices.len())?,
            choices,
        })
    }

    fn asked(&self) -> String {
        format!("{}{}\nAnswer:", self.question.trim(), lettered(&self.choices))
    }

    /// Writes lm-eval's `mmlu`: the subject, the shots, the question.
    fn with_shots(&self, shots: &[Self]) -> String {
        let subject = self.subject.replace('_', " ");
        let mut text =
            format!("The following are multiple choice questions (with answers) about {subject}.\n\n");
        for shot in shots {
            text.push_str(&format!("{} {}\n\n", shot.asked(), letter(shot.right)));
        }
        text + &self.asked()
    }

    /// Writes OpenCompass' `mmlu_gen_a484b3`.
    fn chat(&self, shots: &[Self]) -> Asked {
        let subject = self.subject.replace('_', " ");
        let hint = format!(
            "There is a single choice question about {subject}. Answer the question by replying A, B, C or D."
        );
        let mut turns = Vec::new();
        for shot in shots {
            let asked = format!(
                "{hint}\nQuestion: {}{}\nAnswer: ",
                shot.question,
                lettered(&shot.choices)
            );
            turns.push(Turn::user(&asked));
            turns.push(Turn {
                role: "assistant".to_owned(),
                content: format!("{}\n", letter(shot.right)),
            });
        }
        let last = format!("{hint}\nQ: {}{}\nA: ", self.question, lettered(&self.choices));
        if !turns.is_empty() {
            turns.push(Turn::user(&last));
        }
        Asked {
            turns,
            ..Asked::text(last, letter(self.right).to_string())
        }
    }
}
