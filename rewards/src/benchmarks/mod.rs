//! The benchmarks, one a file, and the list of them ([`BENCHMARKS`]).
//!
//! A benchmark defines its items, what a model is asked about each, how an answer is scored, and how the verdicts are
//! aggregated. Its files may be in any format that `items` reads. A benchmark that is run in several ways has several
//! protocols. A benchmark under one protocol is a [`Suite`], which users name and which has a result.
//!
//! Suites are run on models in `actors`. `shared/` holds data of several benchmarks. Benchmarks that users define
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
    /// Returns the name that users type.
    fn name(&self) -> &str;

    /// Describes in one line what is measured.
    fn about(&self) -> &str;

    /// Returns the ways in which the benchmark is run; the first is the default.
    fn protocols(&self) -> &'static [Protocol] {
        const { &[Protocol::accuracy("")] }
    }

    /// Returns where the items come from.
    fn data(&self) -> Data;

    /// Returns the most items of a full run.
    fn size(&self) -> usize;

    /// Returns the first `count` items of the test split; they are the same every time.
    ///
    /// # Errors
    /// An error if the data is missing or broken; it names the file and the remedy.
    fn items(&self, protocol: &Protocol, count: usize) -> Result<Vec<Item>, SuiteError>;

    /// Returns what the verdicts need beside the completion.
    ///
    /// # Errors
    /// An error if the data that a verifier learns from is missing or broken.
    fn verifiers(&self) -> Result<Verifiers, SuiteError> {
        Ok(Verifiers::default())
    }

    /// Returns what the model is asked about an item.
    fn request(&self, _protocol: &Protocol, item: &Item) -> ItemRequest {
        ItemRequest::Generate {
            may_think: item.example.reasoning.is_some(),
        }
    }

    /// Scores a response, or asks the question that a judge model must answer first.
    fn score(&self, protocol: &Protocol, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring;

    /// Scores a response by the reply of a judge model, network or detector; `None` if the reply cannot be parsed.
    fn score_reply(&self, _protocol: &Protocol, _item: &Item, _reply: &str) -> Option<Verdict> {
        None
    }

    /// Returns the verdict after a judge's replies could not be parsed; `None` if the response then counts as unjudged.
    fn unread_reply(&self, _protocol: &Protocol, _item: &Item) -> Option<Verdict> {
        None
    }

    /// Whether a judge model is optional: the verdicts exist without one, and a result says whether it had one.
    fn may_be_judged(&self) -> bool {
        false
    }

    /// Aggregates all verdicts. It sees the whole set, so that an F1 or CIDEr over the set, or groups of items that
    /// count only together, can be computed.
    fn aggregate(&self, protocol: &Protocol, judged: &[Judged]) -> SuiteResult {
        accuracy(self.name(), protocol, judged)
    }

    /// Checks whether pictures of this size can be judged or shown.
    ///
    /// # Errors
    /// A message with the required size.
    fn check_size(&self, _width: usize, _height: usize) -> Result<(), String> {
        Ok(())
    }
}

/// Where a benchmark's items come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Generated; always available.
    Generated,
    /// In the first of these files or folders that exists.
    Files(&'static [&'static str]),
    /// In the files of a published benchmark, in any of its known forms.
    Published(&'static BenchmarkSource),
    /// In a file that the user names; available if it can be read.
    Given,
}

/// An item of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The question and the right answer.
    pub example: Example,
    /// The group with which the item counts: the same question with its choices in another order, or the two halves of
    /// a pair.
    pub group: Option<String>,
    /// The undecoded picture of the question; [`Suite::with_picture`] decodes it when the item is asked.
    pub picture: Option<Encoded>,
    /// Whether the picture's table names it as PNG, so that a harness which writes it under that name loses nothing.
    pub is_png: bool,
    /// The question and its choices without the protocol's wording; empty if the example has just that.
    pub bare: Vec<String>,
    /// Why the row cannot be asked. It then counts as wrong, because leaving it out would improve the result.
    pub broken: Option<String>,
    /// Whether its text must not be shown or stored, as GPQA's authors ask.
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
        /// Whether the model may reason first, if the run uses reasoning.
        may_think: bool,
    },
    /// The log-likelihood of each choice as the answer to the item's example.
    Likelihood {
        /// The choices, exactly as the model would write them, including a leading space.
        choices: Vec<String>,
        /// The masked views of each choice of several tokens; a single token needs only one, which is exact.
        samples: usize,
        /// The scale of classifier-free guidance; 0 is off.
        guidance: f32,
    },
}

impl ItemRequest {
    /// Asks for the log-likelihoods of choices with `samples` views each, without guidance.
    #[must_use]
    pub const fn likelihood(choices: Vec<String>, samples: usize) -> Self {
        Self::Likelihood {
            choices,
            samples,
            guidance: 0.0,
        }
    }
}

/// The model's response.
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

/// The state of scoring a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Scoring {
    /// The verdict is known.
    Done(Verdict),
    /// A judge model must be asked over HTTP, with the drawing if there is one; `score_reply` reads its reply.
    AskJudge {
        /// The system message; may be empty.
        system: String,
        /// The prompt for the judge model.
        prompt: String,
        /// The verdict if no judge is named; absent if a judge is required.
        otherwise: Option<Verdict>,
    },
    /// A reward network must score the drawing for this text; `score_reply` reads the number.
    AskNetwork {
        /// `clip`, whose number is the cosine, or `image_reward`.
        network: &'static str,
        /// The text.
        text: String,
    },
    /// A detector must find the objects of the drawing; `score_reply` reads its JSON.
    AskDetector {
        /// The drawing's name in the benchmark's own folder layout.
        image: String,
        /// The classes of objects to detect.
        classes: Vec<String>,
    },
    /// An external reward must be asked; its value, as a share of its range, is the credit.
    AskReward {
        /// The reward's name.
        reward: String,
    },
}

/// The verdict on one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The credit from 0 (wrong) to 1 (right).
    pub credit: f64,
    /// The answer as it was parsed, for metrics over the whole set.
    pub answer: String,
}

/// The prefix that marks the answer of an unjudged item.
const UNJUDGED: &str = "unjudged: ";

impl Verdict {
    /// Makes the verdict of a response that could not be judged. It counts as wrong unless a benchmark says otherwise.
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
    /// The verdict on the model's response.
    pub verdict: Verdict,
}

/// Declares the files of this folder and lists their benchmarks, so that adding one takes one line. The benchmarks of
/// `published/` follow by their folders.
macro_rules! benchmarks {
    ($($file:ident::$benchmark:ident),* ; $($room:ident::$other:ident::$published:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every benchmark, in display order.
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

/// A listed benchmark, or one that the user defined.
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
    /// The only folder in which its data is searched; `None` for the usual places.
    root: Option<PathBuf>,
}

impl std::fmt::Debug for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Suite").field(&self.name()).finish()
    }
}

impl Suite {
    /// Returns the suites of a benchmark, one per protocol.
    pub fn of(benchmark: &'static dyn Benchmark) -> impl Iterator<Item = Self> {
        let protocols = benchmark.protocols().iter();
        protocols.map(move |protocol| Self {
            held: Held::Listed(benchmark),
            protocol,
            root: None,
        })
    }

    /// Returns the suites of a user-defined benchmark.
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

    /// Returns every suite.
    pub fn all() -> impl Iterator<Item = Self> {
        BENCHMARKS.iter().flat_map(|benchmark| Self::of(*benchmark))
    }

    /// Finds the suite of a name; a benchmark's name alone means its first protocol.
    #[must_use]
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|suite| suite.is_named(name))
    }

    /// Whether a name means this suite.
    pub(super) fn is_named(&self, name: &str) -> bool {
        let first = self.benchmark().protocols().first();
        self.name() == name || (first == Some(self.protocol) && self.benchmark().name() == name)
    }

    /// Restricts the search of its data to this folder.
    #[must_use]
    pub fn within(self, root: PathBuf) -> Self {
        Self {
            root: Some(root),
            ..self
        }
    }

    /// Whether the search of its data is restricted to a folder ([`Suite::within`]).
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

    /// Returns the name: the benchmark's, followed by the protocol's if it has one.
    #[must_use]
    pub fn name(&self) -> String {
        match self.protocol.name {
            "" => self.benchmark().name().to_owned(),
            protocol => format!("{}:{protocol}", self.benchmark().name()),
        }
    }

    /// Returns the benchmark's name without a protocol.
    #[must_use]
    pub fn benchmark_name(&self) -> &str {
        self.benchmark().name()
    }

    /// Describes in one line what is measured.
    #[must_use]
    pub fn about(&self) -> &str {
        self.benchmark().about()
    }

    /// Returns the name of the result's value.
    #[must_use]
    pub const fn metric(&self) -> &'static str {
        self.protocol.metric
    }

    /// Returns the protocol.
    #[must_use]
    pub const fn protocol(&self) -> &'static Protocol {
        self.protocol
    }

    /// Returns where the data comes from.
    #[must_use]
    pub fn data(&self) -> Data {
        self.benchmark().data()
    }

    /// Returns the item with its picture decoded and fitted as the protocol says. If decoding fails, the item becomes
    /// broken.
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

    /// Returns the most items of a full run.
    #[must_use]
    pub fn size(&self) -> usize {
        self.benchmark().size()
    }

    /// Returns whether the data is on this machine.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.looked_for(|| match self.benchmark().data() {
            Data::Generated => true,
            Data::Files(places) => data_dir::first(self.benchmark().name(), places).is_ok(),
            Data::Published(source) => source.folder(self.benchmark().name()).is_ok(),
            Data::Given => self.benchmark().items(self.protocol, 1).is_ok(),
        })
    }

    /// Checks whether the suite can be run with pictures of this size.
    ///
    /// # Errors
    /// A message with the required size.
    pub fn takes(&self, width: usize, height: usize) -> Result<(), String> {
        self.benchmark().check_size(width, height)
    }

    /// Returns the first items, as many as are needed for `limit` of them to count for the suite's value. Held-out
    /// compositions among them are extra.
    ///
    /// # Errors
    /// An error if the data is missing or broken.
    pub fn items(&self, limit: Option<usize>) -> Result<Vec<Item>, SuiteError> {
        // A user's file is not read to its end just to count its items.
        let size = match self.data() {
            Data::Given => usize::MAX,
            _ => self.size(),
        };
        let limit = limit.unwrap_or(size);
        let mut asked = limit.min(size);
        loop {
            let mut items = self.looked_for(|| self.benchmark().items(self.protocol, asked))?;
            // Only whole groups have a result.
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

    /// Returns the examples of the first items.
    ///
    /// # Errors
    /// An error if the data is missing or broken.
    pub fn examples(&self, limit: Option<usize>) -> Result<Vec<Example>, SuiteError> {
        let items = self.items(limit)?;
        Ok(items.into_iter().map(|item| item.example).collect())
    }

    /// Makes a judge with the verifiers that the verdicts need.
    ///
    /// # Errors
    /// An error if the data that a verifier learns from is missing or broken.
    pub fn judge(&self) -> Result<Judge, SuiteError> {
        self.benchmark().verifiers().map(Judge::with_verifiers)
    }

    /// Returns what the model is asked about an item.
    #[must_use]
    pub fn request(&self, item: &Item) -> ItemRequest {
        self.benchmark().request(self.protocol, item)
    }

    /// Scores a response, or asks the question that a judge model must answer first.
    #[must_use]
    pub fn score(&self, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        self.benchmark().score(self.protocol, item, response, verifiers)
    }

    /// Scores a response by the reply of a judge model, network or detector; `None` if the reply cannot be parsed.
    #[must_use]
    pub fn score_reply(&self, item: &Item, reply: &str) -> Option<Verdict> {
        self.benchmark().score_reply(self.protocol, item, reply)
    }

    /// Returns the verdict after a judge's replies could not be parsed; `None` if the response then counts as unjudged.
    #[must_use]
    pub fn unread_reply(&self, item: &Item) -> Option<Verdict> {
        self.benchmark().unread_reply(self.protocol, item)
    }

    /// Whether a judge model is optional: the verdicts exist without one.
    #[must_use]
    pub fn may_be_judged(&self) -> bool {
        self.benchmark().may_be_judged()
    }

    /// Aggregates all verdicts.
    #[must_use]
    pub fn aggregate(&self, judged: &[Judged]) -> SuiteResult {
        SuiteResult {
            suite: self.name(),
            protocol: self.protocol.label().to_owned(),
            ..self.benchmark().aggregate(self.protocol, judged)
        }
    }

    /// Returns the result of several samples of every item: the mean of the samples' results, with `pass@N`
    /// among the parts.
    #[must_use]
    pub fn aggregate_samples(&self, samples: &[Vec<Judged>]) -> SuiteResult {
        match samples {
            [] => self.aggregate(&[]),
            [only] => self.aggregate(only),
            _ => result::mean_of_samples(samples, |judged| self.aggregate(judged)),
        }
    }
}
