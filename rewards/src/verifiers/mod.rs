//! Verifiers: whether an answer is right, whether a reasoning trace is true, what a picture shows.
//!
//! - `answer.rs`: exact answers, with equivalence of numbers and fractions; `thought.rs`: `<think>reasoning</think>`;
//! - `trace.rs`: a reasoning trace, step by step;
//! - `tabletop_detector.rs`: reads a drawn table back; `class_means.rs`: the class of a drawn picture.
//!
//! Rewards and benchmarks decide what a verdict is worth.

use demask_datasets::example::{Check, Example};

use crate::completion::Completion;

pub mod answer;
pub mod class_means;
pub mod tabletop_detector;
pub mod thought;
pub mod trace;

/// The verifiers that hold data: templates of the table, class means.
#[derive(Clone, Debug, Default)]
pub struct Verifiers {
    /// Reads drawn tables.
    pub detector: tabletop_detector::TabletopDetector,
    /// Classifies drawn pictures; it has no classes by default.
    pub classes: class_means::ClassMeans,
}

impl Verifiers {
    /// Whether a completion is right by its example's check; false if it cannot be checked.
    #[must_use]
    pub fn is_right(&self, example: &Example, completion: &Completion) -> bool {
        match &example.check {
            Check::None => false,
            Check::Exact { answer } | Check::Number { answer } => {
                answer::same(thought::split(&completion.text).result, answer)
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
}
