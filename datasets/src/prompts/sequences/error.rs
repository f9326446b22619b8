//! Why an example cannot become a sequence.

use crate::prompts::style::ChatError;
use crate::prompts::text_tokenizer::TokenizerError;

/// Why an example cannot become a sequence.
#[derive(Debug, thiserror::Error)]
pub enum SequenceError {
    /// The prompt does not fit.
    #[error("the prompt has {found} tokens, but at most {limit} fit")]
    PromptTooLong {
        /// The budget.
        limit: usize,
        /// The prompt's length, marks included.
        found: usize,
    },
    /// The answer does not fit.
    #[error("the answer has {found} tokens, but at most {limit} fit")]
    AnswerTooLong {
        /// The budget.
        limit: usize,
        /// The answer's length, with its eos.
        found: usize,
    },
    /// The prompt and one of its choices do not fit together.
    #[error("the prompt and a choice have {found} tokens, but at most {limit} fit")]
    ChoiceTooLong {
        /// The budget of both together.
        limit: usize,
        /// Their length.
        found: usize,
    },
    /// A choice without tokens has no likelihood.
    #[error("the choice {choice:?} has no tokens, expected at least 1")]
    EmptyChoice {
        /// The choice.
        choice: String,
    },
    /// The wrong number of picture codes.
    #[error("expected {expected} picture codes, found {found}")]
    Codes {
        /// The budget.
        expected: usize,
        /// The number of given codes.
        found: usize,
    },
    /// The text tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template failed.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

impl SequenceError {
    /// Returns a message without the length found, so that equal failures can be counted together.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::PromptTooLong { limit, .. } => {
                format!("the prompt is longer than the {limit} tokens that fit")
            }
            Self::AnswerTooLong { limit, .. } => {
                format!("the answer is longer than the {limit} tokens that fit")
            }
            Self::ChoiceTooLong { limit, .. } => {
                format!("the prompt and a choice are longer than the {limit} tokens that fit")
            }
            other => other.to_string(),
        }
    }
}
