//! What is asked of a record under a protocol.

use demask_datasets::example::{Kind, Turn};
use serde_json::{Map, Value};

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// What kind of example it is: text, a question about a picture, a caption, a drawing.
    pub kind: Kind,
    /// The prompt; of a conversation the last turn.
    pub prompt: String,
    /// The conversation, where there is more of it than the prompt.
    pub turns: Vec<Turn>,
    /// The right answer, in words.
    pub reference: String,
    /// The question and its choices alone, without what a protocol puts around them: what must not be trained on (law L6).
    pub bare: Vec<String>,
    /// The part that it counts in.
    pub category: String,
    /// The group that it counts in.
    pub group: Option<String>,
    /// What the scorer needs beside.
    pub columns: Map<String, Value>,
    /// It may not be shown or stored.
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

    /// A text that is answered by a text.
    pub(super) fn text(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::WordProblem, prompt, reference)
    }

    /// A text that goes on: a base model reads it as it is, without any chat.
    pub(super) fn plain(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::Text, prompt, reference)
    }

    /// A question about the record's picture.
    pub(super) fn question(prompt: impl Into<String>, reference: impl Into<String>) -> Self {
        Self::of(Kind::Question, prompt, reference)
    }

    /// A drawing.
    pub(super) fn drawing(prompt: impl Into<String>) -> Self {
        Self::of(Kind::TextToImage, prompt, "")
    }

    /// The same, of a question with these choices.
    pub(super) fn bare<'a>(self, question: &str, choices: impl IntoIterator<Item = &'a String>) -> Self {
        let texts = std::iter::once(question.to_owned()).chain(choices.into_iter().cloned());
        Self {
            bare: texts.collect(),
            ..self
        }
    }

    /// The same in this part.
    pub(super) fn part(self, category: impl Into<String>) -> Self {
        Self {
            category: category.into(),
            ..self
        }
    }

    /// The same in this group.
    pub(super) fn grouped(self, group: impl Into<String>) -> Self {
        Self {
            group: Some(group.into()),
            ..self
        }
    }

    /// The same with something that the scorer needs.
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.columns.insert(name.to_owned(), value.into());
        self
    }
}
