//! The benchmark `mmbench`: multiple choice about pictures, asked in every rotation of the options (arXiv 2307.06281),
//! the English dev split.
//!
//! Files: VLMEvalKit's `MMBench_DEV_EN.tsv` (or its older `mmbench_dev_20230712.tsv`, or the cleaned `…_V11`), or the
//! hub's `lmms-lab/MMBench`, folder `en`. A question counts only if every rotation of it is right (CircularEval); all
//! its rotations are asked together, whatever the limit. `mmada` is MMaDA's copy of VLMEvalKit; `vlmevalkit` is its
//! current version.
//!
//! A reply that names no option is wrong unless a judge is given (`--judge`). The judge is then asked as in VLMEvalKit:
//! up to three times, until its own reply can be matched in the same way. After that, an option or none is drawn by a
//! seed of the question. The judge's prompt is VLMEvalKit's, or that of `judge_prompt.txt` beside the table, with the
//! placeholders `{QUESTION}`, `{OPTIONS}` and `{ANSWER}`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::asked::Asked;
use super::super::files::{Files, PublishedRecord};
use super::super::{Description, Published, number, said, spread};
use super::{WORDS, inferred, letter_verdict, mmada, options, prompt, protocol, result, row};
use crate::benchmarks::{
    BenchmarkSource, Item, Judged, Protocol, Response, Scoring, SuiteError, SuiteResult, Verdict,
};
use crate::scorers::twister::Twister;
use crate::verifiers::thought;

/// The file of the judge's prompt, if it is not VLMEvalKit's.
const JUDGE: &str = "judge_prompt.txt";
/// A judge's verdict on a reply that names no option.
const NONE: &str = "Z";

/// The distance of the indices of a question's rotations.
const OFFSET: i64 = 1_000_000;
/// The tables, the preferred one first.
const TABLES: [&str; 4] = [
    "mmbench_dev_en.tsv",
    "en/dev",
    "mmbench_dev_20230712.tsv",
    "mmbench_dev_en_v11.tsv",
];

const DESCRIPTION: Description = Description {
    name: "mmbench",
    about: "twenty abilities of seeing and reasoning, in every rotation of the options",
    size: 4329,
    source: BenchmarkSource {
        licence: "Apache-2.0",
        megabytes: 110,
        is_gated: false,
        hub: Some("lmms-lab/MMBench"),
        files: &["en/dev-*"],
        from: "https://opencompass.openxlab.space/utils/VLMEval/MMBench_DEV_EN.tsv",
        places: &["benchmarks/mmbench", "mmbench"],
    },
    protocols: PROTOCOLS,
};

const PROTOCOLS: &[Protocol] = &[mmada("circular"), protocol("vlmevalkit", "circular", WORDS)];

/// The benchmark.
#[derive(Clone, Copy, Debug)]
pub struct MmBench;

impl Published for MmBench {
    fn description(&self) -> &'static Description {
        &DESCRIPTION
    }

    fn read(&self, _: &Protocol, files: &Files) -> Result<Vec<PublishedRecord>, SuiteError> {
        let meant = TABLES
            .iter()
            .find(|table| files.has(|name| name.to_lowercase().contains(*table)));
        let Some(table) = meant else {
            return Ok(Vec::new());
        };
        let rows = files.rows(|name| name.to_lowercase().contains(table))?;
        let mut records: Vec<PublishedRecord> = rows.into_iter().map(|(_, record)| record).collect();
        let path = files.path(JUDGE);
        let judge = match files.text(JUDGE) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let words = format!(
                    "benchmark mmbench: the judge's prompt {}: {error}",
                    path.display()
                );
                return Err(SuiteError::Absent(words));
            }
            Ok(judge) => Some(judge),
        };
        if let Some(judge) = judge {
            records.push(PublishedRecord::of_object(JUDGE.to_owned(), &json!({ "judge": judge })).shown());
        }
        Ok(records)
    }

    fn asked(
        &self,
        protocol: &Protocol,
        records: &[PublishedRecord],
    ) -> Result<Vec<Result<Asked, String>>, SuiteError> {
        let judge = records.iter().find(|record| !record.is_asked);
        let judge = judge.map(|record| record.word("judge"));
        let asked = records.iter().filter(|record| record.is_asked).map(|record| {
            let row = row(record);
            let index: i64 = record
                .word("index")
                .parse()
                .map_err(|_| "`index`: a number was expected".to_owned())?;
            let group = record.word("g_index").parse().unwrap_or(index % OFFSET);
            let answer = record.word("answer");
            if answer.is_empty() {
                return Err(
                    "`answer` is missing: the answers of the test split are not published".to_owned(),
                );
            }
            let ability = ["l2-category", "L2-category"]
                .iter()
                .map(|name| record.word(name))
                .find(|one| !one.is_empty());
            let text = prompt(protocol, "MMBench", &row);
            Ok(Asked::question(text, answer)
                .part(record.word("category"))
                .grouped(group.to_string())
                .with("options", options(&row))
                .with("index", index)
                .with("g_index", group)
                .with("question", record.word("question"))
                .with("judge", judge.clone())
                .with("ability", ability.unwrap_or_default()))
        });
        Ok(asked.collect())
    }

    fn score(&self, protocol: &Protocol, item: &Item, response: &Response) -> Scoring {
        let Response::Completion(completion) = response else {
            return Scoring::Done(Verdict::default());
        };
        let reply = thought::split(&completion.text).result;
        let found = inferred(protocol, &item.example.columns["options"], reply);
        let verdict = letter_verdict(found, &item.example.reference());
        if !verdict.answer.is_empty() {
            return Scoring::Done(verdict);
        }
        Scoring::AskJudge {
            system: String::new(),
            prompt: judge_prompt(item, reply),
            otherwise: Some(verdict),
        }
    }

    fn score_reply(&self, protocol: &Protocol, item: &Item, reply: &str) -> Option<Verdict> {
        let found = inferred(protocol, &item.example.columns["options"], reply);
        (!found.is_empty()).then(|| letter_verdict(found, &item.example.reference()))
    }

    fn unread_reply(&self, _: &Protocol, item: &Item) -> Option<Verdict> {
        let columns = &item.example.columns;
        let letters = columns["options"]
            .as_object()
            .into_iter()
            .flat_map(|options| options.keys());
        let mut drawn: Vec<&str> = letters.map(String::as_str).collect();
        drawn.push(NONE);
        let mut draw = Twister::new(columns["index"].as_u64().unwrap_or_default());
        let letter = drawn[draw.below(drawn.len())].to_owned();
        Some(letter_verdict(letter, &item.example.reference()))
    }

    fn may_be_judged(&self) -> bool {
        true
    }

    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        let rows: Vec<Value> = judged.iter().map(row_of).collect();
        let set = said("mmbench", &json!({ "kind": "circular", "rows": rows }));
        let mut parts = BTreeMap::new();
        for (name, share) in set["accuracy"][0].as_object().into_iter().flatten() {
            if let Some(share) = share.as_f64().filter(|_| name != "Overall") {
                parts.insert(name.clone(), share);
            }
        }
        parts.insert(
            "(vanilla)".to_owned(),
            number(&set["vanilla_first_pass"]["accuracy"][0], "Overall"),
        );
        let mut groups: BTreeMap<&str, bool> = BTreeMap::new();
        for one in judged {
            *groups
                .entry(one.item.group.as_deref().unwrap_or_default())
                .or_insert(true) &= one.verdict.credit >= 1.0;
        }
        let right: Vec<f64> = groups.values().map(|right| f64::from(u8::from(*right))).collect();
        let share = |drawn: &[usize]| drawn.iter().map(|at| right[*at]).sum::<f64>() / drawn.len() as f64;
        let value = number(&set["accuracy"][0], "Overall");
        result(
            (self.name(), protocol),
            judged.len(),
            value,
            spread::interval(right.len(), share),
            parts,
        )
    }
}

/// Writes the prompt that asks a judge about a reply.
fn judge_prompt(item: &Item, reply: &str) -> String {
    let columns = &item.example.columns;
    let question = columns["question"].as_str().unwrap_or_default();
    let Some(own) = columns["judge"].as_str() else {
        let line = json!({
            "kind": "judge_choice", "question": question, "choices": columns["options"], "prediction": reply,
        });
        let prompt = said("understanding-prompts.judge_choice", &line);
        return prompt["vlmevalkit"].as_str().unwrap_or_default().to_owned();
    };
    let options = columns["options"].as_object().into_iter().flatten();
    let options: String = options
        .map(|(letter, text)| format!("{letter}. {}\n", text.as_str().unwrap_or_default()))
        .collect();
    // Inserted text is not searched for placeholders again.
    let mut filled = String::with_capacity(own.len() + reply.len());
    let mut rest = own;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let known = [
            ("{QUESTION}", question),
            ("{OPTIONS}", options.trim_end()),
            ("{ANSWER}", reply),
        ];
        let (length, text) = known
            .into_iter()
            .find(|(name, _)| rest.starts_with(name))
            .map_or((1, "{"), |(name, text)| (name.len(), text));
        filled.push_str(text);
        rest = &rest[length..];
    }
    filled + rest
}

/// Makes a row for the official report, with the parsed letter as the prediction. A stored item of which no letter was
/// parsed has its reply there. The report would look for a letter in it by the rules of another version.
fn row_of(one: &Judged) -> Value {
    let example = &one.item.example;
    let found = match one.verdict.answer.len() {
        1 => one.verdict.answer.as_str(),
        _ => "",
    };
    let mut row = json!({
        "index": example.columns["index"], "g_index": example.columns["g_index"], "answer": example.reference(),
        "category": example.category, "l2-category": example.columns["ability"],
        "prediction": found,
    });
    for (letter, text) in example.columns["options"].as_object().into_iter().flatten() {
        row[letter] = text.clone();
    }
    row
}
