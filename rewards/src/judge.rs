//! A completion against its example: every reward's own value, and whether it is simply right.

use std::collections::BTreeMap;

use demask_api::Picture;
use demask_datasets::example::{Check, Example, Mode};

use crate::class_means::ClassMeans;
use crate::combine::Scored;
use crate::detector::Detector;
use crate::thought::{format_reward, split};
use crate::{answer, guard};

/// What a model made of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text, reasoning included.
    pub text: String,
    /// The picture, if one was drawn.
    pub picture: Option<Picture>,
    /// Tokens of the text.
    pub tokens: usize,
}

/// Weights that a run starts with: `correct` 2.0 and `format` 0.5 as published (`mmada.md` 5.3); `draw` is the detector's
/// score where the paper has CLIP and ImageReward, which `networks.rs` weighs where a profile names them; the guards are
/// small.
pub const WEIGHTS: [(&str, f64); 5] = [
    ("correct", 2.0),
    ("format", 0.5),
    ("draw", 2.0),
    ("length", 0.1),
    ("repetition", 0.1),
];

/// Judges completions.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    detector: Detector,
    classes: ClassMeans,
}

impl Judge {
    /// A judge that also knows the classes of given pictures.
    #[must_use]
    pub fn with_classes(classes: ClassMeans) -> Self {
        Self {
            classes,
            ..Self::default()
        }
    }

    /// Whether the completion is right; false where nothing can be checked.
    #[must_use]
    pub fn right(&self, example: &Example, completion: &Completion) -> bool {
        match &example.check {
            Check::None => false,
            Check::Exact { answer } | Check::Number { answer } => {
                answer::same(split(&completion.text).result, answer)
            }
            Check::Scene { request } => completion.picture.as_ref().is_some_and(|picture| {
                let reading = self.detector.read(picture);
                reading.unknown == 0 && request.holds(&reading.scene)
            }),
            Check::Class { class } => completion
                .picture
                .as_ref()
                .is_some_and(|picture| self.classes.classify(picture) == Some(class.as_str())),
        }
    }

    /// Every reward that applies, weighted. `budget` is the longest text.
    #[must_use]
    pub fn score(
        &self,
        example: &Example,
        mode: Mode,
        completion: &Completion,
        weights: &BTreeMap<String, f64>,
        budget: usize,
    ) -> Scored {
        let weight = |name: &str| weights.get(name).copied().unwrap_or(0.0);
        let mut scored = Scored::default();
        scored.push(
            "correct",
            f64::from(u8::from(self.right(example, completion))),
            weight("correct"),
        );
        if let Check::Scene { request } = &example.check {
            let partial = completion.picture.as_ref().map_or(0.0, |picture| {
                let reading = self.detector.read(picture);
                request.score(&reading.scene) * (1.0 - reading.unknown as f64 / 9.0)
            });
            scored.push("draw", partial, weight("draw"));
        }
        if example.answer.is_some() || !completion.text.is_empty() {
            if mode == Mode::Think && example.answer.is_some() {
                scored.push("format", format_reward(&completion.text), weight("format"));
            }
            let soft = budget.saturating_sub(budget / 4);
            scored.push(
                "length",
                guard::length(completion.tokens, soft, budget),
                weight("length"),
            );
            scored.push(
                "repetition",
                guard::repetition(&completion.text),
                weight("repetition"),
            );
        }
        scored
    }

    /// What a person would say of the completion: its text, or what the detector reads.
    #[must_use]
    pub fn words(&self, completion: &Completion) -> String {
        match &completion.picture {
            None => completion.text.clone(),
            Some(picture) => {
                if let Some(class) = self.classes.classify(picture) {
                    return format!("[{class}]");
                }
                let reading = self.detector.read(picture);
                let seen = if reading.unknown > 0 {
                    format!(" ({} cells unknown)", reading.unknown)
                } else {
                    String::new()
                };
                let thought = if completion.text.is_empty() {
                    String::new()
                } else {
                    format!("{} ", completion.text)
                };
                format!("{thought}[{}]{seen}", reading.scene)
            }
        }
    }
}
