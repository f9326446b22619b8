//! A masked view of an answer.

/// A masked view of an answer: what is hidden, and of what the log-probability counts. Positions are the answer's own, from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMask {
    /// The masked positions, ascending.
    pub masked: Vec<usize>,
    /// Those of them that count, ascending, at least one.
    pub counted: Vec<usize>,
}
