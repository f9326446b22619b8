//! What the numbers of reward networks mean: which picture is asked about with which text, and what it is worth
//! (`mmada.md` 5.3). The networks themselves are an engine's.

use std::collections::BTreeMap;

use demask_api::{Picture, PictureScore};
use demask_datasets::example::{Example, Kind};

use crate::combine::Scored;
use crate::judge::Completion;
use crate::metrics::{Mean, mean};
use crate::thought::split;

/// The weights that they start with where a profile names their folders, as published.
pub const WEIGHTS: [(&str, f64); 2] = [("clip", 0.1), ("image_reward", 0.1)];

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

/// The CLIP score of a cosine, as torchmetrics has it: 0 to 100, about 30 for a picture that fits.
#[must_use]
pub fn clip_score(cosine: f64) -> f64 {
    100.0 * cosine.max(0.0)
}

/// What the networks said of a picture, each by its name. A number that is not finite is worth nothing.
fn worth(score: &PictureScore, drawn: bool) -> impl Iterator<Item = (&'static str, f64)> {
    let liked = score.image_reward.filter(|_| drawn);
    let said = [("clip", score.cosine.map(clip_score)), ("image_reward", liked)];
    said.into_iter().filter_map(|(name, value)| {
        let value = value?;
        Some((name, if value.is_finite() { value } else { 0.0 }))
    })
}

/// Adds what the networks said to the other rewards, weighted.
pub fn push(scored: &mut Scored, score: &PictureScore, drawn: bool, weights: &BTreeMap<String, f64>) {
    for (name, value) in worth(score, drawn) {
        scored.push(name, value, weights.get(name).copied().unwrap_or(0.0));
    }
}

/// The mean of what each network said of drawings, by its name, on the scale of its reward.
#[must_use]
pub fn means(said: &[PictureScore]) -> BTreeMap<String, Mean> {
    let mut numbers: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in said.iter().flat_map(|score| worth(score, true)) {
        numbers.entry(name).or_default().push(value);
    }
    numbers
        .into_iter()
        .filter_map(|(name, numbers)| Some((name.to_owned(), mean(&numbers)?)))
        .collect()
}
