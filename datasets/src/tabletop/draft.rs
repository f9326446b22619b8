//! An example before its split is known, and the rule that assigns the split (law L6).

use super::render::render;
use crate::example::{Check, Example, Kind, Split};
use crate::scene::table::Scene;

/// An example before its split is known.
pub(super) struct Draft {
    pub category: &'static str,
    pub prompt: String,
    pub scene: Option<Scene>,
    pub reasoning: Option<String>,
    pub answer: Option<String>,
    pub check: Check,
    /// Content that decides the split, beside the scene.
    pub keys: Vec<String>,
}

/// Returns the split of a piece of content: eight in ten for training, one each for validation and test.
pub(super) fn split_of(content: &str) -> Split {
    match blake3::hash(content.as_bytes()).as_bytes()[0] {
        0..=25 => Split::Test,
        26..=51 => Split::Validation,
        _ => Split::Train,
    }
}

impl Draft {
    /// Whether the draft belongs to a split. A held-out pair keeps the words out of training, so that only the scene
    /// must belong to the split.
    pub(super) fn belongs_to(&self, split: Split, held_out: bool) -> bool {
        (held_out || self.keys.iter().all(|key| split_of(key) == split))
            && self
                .scene
                .is_none_or(|scene| split_of(&scene.to_string()) == split)
    }

    pub(super) fn finish(self, kind: Kind, split: Split, held_out: bool) -> Example {
        let example = Example {
            id: String::new(),
            source: "tabletop".to_owned(),
            place: String::new(),
            licence: "CC0-1.0".to_owned(),
            split,
            kind,
            category: self.category.to_owned(),
            held_out,
            prompt: self.prompt,
            turns: Vec::new(),
            columns: serde_json::Map::new(),
            picture: self.scene.as_ref().map(render),
            reasoning: self.reasoning,
            answer: self.answer,
            check: self.check,
        };
        example.with_id()
    }
}
