//! What reward networks are asked (`mmada.md` 5.3): which picture with which text. The networks are an engine's, and the
//! rewards that read their numbers are `rewards/clip.rs` and `rewards/image_reward.rs`.

use std::collections::BTreeMap;

use demask_api::{Picture, PictureScore};
use demask_datasets::example::{Example, Kind};

use crate::completion::Completion;
use crate::rewards::{Evidence, NetworkScore, REWARDS};
use crate::scored::Scored;
use crate::statistics::{Mean, mean};
use crate::verifiers::thought::split;

/// A picture and the text that it is scored for.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The picture.
    pub picture: Picture,
    /// The text.
    pub text: String,
    /// Whether the picture was drawn: ImageReward says how well people like a drawing for its prompt, and nothing of
    /// a caption.
    pub drawn: bool,
}

/// What the networks are asked of a completion: a drawn picture with its prompt, or a given picture with its caption.
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

/// The value of each reward that reads a network's numbers.
fn values(score: &PictureScore, drawn: bool) -> impl Iterator<Item = (&'static str, f64)> {
    let evidence = Evidence::Network(NetworkScore { score: *score, drawn });
    REWARDS
        .iter()
        .filter_map(move |reward| Some((reward.name(), reward.score(&evidence)?)))
}

/// Adds what the networks said to the other rewards, weighted.
pub fn push(scored: &mut Scored, score: &PictureScore, drawn: bool, weights: &BTreeMap<String, f64>) {
    for (name, value) in values(score, drawn) {
        scored.push(name, value, weights.get(name).copied().unwrap_or(0.0));
    }
}

/// The mean of what each network said of drawings, by its name, on the scale of its reward.
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
