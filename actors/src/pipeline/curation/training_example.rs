//! A training example: an example with the way in which it is trained on and its provenance (law L5).

use demask_datasets::example::{Example, Mode};

/// An example to train on.
#[derive(Clone, Debug)]
pub struct TrainingExample {
    /// The example.
    pub example: Example,
    /// Whether its reasoning is part of the answer.
    pub mode: Mode,
    /// Whether its text condition is dropped.
    pub drop_condition: bool,
    /// Checkpoint or teacher that wrote it, or `none`.
    pub generator: String,
    /// The verifier of the example, with its version.
    pub verifier: String,
    /// Score of the verifier.
    pub score: f64,
    /// Id of the proposed trace, if it is one.
    pub trace: Option<String>,
}

/// Returns where the user finds an example: its place with its kind, because a labelled picture gives several examples;
/// without a place, its id.
#[must_use]
pub fn location(example: &Example) -> String {
    if example.place.is_empty() {
        return example.id.clone();
    }
    format!("{} ({})", example.place, example.kind.name())
}
