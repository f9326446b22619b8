//! What a model made of a prompt.

use demask_api::Picture;

/// What a model made of a prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completion {
    /// The text, reasoning included.
    pub text: String,
    /// The picture, if one was drawn.
    pub picture: Option<Picture>,
    /// Tokens of the text.
    pub tokens: usize,
}
