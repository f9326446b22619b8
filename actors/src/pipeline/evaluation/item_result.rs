//! One item of a benchmark with what the model gave for it: what a suite's result is made of, and the row that is kept.

use demask_datasets::example::Kind;
use demask_datasets::pictures::file::png;
use demask_rewards::benchmarks::{Item, Judged, Verdict};
use demask_rewards::judge::{Completion, Judge};
use demask_rewards::verifiers::thought;
use demask_storage::{Blobs, EvalItem, StoreError};

/// What stands in place of a question that may not be shown.
const SECRET: &str = "(not kept: its authors ask that it is not shown)";

/// What a judge said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JudgeReply {
    /// What can be read.
    Said(String),
    /// What cannot be read, each time.
    Rambled(String),
    /// Nothing: why.
    Silent(String),
}

impl std::fmt::Display for JudgeReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Said(said) => f.write_str(said),
            Self::Rambled(said) => write!(f, "the judge said what cannot be read: {said}"),
            Self::Silent(why) => write!(f, "the judge was silent: {why}"),
        }
    }
}

/// An item, judged.
#[derive(Clone, Debug)]
pub struct ItemResult {
    /// The item's number within the suite, from 0.
    pub number: usize,
    /// The item and the verdict.
    pub judged: Judged,
    /// What the model gave; none where choices were asked about, or the item was too long to be asked.
    pub completion: Option<Completion>,
    /// The output in words; for a drawing what the detector reads.
    pub output: String,
    /// What a judge, a detector or a network said of it, where one was asked.
    pub reply: Option<JudgeReply>,
    /// Forward passes.
    pub forwards: usize,
    /// Seconds: the item's share of the batch that it ran in.
    pub seconds: f64,
}

impl ItemResult {
    /// An item that the model gave a completion for.
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

    /// An item whose choices the model was asked about, with their log-likelihoods in words.
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

    /// An item that the model cannot even be asked: it counts as wrong, since no figure is bettered by leaving it out.
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

    /// Keeps no picture that was decoded for asking, nor a drawing: both were kept with the item's row.
    pub(crate) fn let_go_of_pictures(&mut self) {
        if self.judged.item.picture.is_none() {
            return;
        }
        self.judged.item.example.picture = None;
    }

    /// Whether the suite's value counts it.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        !self.judged.item.example.held_out
    }

    /// The item's row, its pictures kept as PNG.
    ///
    /// # Errors
    /// The file system's.
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

    /// The output, and below it what a judge said of it.
    fn output_with_reply(&self) -> String {
        match &self.reply {
            Some(reply) => format!("{}\njudge: {reply}", self.output),
            None => self.output.clone(),
        }
    }

    /// The answer as it was read: by the benchmark where it says so, else what follows the reasoning, or what was drawn.
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
