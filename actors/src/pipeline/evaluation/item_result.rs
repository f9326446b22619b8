//! One item of a benchmark with the model's answer and the verdict: the parts of a suite's result, and the row that is
//! stored.

use demask_datasets::example::Kind;
use demask_datasets::pictures::file::png;
use demask_rewards::benchmarks::{Item, Judged, Verdict};
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::verifiers::thought;
use demask_storage::{Blobs, EvalItem, StoreError};

/// Text in place of a question that must not be shown.
const SECRET: &str = "(not stored, because the benchmark's authors ask not to publish it)";

/// The line of a row's output from which on the reply of a judge stands.
const JUDGE: &str = "\njudge: ";
/// The beginning of the words for a judge that did not reply.
const SILENT: &str = "the judge did not reply: ";

/// The reply of a judge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JudgeReply {
    /// A reply that could be read.
    Said(String),
    /// The last reply, if none of them could be read.
    Rambled(String),
    /// No reply, with the reason.
    Silent(String),
}

impl std::fmt::Display for JudgeReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(said) => f.write_str(said),
            Self::Rambled(said) => write!(f, "the judge's reply cannot be parsed: {said}"),
            Self::Silent(why) => write!(f, "{SILENT}{why}"),
        }
    }
}

/// Whether the judge of a stored item did not reply. Its verdict says nothing about the model, so it is not taken for
/// that of another evaluation.
#[must_use]
pub fn lacks_a_reply(row: &EvalItem) -> bool {
    row.output.contains(&format!("{JUDGE}{SILENT}"))
}

/// A judged item.
#[derive(Clone, Debug)]
pub struct ItemResult {
    /// Number of the item within the suite, from 0.
    pub number: usize,
    /// The item and its verdict.
    pub judged: Judged,
    /// The model's completion; `None` if choices were compared, or if the item was too long to be asked.
    pub completion: Option<Completion>,
    /// The output in words; for a drawing, what the detector reads.
    pub output: String,
    /// Reply of a judge, a detector or a network, where one was asked.
    pub reply: Option<JudgeReply>,
    /// Number of forward passes.
    pub forwards: usize,
    /// Seconds: the item's share of the time of its batch.
    pub seconds: f64,
}

impl ItemResult {
    /// Makes the result of an item that the model completed.
    #[must_use]
    pub fn answered(
        number: usize,
        item: Item,
        verdict: Verdict,
        completion: Completion,
        judge: &Judge,
    ) -> Self {
        let output = judge.words(&completion);
        Self {
            number,
            judged: Judged { item, verdict },
            completion: Some(completion),
            output,
            reply: None,
            forwards: 0,
            seconds: 0.0,
        }
    }

    /// Makes the result of an item whose choices were compared, with their log-likelihoods in words.
    #[must_use]
    pub fn chosen(number: usize, item: Item, verdict: Verdict, output: String) -> Self {
        Self {
            number,
            judged: Judged { item, verdict },
            completion: None,
            output,
            reply: None,
            forwards: 0,
            seconds: 0.0,
        }
    }

    /// Makes the result of an item that the model could not be asked. It counts as wrong, so that leaving items out
    /// improves no result.
    #[must_use]
    pub fn too_long(number: usize, item: Item, why: String) -> Self {
        Self {
            number,
            judged: Judged {
                item,
                verdict: Verdict::from(false),
            },
            completion: None,
            output: format!("not asked: {why}"),
            reply: None,
            forwards: 0,
            seconds: 0.0,
        }
    }

    /// Drops a picture that was decoded for asking. It was stored with the item's row.
    pub(crate) fn let_go_of_pictures(&mut self) {
        if self.judged.item.picture.is_none() {
            return;
        }
        self.judged.item.example.picture = None;
    }

    /// Returns whether the suite's value counts the item.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        !self.judged.item.example.held_out
    }

    /// Returns the item's row, and stores its pictures as PNG.
    ///
    /// # Errors
    /// Any error of the file system.
    pub fn row(&self, (run, step, suite): (&str, u64, &str), blobs: &Blobs) -> Result<EvalItem, StoreError> {
        let Judged { item, verdict } = &self.judged;
        let example = &item.example;
        let shown = matches!(example.kind, Kind::Caption | Kind::Scene | Kind::Question);
        let asked = example.picture.as_ref().filter(|_| shown);
        let drawn = self
            .completion
            .as_ref()
            .and_then(|completion| completion.picture.as_ref());
        Ok(EvalItem {
            run: run.to_owned(),
            step,
            suite: suite.to_owned(),
            number: self.number as u64,
            item: example.id.clone(),
            category: example.category.clone(),
            counted: self.is_counted(),
            prompt: match item.is_secret {
                true => SECRET.to_owned(),
                false => example.prompt.clone(),
            },
            picture: asked.map(|picture| blobs.put(&png(picture))).transpose()?,
            output: self.output_with_reply(),
            drawn: drawn.map(|picture| blobs.put(&png(picture))).transpose()?,
            answer: self.answer(),
            reference: example.reference(),
            credit: verdict.credit,
            tokens: self
                .completion
                .as_ref()
                .map_or(0, |completion| completion.tokens as u64),
            forwards: self.forwards as u64,
            seconds: self.seconds,
        })
    }

    /// Returns the output, and below it the reply of a judge.
    fn output_with_reply(&self) -> String {
        match &self.reply {
            Some(reply) => format!("{}{JUDGE}{reply}", self.output),
            None => self.output.clone(),
        }
    }

    /// Returns the answer as it was read: by the benchmark if it says so, else the text after the reasoning, or the
    /// content of the drawing.
    fn answer(&self) -> String {
        let read = &self.judged.verdict.answer;
        match &self.completion {
            _ if !read.is_empty() => read.clone(),
            Some(completion) if completion.picture.is_none() => {
                thought::split(&completion.text).result.to_owned()
            }
            Some(_) => self.output.clone(),
            None => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use demask_datasets::example::Split;
    use demask_datasets::tabletop::Tabletop;

    use super::*;

    #[test]
    fn a_row_tells_whether_its_judge_was_silent() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::new(folder.path().to_owned());
        let row = |reply: JudgeReply| {
            let item = Item::from(Tabletop::new(1).example(Kind::WordProblem, Split::Test, 0));
            let verdict = Verdict::unjudged(&reply.to_string());
            let made = ItemResult::answered(0, item, verdict, Completion::default(), &Judge::default());
            let made = ItemResult {
                reply: Some(reply),
                ..made
            };
            made.row(("run", 0, "suite"), &blobs).unwrap()
        };
        assert!(lacks_a_reply(&row(JudgeReply::Silent(
            "connection refused".into()
        ))));
        assert!(!lacks_a_reply(&row(JudgeReply::Rambled(
            "what a fine drawing".into()
        ))));
        assert!(!lacks_a_reply(&row(JudgeReply::Said("Score: 1".into()))));
    }
}
