//! What the curator hands out: an example, how it is to be trained on, and where it comes from (law L5).

use demask_datasets::example::{Example, Mode};

/// One thing to train on.
#[derive(Clone, Debug)]
pub struct TrainingExample {
    /// What.
    pub example: Example,
    /// With reasoning or without.
    pub mode: Mode,
    /// Without its condition.
    pub drop_condition: bool,
    /// The checkpoint that wrote it, or `none`.
    pub generator: String,
    /// What verified it.
    pub verifier: String,
    /// The verifier's score.
    pub score: f64,
    /// The trace that it was proposed as, if it is one.
    pub trace: Option<String>,
}

/// An example as a person finds it: where it was read, and as what, for a labelled picture is several; else its id.
#[must_use]
pub fn location(example: &Example) -> String {
    if example.place.is_empty() {
        return example.id.clone();
    }
    format!("{} ({})", example.place, example.kind.name())
}
