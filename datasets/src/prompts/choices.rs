//! A prompt and the choices that may answer it, as the tokens whose log-likelihood is asked.
//!
//! A prompt is written as for a direct answer, without padding; a choice is its own tokens, with no end of text and nothing
//! behind. Plain text ([`Kind::Text`]) is not put into a chat but read as it is, nothing added, and split as lm-evaluation-harness'
//! `_encode_pair` does: spaces at the context's end move to the choice, whose tokens are those of both together less as many as
//! the context has by itself.

use crate::example::{Example, Kind, Mode};
use crate::prompts::sequences::{MARKS, SequenceBuilder, SequenceError};

/// A prompt's tokens, and those of each choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceTokens {
    /// The prompt, without padding.
    pub prompt: Vec<u32>,
    /// The choices, in their order, each at least one token.
    pub choices: Vec<Vec<u32>>,
}

impl SequenceBuilder {
    /// The tokens of an example's prompt and of choices that may answer it. `codes` are those of the picture that is asked about.
    ///
    /// # Errors
    /// A prompt that is longer than its budget, or with a choice longer than the prompt's and the answer's budgets together; a
    /// choice without a token; missing codes.
    pub fn choices(
        &self,
        example: &Example,
        choices: &[String],
        codes: &[u32],
    ) -> Result<ChoiceTokens, SequenceError> {
        let tokens = match example.kind {
            Kind::Text => self.split_choices(&example.prompt, choices)?,
            _ => {
                let asked = self.prompt(example, Mode::Direct, codes)?;
                let encoded = choices.iter().map(|choice| self.tokenizer().encode(choice));
                ChoiceTokens {
                    prompt: asked.ids[asked.left_pad..asked.target.start].to_vec(),
                    choices: encoded.collect::<Result<_, _>>()?,
                }
            }
        };
        let budget = self.budgets().of(example.task(Mode::Direct));
        let picture = if codes.is_empty() { 0 } else { budget.codes + MARKS };
        let limit = budget.prompt + budget.answer.max(budget.direct_answer) + picture;
        for (choice, ids) in choices.iter().zip(&tokens.choices) {
            if ids.is_empty() {
                return Err(SequenceError::EmptyChoice {
                    choice: choice.clone(),
                });
            }
            let found = tokens.prompt.len() + ids.len();
            if found > limit {
                return Err(SequenceError::ChoiceTooLong { limit, found });
            }
        }
        Ok(tokens)
    }

    /// Choices behind a context that is read as it is.
    fn split_choices(&self, context: &str, choices: &[String]) -> Result<ChoiceTokens, SequenceError> {
        let kept = context.trim_end();
        let (prompt, spaces) = (self.tokenizer().encode(kept)?, &context[kept.len()..]);
        let behind = |choice: &String| -> Result<Vec<u32>, SequenceError> {
            let mut together = self.tokenizer().encode(&format!("{kept}{spaces}{choice}"))?;
            Ok(together.split_off(prompt.len().min(together.len())))
        };
        Ok(ChoiceTokens {
            choices: choices.iter().map(behind).collect::<Result<_, _>>()?,
            prompt,
        })
    }
}
