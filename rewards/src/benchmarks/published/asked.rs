//! The question that a protocol makes of a record.

use demask_datasets::example::{Kind, Turn};
use serde_json::{Map, Value};

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// The kind of its example: text, a question about a picture, a caption, a drawing.
    pub kind: Kind,
    /// The prompt; for a conversation, its last turn.
    pub prompt: String,
    /// The conversation, if it has more than the prompt.
    pub turns: Vec<Turn>,
    /// The right answer, in words.
    pub reference: String,
    /// The question and its choices without the protocol's wording, which must not be trained on (law L6).
    pub bare: Vec<String>,
    /// The category in which it counts.
    pub category: String,
    /// The group with which it counts.
    pub group: Option<String>,
    /// Further values that the scorer needs.
    pub columns: Map<String, Value>,
    /// Whether it must not be shown or stored.
    pub is_secret: bool,
}

impl Asked {
    fn of(kind: Kind, prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self {
            kind,
            prompt: prompt.into(),
            turns: Vec::new(),
            reference: reference.into(),
            bare: Vec::new(),
            category: String::new(),
            group: None,
            columns: Map::new(),
            is_secret: false,
        }
    }

    /// Makes a text to be answered by text.
    pub(super) fn text(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::WordProblem, prompt, reference)
    }

    /// Makes a text to be continued: a base model reads it as it is, without a chat.
    pub(super) fn plain(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::Text, prompt, reference)
    }

    /// Makes a question about the record's picture.
    pub(super) fn question(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::Question, prompt, reference)
    }

    /// Makes a request to draw.
    pub(super) fn drawing(prompt: impl Into<String>) -> Self {
        Self::of(Kind::TextToImage, prompt, "")
    }

    /// Sets the bare question and choices.
    pub(super) fn bare<'a>(self, question: &str, choices: impl IntoIterator<Item = &'a String>) -> Self {
        let texts = std::iter::once(question.to_owned()).chain(choices.into_iter().cloned());
        Self {
            bare: texts.collect(),
            ..self
        }
    }

    /// Sets the category.
    pub(super) fn part(self, category: impl Into<String>) -> Self {
        Self {
            category: category.into(),
            ..self
        }
    }

    /// Sets the group.
    pub(super) fn grouped(self, group: impl Into<String>) -> Self {
        Self {
            group: Some(group.into()),
            ..self
        }
    }

    /// Adds a value that the scorer needs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.columns.insert(name.to_owned(), value.into());
        self
    }
}
