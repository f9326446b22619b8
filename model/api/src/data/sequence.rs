//! Token sequences with the spans that may be masked: the unit of training.

use serde::{Deserialize, Serialize};

/// The task that a sequence teaches. It determines the noise and the normalisation of the loss (`mmada.md` 3.1 to 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A caption to a picture (`t2i`). Picture positions are masked by the cosine schedule, and the loss is the plain
    /// mean of the cross-entropy.
    TextToImage,
    /// Text to text (`lm`, `lm_chat`). Of the L answer positions, l in 1..=L are masked, and the cross-entropy has the
    /// weight L / l: LLaDA's equation 14, with the expectation of independent masks of probability p and weight 1 / p,
    /// but less variance.
    Text,
    /// A picture and a question to text (`mmu`). As `Text`; the picture is never masked.
    Understand,
    /// Reasoning, then a picture (`r2i`). Text and picture positions of the answer are masked as in `Text`.
    ThinkThenDraw,
}

/// The positions `start..end` of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The first position.
    pub start: usize,
    /// The end, exclusive.
    pub end: usize,
}

impl Span {
    /// Returns the number of positions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Returns whether the span has no position.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A training sequence: token ids, and the spans that may be masked (the answer). All other positions stay clean (the
/// prompt).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// The lineage id of the example that the sequence was made from: a row of `example` or `trace` in the store (law
    /// L5).
    pub id: String,
    /// The task that it teaches.
    pub task: Task,
    /// The token ids, in order.
    pub ids: Vec<u32>,
    /// The number of leading positions that are padding. They are never attended to (hard mask) and never masked.
    pub left_pad: usize,
    /// The answer: the spans that may be masked. Text spans include the end-of-text padding that is trained on.
    pub answer: Vec<Span>,
}

impl Sequence {
    /// Returns the number of positions that may be masked.
    #[must_use]
    pub fn answer_len(&self) -> usize {
        self.answer.iter().map(Span::len).sum()
    }
}
