//! The rewards, a file each, and the one list of them.
//!
//! A reward is a file here and a line in the list below. The list gives a profile's default weights, the names that a
//! profile may weigh, the knobs `reward.NAME`, what the Judge computes and the columns of `demask eval`. How an answer or a
//! picture is verified is in `verifiers/`; which pictures reward networks are asked about is in `networks.rs`.

use std::collections::BTreeMap;

use demask_api::PictureScore;
use demask_datasets::example::{Example, Mode};

use crate::completion::Completion;
use crate::verifiers::Verifiers;

/// A reward: a number that says how good a completion is in one respect.
pub trait Reward: Sync {
    /// The name in profiles, in the store and on the screen.
    fn name(&self) -> &'static str;

    /// The heading of its column in `demask eval`.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// What is measured and on which scale, in a line.
    fn about(&self) -> &'static str;

    /// The weight in the sum where a profile gives none.
    fn default_weight(&self) -> f64;

    /// What must be there for the reward to be computed.
    fn needs(&self) -> Needs {
        Needs::Completion
    }

    /// The reward's own value, unweighted; none where it does not apply.
    fn score(&self, evidence: &Evidence) -> Option<f64>;
}

/// What a reward is computed from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The completion and its example, which are always there.
    Completion,
    /// The reward network of this name, whose folder a profile names in `[reward_networks]`.
    Network(&'static str),
}

/// What is known of a completion when a reward is asked for its value.
#[derive(Clone, Copy, Debug)]
pub enum Evidence<'a> {
    /// The completion beside its example.
    Case(RewardCase<'a>),
    /// The numbers of the reward networks.
    Network(NetworkScore),
}

/// A completion beside its example.
#[derive(Clone, Copy, Debug)]
pub struct RewardCase<'a> {
    /// The example.
    pub example: &'a Example,
    /// Whether reasoning was asked for.
    pub mode: Mode,
    /// The completion.
    pub completion: &'a Completion,
    /// The longest text, in tokens.
    pub budget: usize,
    /// What verifies answers and pictures.
    pub verifiers: &'a Verifiers,
}

/// What reward networks say of a picture and a text.
#[derive(Clone, Copy, Debug)]
pub struct NetworkScore {
    /// The networks' numbers.
    pub score: PictureScore,
    /// Whether the picture was drawn, rather than described.
    pub drawn: bool,
}

impl Evidence<'_> {
    /// The completion beside its example, if that is what is known.
    #[must_use]
    pub const fn case(&self) -> Option<&RewardCase<'_>> {
        match self {
            Self::Case(case) => Some(case),
            Self::Network(_) => None,
        }
    }

    /// The numbers of the reward networks, if they are what is known.
    #[must_use]
    pub const fn network(&self) -> Option<&NetworkScore> {
        match self {
            Self::Network(score) => Some(score),
            Self::Case(_) => None,
        }
    }
}

impl RewardCase<'_> {
    /// Whether a text was asked for or written, so that its length and repetition count.
    #[must_use]
    pub fn has_text(&self) -> bool {
        self.example.answer.is_some() || !self.completion.text.is_empty()
    }
}

/// Declares the files of this folder and lists their rewards, so that a reward is added by one line.
macro_rules! rewards {
    ($($file:ident::$reward:ident),* $(,)?) => {
        $(pub mod $file;)*

        /// Every reward, in the order in which their parts of a sum are stored.
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

/// The reward of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static dyn Reward> {
    REWARDS.iter().copied().find(|reward| reward.name() == name)
}

/// The weights of a profile that gives none: every reward of a list that needs no network.
#[must_use]
pub fn default_weights(list: &[&dyn Reward]) -> BTreeMap<String, f64> {
    let always = list.iter().filter(|reward| reward.needs() == Needs::Completion);
    always
        .map(|reward| (reward.name().to_owned(), reward.default_weight()))
        .collect()
}

/// A network's number, or 0 where it is not finite.
fn finite_or_zero(value: f64) -> f64 {
    if value.is_finite() { value } else { 0.0 }
}
