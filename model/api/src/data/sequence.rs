//! A token sequence with what may be masked in it: the unit of training.

use serde::{Deserialize, Serialize};

/// What a sequence teaches; it decides the noise and the normalisation of the loss (`mmada.md` 3.1 to 3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// A caption to a picture (`t2i`): picture positions masked by the cosine schedule, plain mean of the cross-entropy.
    TextToImage,
    /// Text to text (`lm`, `lm_chat`): l = 1..L of the L answer positions masked, cross-entropy times L / l (LLaDA's equation 14: the
    /// expectation of independent masks at p divided by p, with less variance).
    Text,
    /// A picture and a question to text (`mmu`): as `Text`, the picture never masked.
    Understand,
    /// Reasoning, then a picture (`r2i`): text and picture positions of the answer masked as in `Text`.
    ThinkThenDraw,
}

/// Positions `start..end` of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// First position.
    pub start: usize,
    /// One past the last position.
    pub end: usize,
}

impl Span {
    /// The number of positions.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is no position in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One training sequence: token ids and the spans that may be masked (the answer); all else stays clean (the prompt).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequence {
    /// Which example this was made of: the lineage id, a row of `example` or `trace` in the store (law L5).
    pub id: String,
    /// The task that it teaches.
    pub task: Task,
    /// Token ids, in order.
    pub ids: Vec<u32>,
    /// How many leading positions are padding: never attended to (hard mask), never masked.
    pub left_pad: usize,
    /// The answer: the spans that the noise may mask. Text spans include the end-of-text padding that is trained on.
    pub answer: Vec<Span>,
}

impl Sequence {
    /// How many positions the noise may mask.
    #[must_use]
    pub fn answer_len(&self) -> usize {
        self.answer.iter().map(Span::len).sum()
    }
}
