//! A masked view of an answer.

/// A masked view of an answer: the positions that are masked, and those whose log-probability counts. Positions are
/// counted from the start of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerMask {
    /// The masked positions, ascending.
    pub masked: Vec<usize>,
    /// The masked positions whose log-probability counts, ascending, at least one.
    pub counted: Vec<usize>,
}
