//! The benchmarks, a file each, and the one list of them.
//!
//! A benchmark says where its items come from, what a model is asked about each, how an answer is scored and what all
//! verdicts together amount to. Files may be of any format: `items` reads them. A benchmark that is run in several ways has
//! several protocols; a benchmark under one protocol is a [`Suite`], which is what users name and what has a result.
//! What runs a suite on a model is in `actors`; shared data of several benchmarks is in `shared/`. Benchmarks that a person makes
//! without Rust are in `own/`.

use std::sync::Arc;

use std::path::PathBuf;

use demask_api::PictureSize;
use demask_datasets::data_dir;
use demask_datasets::example::Example;
use demask_datasets::formats::Encoded;

use crate::completion::Completion;
use crate::judge::Judge;
use crate::verifiers::Verifiers;

mod own;
mod protocol;
pub mod published;
mod result;
mod shared;
mod suites;

pub use own::{HeldOut, OwnBenchmark, OwnKind};
pub use protocol::{BenchmarkSource, Decoding, Figure, Protocol};
pub use result::{SuiteError, SuiteResult, accuracy, mean_of_categories};
pub use suites::Suites;

/// A benchmark.
pub trait Benchmark: Send + Sync {
    /// The name that users type.
    fn name(&self) -> &str;

    /// What is measured, in a line.
    fn about(&self) -> &str;

    /// The ways in which the benchmark is run; the first is meant where a user names none.
    fn protocols(&self) -> &'static [Protocol] {
        const { &[Protocol::accuracy("")] }
    }

    /// Where the items come from.
    fn data(&self) -> Data;

    /// The items of a full run, at most.
    fn size(&self) -> usize;

    /// The first `count` items of the test split, the same every time.
    ///
    /// # Errors
    /// The data is not on this machine, or broken: which file, and what to do.
    fn items(&self, protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError>;

    /// What the verdicts need beside the completion.
    ///
    /// # Errors
    /// The data that a verifier learns from is not on this machine, or broken.
    fn verifiers(&self) -> Result<Verifiers, SuiteError> {
        Ok(Verifiers::default())
    }

    /// What the model is asked about an item.
    fn request(&self, _protocol: &Protocol, item: &Item) -> ItemRequest {
        ItemRequest::Generate {
            may_think: item.example.reasoning.is_some(),
        }
    }

    /// The verdict on a response, or the question that a judge model must answer first.
    fn score(&self, protocol: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring;

    /// The verdict on a response, from what a judge model, a network or a detector said; none where that cannot be read.
    fn score_reply(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Option<Verdict> {
        None
    }

    /// The verdict where a judge was asked and never said what can be read; none: nobody could judge the response.
    fn unread_reply(&self, _protocol: &Protocol, _item: &Item) -> Option<Verdict> {
        None
    }

    /// Whether a judge model may be asked though there are verdicts without one: a figure says which it had then.
    fn may_be_judged(&self) -> bool {
        false
    }

    /// The result of all verdicts. The whole set is seen at once, so that an F1 or CIDEr over it, or groups of items that
    /// count only together, are computed here.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        accuracy(self.name(), protocol, judged)
    }

    /// Whether pictures of that size can be judged or shown.
    ///
    /// # Errors
    /// The size that is needed, in words.
    fn check_size(&self, _width: usize, _height: usize) -> Result<(), String> {
        Ok(())
    }
}

/// Where a benchmark's items come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// The items are generated: always there.
    Generated,
    /// The items are in the first of these files or folders that is there.
    Files(&'static [&'static str]),
    /// The items are in a published benchmark's files, in one of the forms that people have.
    Published(&'static BenchmarkSource),
    /// The items are in a file that a person names: they are there if they can be read.
    Given,
}

/// One item.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What is asked and what is right.
    pub example: Example,
    /// The group that the item counts in: the same question with its choices in another order, the two halves of a pair.
    pub group: Option<String>,
    /// The picture that is asked about, not yet decoded: [`Suite::with_picture`] does it when the item is asked.
    pub picture: Option<Encoded>,
    /// Whether its table names the picture as PNG: who writes it under that name loses nothing of it.
    pub is_png: bool,
    /// The question and its choices alone, without what a protocol puts around them; empty where the example says it.
    pub bare: Vec<String>,
    /// Why the row cannot be asked; it counts as wrong then, since no figure is bettered by leaving it out.
    pub broken: Option<String>,
    /// Its text may not be shown or stored: GPQA's authors ask for it.
    pub is_secret: bool,
}

impl From<Example> for Item {
    fn from(example: Example) -> Self {
        Self {
            example,
            group: None,
            picture: None,
            is_png: false,
            bare: Vec::new(),
            broken: None,
            is_secret: false,
        }
    }
}

/// What a model is asked about an item.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemRequest {
    /// A completion of the item's example.
    Generate {
        /// Whether the model may reason first where the run reasons.
        may_think: bool,
    },
    /// The log-likelihood of each choice as the answer to the item's example.
    Likelihood {
        /// The choices, each exactly as the model would write it, a leading space too.
        choices: Vec<String>,
        /// Masked views of each choice of several tokens; one of a single token is exact.
        samples: usize,
        /// Classifier-free guidance scale; 0 is off.
        guidance: f32,
    },
}

impl ItemRequest {
    /// The log-likelihoods of choices, by so many samples each, without guidance.
    #[must_use]
    pub const fn likelihood(choices: Vec<String>, samples: usize) -> Self {
        Self::Likelihood {
            choices,
            samples,
            guidance: 0.0,
        }
    }
}

/// What the model gave.
#[derive(Clone, Copy, Debug)]
pub enum Response<'a> {
    /// A completion.
    Completion(&'a Completion),
    /// The log-likelihood of each choice, in nats, in the order of the request.
    Likelihood(&'a [f64]),
}

impl Response<'_> {
    /// Whether the response is a completion that is right by the item's own check.
    #[must_use]
    pub fn is_right(&self, item: &Item, verifiers: &Verifiers) -> bool {
        match self {
            Self::Completion(completion) => verifiers.is_right(&item.example, completion),
            Self::Likelihood(_) => false,
        }
    }
}

/// How far the scoring of a response got.
#[derive(Clone, Debug, PartialEq)]
pub enum Scoring {
    /// The verdict is known.
    Done(Verdict),
    /// A judge model is asked this over HTTP, with the drawing where there is one; `score_reply` reads what it says.
    AskJudge {
        /// What it is told first; may be empty.
        system: String,
        /// The prompt for the judge model.
        prompt: String,
        /// The verdict where nobody named a judge; absent where there is none without one.
        otherwise: Option<Verdict>,
    },
    /// A reward network is asked how it finds the drawing for this text; `score_reply` reads the number.
    AskNetwork {
        /// `clip`, whose number is the cosine, or `image_reward`.
        network: &'static str,
        /// The text.
        text: String,
    },
    /// A detector is asked what is in the drawing; `score_reply` reads its JSON.
    AskDetector {
        /// The drawing's name in the benchmark's own layout of folders.
        image: String,
        /// The classes of things that are looked for.
        classes: Vec<String>,
    },
    /// The external reward of this name is asked; its value, as a share of its range, is the credit.
    AskReward {
        /// The reward.
        reward: String,
    },
}

/// The verdict on one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// From 0, wrong, to 1, right.
    pub credit: f64,
    /// The answer as it was read, for metrics over the whole set.
    pub answer: String,
}

/// What the answer of an item begins with that nobody could judge.
const UNJUDGED: &str = "unjudged: ";

impl Verdict {
    /// Nobody could judge the response: why. It counts as wrong where a benchmark does not say otherwise.
    #[must_use]
    pub fn unjudged(why: &str) -> Self {
        Self {
            credit: 0.0,
            answer: format!("{UNJUDGED}{why}"),
        }
    }

    /// Whether the response was judged.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        !self.answer.starts_with(UNJUDGED)
    }
}

impl From<bool> for Verdict {
    fn from(is_right: bool) -> Self {
        Self {
            credit: f64::from(u8::from(is_right)),
            answer: String::new(),
        }
    }
}

/// An item with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The item.
    pub item: Item,
    /// The verdict on what the model gave.
    pub verdict: Verdict,
}

/// Declares the files of this folder and lists their benchmarks, so that a benchmark is added by one line. Those of
/// `published/` follow by their rooms.
macro_rules! benchmarks {
    ($($file:ident::$benchmark:ident),* ; $($room:ident::$other:ident::$published:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every benchmark, in the order in which they are shown.
        pub static BENCHMARKS: &[&dyn Benchmark] =
            &[$(&$file::$benchmark,)* $(&published::$room::$other::$published),*];
    };
}

benchmarks! {
    tabletop_draw::TabletopDraw,
    tabletop_ask::TabletopAsk,
    tabletop_sums::TabletopSums,
    fashion_ask::FashionAsk,
    fashion_draw::FashionDraw;
    text::mmlu::Mmlu,
    text::arc_challenge::Arc,
    text::truthfulqa::TruthfulQa,
    text::gsm8k::Gsm8k,
    text::math::Math,
    text::math_500::Math500,
    text::gpqa::Gpqa,
    understanding::pope::Pope,
    understanding::mme::Mme,
    understanding::flickr30k::Flickr30k,
    understanding::vqav2::Vqav2,
    understanding::gqa::Gqa,
    understanding::mmmu::Mmmu,
    understanding::mmbench::MmBench,
    understanding::seed::Seed,
    generation::clip_score::ClipScore,
    generation::image_reward::ImageRewardBench,
    generation::geneval::GenEval,
    generation::wise::Wise,
}

/// A benchmark of the list, or one that a person made.
#[derive(Clone)]
enum Held {
    Listed(&'static dyn Benchmark),
    Own(Arc<dyn Benchmark>),
}

/// A benchmark under one of its protocols: what users name, and what has a result.
#[derive(Clone)]
pub struct Suite {
    held: Held,
    protocol: &'static Protocol,
    /// The folder that its data is looked for in; none: where data is looked for in general.
    root: Option<PathBuf>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Suite").field(&self.name()).finish()
    }
}

impl Suite {
    /// The suites of a benchmark, one a protocol.
    pub fn of(benchmark: &'static dyn Benchmark) -> impl Iterator<Item = Self> {
        let protocols = benchmark.protocols().iter();
        protocols.map(move |protocol| Self {
            held: Held::Listed(benchmark),
            protocol,
            root: None,
        })
    }

    /// The suites of a benchmark that a person made.
    fn of_own(benchmark: &Arc<dyn Benchmark>) -> impl Iterator<Item = Self> {
        let protocols = benchmark.protocols().iter();
        let held = Held::Own(Arc::clone(benchmark));
        protocols.map(move |protocol| Self {
            held: held.clone(),
            protocol,
            root: None,
        })
    }

    fn benchmark(&self) -> &dyn Benchmark {
        match &self.held {
            Held::Listed(benchmark) => *benchmark,
            Held::Own(benchmark) => benchmark.as_ref(),
        }
    }

    /// Every suite.
    pub fn all() -> impl Iterator<Item = Self> {
        BENCHMARKS.iter().flat_map(|benchmark| Self::of(*benchmark))
    }

    /// The suite of a name; a benchmark's name alone means its first protocol.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|suite| suite.is_named(name))
    }

    /// Whether a person who writes this name means the suite.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let first = self.benchmark().protocols().first();
        self.name() == name || (first == Some(self.protocol) && self.benchmark().name() == name)
    }

    /// The same with its data looked for in this folder.
    #[must_use]
    pub fn within(self, root: PathBuf) -> Self {
        Self {
            root: Some(root),
            ..self
        }
    }

    /// Whether its data is looked for in a folder of its own ([`Suite::within`]).
    #[must_use]
    pub const fn is_narrowed(&self) -> bool {
        self.root.is_some()
    }

    fn looked_for<T>(&self, look: impl FnOnce() -> T) -> T {
        match &self.root {
            Some(root) => data_dir::only(root.clone(), look),
            None => look(),
        }
    }

    /// The name: the benchmark's, with the protocol's where it has one.
    #[must_use]
    pub fn name(&self) -> String {
        match self.protocol.name {
            "" => self.benchmark().name().to_owned(),
            protocol => format!("{}:{protocol}", self.benchmark().name()),
        }
    }

    /// The benchmark's name, without a protocol.
    #[must_use]
    pub fn benchmark_name(&self) -> &str {
        self.benchmark().name()
    }

    /// What is measured, in a line.
    #[must_use]
    pub fn about(&self) -> &str {
        self.benchmark().about()
    }

    /// The name of the result's value.
    #[must_use]
    pub const fn metric(&self) -> &'static str {
        self.protocol.metric
    }

    /// The protocol.
    #[must_use]
    pub const fn protocol(&self) -> &'static Protocol {
        self.protocol
    }

    /// Where the data comes from.
    #[must_use]
    pub fn data(&self) -> Data {
        self.benchmark().data()
    }

    /// The item with its picture decoded, as the protocol has it made to fit; a picture that cannot be decoded is why the item
    /// is broken.
    #[must_use]
    pub fn with_picture(&self, item: &Item, size: PictureSize) -> Item {
        let mut item = item.clone();
        let through_jpeg = self.protocol.through_jpeg && !item.is_png;
        let fitted = |picture: Encoded| match through_jpeg {
            true => picture.fitted_through_jpeg(size, self.protocol.fit),
            false => picture.fitted(size, self.protocol.fit),
        };
        match item.picture.take().map(fitted) {
            None => {}
            Some(Ok(picture)) => item.example.picture = Some(picture),
            Some(Err(why)) => item.broken = Some(why),
        }
        item
    }

    /// The items of a full run, at most.
    #[must_use]
    pub fn size(&self) -> usize {
        self.benchmark().size()
    }

    /// Whether the data is on this machine.
    #[must_use]
    pub fn available(&self) -> bool {
        self.looked_for(|| match self.benchmark().data() {
            Data::Generated => true,
            Data::Files(places) => data_dir::first(self.benchmark().name(), places).is_ok(),
            Data::Published(source) => source.folder(self.benchmark().name()).is_ok(),
            Data::Given => self.benchmark().items(self.protocol, 1).is_ok(),
        })
    }

    /// Whether the suite can be run in pictures of that size.
    ///
    /// # Errors
    /// The size that is needed, in words.
    pub fn takes(&self, width: usize, height: usize) -> Result<(), String> {
        self.benchmark().check_size(width, height)
    }

    /// The first items, as many as it takes for `limit` that the suite's value counts: held-out compositions among them come
    /// on top.
    ///
    /// # Errors
    /// The data is not on this machine, or broken.
    pub fn items(&self, limit: Option<usize>) -> Result<Vec<Item>, SuiteError> {
        // A file that a person names is not read to its end to be counted first.
        let size = match self.data() {
            Data::Given => usize::MAX,
            _ => self.size(),
        };
        let limit = limit.unwrap_or(size);
        let mut asked = limit.min(size);
        loop {
            let mut items = self.looked_for(|| self.benchmark().items(self.protocol, asked))?;
            // Whole groups alone have a result.
            if items.iter().any(|item| item.group.is_some()) {
                return Ok(items);
            }
            let counted = |item: &&Item| !item.example.held_out;
            let missing = limit.saturating_sub(items.iter().filter(counted).count());
            if missing == 0 || asked >= size || items.len() < asked {
                let last = items
                    .iter()
                    .enumerate()
                    .filter(|(_, item)| !item.example.held_out);
                let end = last.map(|(at, _)| at + 1).nth(limit.saturating_sub(1));
                items.truncate(end.unwrap_or(items.len()));
                return Ok(items);
            }
            asked = asked.saturating_add(missing).min(size);
        }
    }

    /// The examples of the first items.
    ///
    /// # Errors
    /// The data is not on this machine, or broken.
    pub fn examples(&self, limit: Option<usize>) -> Result<Vec<Example>, SuiteError> {
        let items = self.items(limit)?;
        Ok(items.into_iter().map(|item| item.example).collect())
    }

    /// A judge with the verifiers that the verdicts need.
    ///
    /// # Errors
    /// The data that a verifier learns from is not on this machine, or broken.
    pub fn judge(&self) -> Result<Judge, SuiteError> {
        self.benchmark().verifiers().map(Judge::with_verifiers)
    }

    /// What the model is asked about an item.
    #[must_use]
    pub fn request(&self, item: &Item) -> ItemRequest {
        self.benchmark().request(self.protocol, item)
    }

    /// The verdict on a response, or the question that a judge model must answer first.
    #[must_use]
    pub fn score(&self, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        self.benchmark().score(self.protocol, item, response, verifiers)
    }

    /// The verdict on a response, from what a judge model, a network or a detector said; none where that cannot be read.
    #[must_use]
    pub fn score_reply(&self, item: &Item, reply: &str) -> Option<Verdict> {
        self.benchmark().score_reply(self.protocol, item, reply)
    }

    /// The verdict where a judge was asked and never said what can be read; none: nobody could judge the response.
    #[must_use]
    pub fn unread_reply(&self, item: &Item) -> Option<Verdict> {
        self.benchmark().unread_reply(self.protocol, item)
    }

    /// Whether a judge model may be asked though there are verdicts without one.
    #[must_use]
    pub fn may_be_judged(&self) -> bool {
        self.benchmark().may_be_judged()
    }

    /// The result of all verdicts.
    #[must_use]
    pub fn aggregate(&self, judged: &[Judged]) -> SuiteResult {
        SuiteResult {
            suite: self.name(),
            protocol: self.protocol.label().to_owned(),
            ..self.benchmark().aggregate(self.protocol, judged)
        }
    }

    /// The result of several samples of every item: the mean of theirs, and `pass@N` among the parts.
    #[must_use]
    pub fn aggregate_samples(&self, samples: &[Vec<Judged>]) -> SuiteResult {
        match samples {
            [] => self.aggregate(&[]),
            [only] => self.aggregate(only),
            _ => result::mean_of_samples(samples, |judged| self.aggregate(judged)),
        }
    }
}
