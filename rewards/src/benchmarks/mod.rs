//! The benchmarks, one per file, and the list of them ([`BENCHMARKS`]).
//!
//! A benchmark defines its items, what a model is asked about each, how an answer is scored, and how the verdicts are
//! aggregated. Its files may be in any format that `items` reads. A benchmark that is run in several ways has several
//! protocols. A benchmark under one protocol is a [`Suite`], which users name and which has a result.
//!
//! Suites are run on models in `actors`. `shared/` holds data of several benchmarks. Benchmarks that users define
//! without Rust are in `own/`.

use crate::verifiers::Verifiers;

mod item;
mod own;
mod protocol;
pub mod published;
mod result;
mod shared;
mod suites;

pub use item::{Item, ItemRequest, Judged, Response, Scoring, Verdict};
pub use own::{HeldOut, OwnBenchmark, OwnKind};
pub use protocol::{BenchmarkSource, Decoding, Figure, Protocol};
pub use result::{SuiteError, SuiteResult, accuracy, mean_of_categories};
pub use suites::{Suite, Suites};

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

    /// Returns the number of items of a full run: the most, or for a published benchmark the published number, whatever
    /// its files hold.
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
