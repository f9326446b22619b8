//! The rewards, one per file, and the list of them ([`REWARDS`]).
//!
//! A reward is a file here and a line in the list below. The list determines a profile's default weights, the names
//! that a profile may weigh, the knobs `reward.NAME`, what the Judge computes, and the columns of `demask eval`.
//! Verifying answers and pictures is in `verifiers/`; the inputs of reward networks are in `networks.rs`.

use std::collections::BTreeMap;

use demask_api::PictureScore;
use demask_datasets::example::{Example, Mode};

use crate::completion::Completion;
use crate::verifiers::Verifiers;

/// A reward: a number that rates a completion in one respect.
pub trait Reward: Sync {
    /// Returns the name in profiles, in the store and on the screen.
    fn name(&self) -> &'static str;

    /// Returns the heading of its column in `demask eval`.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// Describes in one line what is measured and on which scale.
    fn about(&self) -> &'static str;

    /// Returns the weight in the sum if a profile gives none.
    fn default_weight(&self) -> f64;

    /// Returns what the reward is computed from.
    fn needs(&self) -> Needs {
        Needs::Completion
    }

    /// Computes the unweighted reward; `None` if it does not apply.
    fn score(&self, evidence: &Evidence) -> Option<f64>;
}

/// What a reward is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The completion and its example, which are always available.
    Completion,
    /// The reward network of this name; a profile gives its folder in `[reward_networks]`.
    Network(&'static str),
}

/// The evidence from which a reward is computed.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// The completion with its example.
    Case(RewardCase<'a>),
    /// The numbers of the reward networks.
    Network(NetworkScore),
}

/// A completion with its example.
#[derive(Clone, Copy, Debug)]
pub struct RewardCase<'a> {
    /// The example.
    pub example: &'a Example,
    /// Whether reasoning was requested.
    pub mode: Mode,
    /// The completion.
    pub completion: &'a Completion,
    /// The longest text in tokens.
    pub budget: usize,
    /// The verifiers of answers and pictures.
    pub verifiers: &'a Verifiers,
}

/// The reward networks' scores of a picture and a text.
#[derive(Clone, Copy, Debug)]
pub struct NetworkScore {
    /// The networks' numbers.
    pub score: PictureScore,
    /// Whether the picture was drawn rather than described.
    pub drawn: bool,
}

impl Evidence<'_> {
    /// Returns the completion with its example, if this is it.
    #[must_use]
    pub const fn case(&self) -> Option<&RewardCase<'_>> {
        match self {
            Self::Case(case) => Some(case),
            Self::Network(_) => None,
        }
    }

    /// Returns the networks' scores, if these are they.
    #[must_use]
    pub const fn network(&self) -> Option<&NetworkScore> {
        match self {
            Self::Network(score) => Some(score),
            Self::Case(_) => None,
        }
    }
}

impl RewardCase<'_> {
    /// Whether a text was requested or written, so that its length and repetition count.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.example.answer.is_some() || !self.completion.text.is_empty()
    }
}

/// Declares the files of this folder and lists their rewards, so that adding one takes one line.
macro_rules! rewards {
    ($($file:ident::$reward:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every reward, in the order in which contributions are stored.
        pub static REWARDS: &[&dyn Reward] = &[$(&$file::$reward),*];
    };
}

rewards! {
    correct::Correct,
    format::FormatReward,
    tabletop::TabletopReward,
    length::Length,
    repetition::Repetition,
    clip::ClipReward,
    image_reward::ImageReward,
}

/// Finds the reward of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Reward> {
    REWARDS.iter().copied().find(|reward| reward.name() == name)
}

/// Returns the default weights: those of every listed reward that needs no network.
#[must_use]
pub fn default_weights(list: &[&dyn Reward]) -> BTreeMap<String, f64> {
    let always = list.iter().filter(|reward| reward.needs() == Needs::Completion);
    always
        .map(|reward| (reward.name().to_owned(), reward.default_weight()))
        .collect()
}

/// Returns the number, or 0 if it is not finite.
fn finite_or_zero(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
