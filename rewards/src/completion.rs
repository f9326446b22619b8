//! The completion of a prompt.

use demask_api::Picture;

/// A model's completion of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text, with its reasoning.
    pub text: String,
    /// The picture, if one was drawn.
    pub picture: Option<Picture>,
    /// The number of tokens of the text.
    pub tokens: usize,
}
