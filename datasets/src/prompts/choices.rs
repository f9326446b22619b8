//! A prompt and its candidate answers as the tokens whose log-likelihood is asked for.
//!
//! The prompt is written as for a direct answer, without padding. A choice is its own tokens, without an end of text.
//! Plain text ([`Kind::Text`]) is not wrapped in a chat. It is split as lm-evaluation-harness' `_encode_pair` does:
//! spaces at the context's end move to the choice, and the choice's tokens are those of context and choice together
//! without as many leading tokens as the context has alone.

use crate::example::{Example, Kind, Mode};
use crate::prompts::sequences::{MARKS, SequenceBuilder, SequenceError};

/// The tokens of a prompt and of each choice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChoiceTokens {
    /// The prompt, without padding.
    pub prompt: Vec<u32>,
    /// The choices, in their order, each at least one token.
    pub choices: Vec<Vec<u32>>,
}

impl SequenceBuilder {
    /// Tokenises an example's prompt and its choices. `codes` are those of the picture that is asked about.
    ///
    /// # Errors
    /// An error if the prompt exceeds its budget, if prompt and choice exceed the budgets of prompt and answer
    /// together, if a choice has no token, or if codes are missing.
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

    /// Tokenises choices that continue a plain context.
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
