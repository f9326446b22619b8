//! A suite: a benchmark under one of its protocols.

use std::path::PathBuf;
use std::sync::Arc;

use demask_api::PictureSize;
use demask_datasets::data_dir;
use demask_datasets::example::Example;
use demask_datasets::formats::Encoded;

use crate::benchmarks::result::mean_of_samples;
use crate::benchmarks::{
    BENCHMARKS, Benchmark, Data, Item, ItemRequest, Judged, Protocol, Response, Scoring, SuiteError,
    SuiteResult, Verdict,
};
use crate::judge::Judge;
use crate::verifiers::Verifiers;

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
    pub(super) fn of_own(benchmark: &Arc<dyn Benchmark>) -> impl Iterator<Item = Self> {
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

    /// Returns the number of items of a full run ([`Benchmark::size`]).
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
        // A user's file is not read to its end just to count its items. The files of a published benchmark may have more
        // rows than the published ones: an older selection, or prompts of the user.
        let size = match self.data() {
            Data::Given | Data::Published(_) => usize::MAX,
            Data::Generated | Data::Files(_) => self.size(),
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
            _ => mean_of_samples(samples, |judged| self.aggregate(judged)),
        }
    }
}
