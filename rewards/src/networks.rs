//! The inputs of reward networks (`mmada.md` 5.3): which picture is scored for which text. An engine computes the
//! networks; `rewards/clip.rs` and `rewards/image_reward.rs` interpret their numbers.

use std::collections::BTreeMap;

use demask_api::{Picture, PictureScore};
use demask_datasets::example::{Example, Kind};

use crate::completion::Completion;
use crate::rewards::{Evidence, NetworkScore, REWARDS};
use crate::scored::Scored;
use crate::statistics::{Mean, mean};
use crate::verifiers::thought::split;

/// A picture and the text for which it is scored.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The picture.
    pub picture: Picture,
    /// The text.
    pub text: String,
    /// Whether the picture was drawn. ImageReward rates a drawing for its prompt; it does not rate captions.
    pub drawn: bool,
}

/// Returns the networks' input for a completion: a drawn picture with its prompt, or a given picture with its caption.
#[must_use]
pub fn pair(example: &Example, completion: &Completion) -> Option<Pair> {
    if let Some(picture) = &completion.picture {
        return Some(Pair {
            picture: picture.clone(),
            text: example.prompt.clone(),
            drawn: true,
        });
    }
    let caption = split(&completion.text).result.trim();
    let described = matches!(example.kind, Kind::Caption | Kind::Scene) && !caption.is_empty();
    let picture = example.picture.clone().filter(|_| described)?;
    Some(Pair {
        picture,
        text: caption.to_owned(),
        drawn: false,
    })
}

/// Returns the value of each reward that reads a network's numbers.
fn values(score: &PictureScore, drawn: bool) -> impl Iterator<Item = (&'static str, f64)> {
    let evidence = Evidence::Network(NetworkScore { score: *score, drawn });
    REWARDS
        .iter()
        .filter_map(move |reward| Some((reward.name(), reward.score(&evidence)?)))
}

/// Adds the networks' scores to the other rewards, weighted.
pub fn push(scored: &mut Scored, score: &PictureScore, drawn: bool, weights: &BTreeMap<String, f64>) {
    for (name, value) in values(score, drawn) {
        scored.push(name, value, weights.get(name).copied().unwrap_or(0.0));
    }
}

/// Returns the mean score of drawings by each network, by the name and on the scale of its reward.
#[must_use]
pub fn means(said: &[PictureScore]) -> BTreeMap<String, Mean> {
    let mut numbers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in said.iter().flat_map(|score| values(score, true)) {
        numbers.entry(name).or_default().push(value);
    }
    numbers
        .into_iter()
        .filter_map(|(name, numbers)| Some((name.to_owned(), mean(&numbers)?)))
        .collect()
}
