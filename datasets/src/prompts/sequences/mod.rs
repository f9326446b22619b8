//! Turns examples into token sequences of one length per task: to train on, and to fill in.
//!
//! Training and sampling use the same positions (law L7): the prompt is padded on the left to its budget, and the
//! answer is filled up with eos. Padding is never attended to and positions are relative, so padding does not change
//! the result. Published models ([`PromptStyle`]) read text without padding; in their think-then-draw, the text part is
//! filled up with eos.
//!
//! ```text
//! text               pad… bos chat | answer eos…
//! understand         pad… <|mmu|> <|soi|> codes <|eoi|> bos chat | answer eos…
//! text to picture    pad… <|t2i|> bos prompt eos <|soi|> | codes | <|eoi|>
//! think then draw    pad… <|r2i|> bos chat | reasoning eos… | <|soi|> | codes | <|eoi|>
//! ```
//!
//! A conversation of several turns is an example for each of its answers, with all earlier turns as the prompt (LLaDA,
//! arXiv 2502.09992, appendix B.1: n turns are n pairs). The loss covers the assistant's words alone. An answer never
//! attends to later turns, just as at inference.
//!
//! - `mod.rs`: sequences to train on; `prompt.rs`: sequences to fill in;
//! - `budgets.rs`: the length of each part; `error.rs`: why an example does not fit.

mod budgets;
mod error;
mod prompt;

use demask_api::Quirks;
use demask_api::sequence::{Sequence, Span, Task};

use crate::example::{Example, Kind, Mode};
use crate::prompts::layout;
use crate::prompts::style::PromptStyle;
use crate::prompts::text_tokenizer::TextTokenizer;

pub use budgets::{Budget, Budgets, MARKS};
pub use error::SequenceError;
pub use prompt::Prompt;

/// Builds token sequences from examples.
#[derive(Clone)]
pub struct SequenceBuilder {
    tokenizer: TextTokenizer,
    budgets: Budgets,
    style: PromptStyle,
    quirks: Quirks,
}

impl SequenceBuilder {
    /// Makes a builder with Demask's own prompt style.
    #[must_use]
    pub fn new(tokenizer: TextTokenizer, budgets: Budgets) -> Self {
        Self {
            tokenizer,
            budgets,
            style: PromptStyle::default(),
            quirks: Quirks::default(),
        }
    }

    /// Returns the builder with another prompt style.
    #[must_use]
    pub fn with_style(self, style: PromptStyle) -> Self {
        Self { style, ..self }
    }

    /// Returns the builder with other budgets.
    #[must_use]
    pub fn with_budgets(self, budgets: Budgets) -> Self {
        Self { budgets, ..self }
    }

    /// Returns the builder with the selected quirks of the published code's prompts.
    #[must_use]
    pub fn with_quirks(self, quirks: Quirks) -> Self {
        Self { quirks, ..self }
    }

    /// Returns the prompt style.
    #[must_use]
    pub const fn style(&self) -> &PromptStyle {
        &self.style
    }

    /// Returns the text tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Returns the budgets.
    #[must_use]
    pub const fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Converts picture codes to token ids.
    #[must_use]
    pub fn image_ids(&self, codes: &[u32]) -> Vec<u32> {
        let offset = u32::try_from(self.tokenizer.len()).unwrap_or(u32::MAX);
        codes.iter().map(|&code| offset.saturating_add(code)).collect()
    }

    /// Converts token ids to picture codes; ids below the codes' become code 0.
    #[must_use]
    pub fn codes(&self, ids: &[u32]) -> Vec<u32> {
        let offset = u32::try_from(self.tokenizer.len()).unwrap_or(u32::MAX);
        ids.iter().map(|&id| id.saturating_sub(offset)).collect()
    }

    /// Builds a training sequence. `codes` are the codes of the example's picture, empty for tasks without one. With
    /// `drop_condition`, a request to draw loses its words and reasoning, for classifier-free guidance.
    ///
    /// # Errors
    /// An error if prompt or answer is too long, or if codes are missing.
    pub fn train(
        &self,
        example: &Example,
        mode: Mode,
        codes: &[u32],
        drop_condition: bool,
    ) -> Result<Sequence, SequenceError> {
        if example.kind == Kind::Text {
            return self.plain(example);
        }
        let task = example.task(mode);
        let mut prompt = self.prompt(example, mode, codes)?;
        if drop_condition && let Some(unconditional) = prompt.unconditional.take() {
            let span = prompt.then.unwrap_or(prompt.target);
            prompt.ids = unconditional;
            prompt.left_pad = prompt.unconditional_left_pad;
            put(&mut prompt.ids, span, &self.image_ids(self.picture(task, codes)?));
            return Ok(sequence(
                &example.id,
                task,
                prompt.ids,
                prompt.left_pad,
                vec![span],
            ));
        }
        let mut answer = vec![prompt.target];
        answer.extend(prompt.then);
        if task != Task::TextToImage {
            let text = self.answer(&example.completion(mode), prompt.target.len())?;
            put(&mut prompt.ids, prompt.target, &text);
        }
        if matches!(task, Task::TextToImage | Task::ThinkThenDraw) {
            let span = prompt.then.unwrap_or(prompt.target);
            put(&mut prompt.ids, span, &self.image_ids(self.picture(task, codes)?));
        }
        Ok(sequence(&example.id, task, prompt.ids, prompt.left_pad, answer))
    }

    /// Returns a finished sample as a training sequence whose answer is every filled span.
    #[must_use]
    pub fn completed(&self, id: &str, prompt: &Prompt, filled: &[u32]) -> Sequence {
        let mut answer = vec![prompt.target];
        answer.extend(prompt.then);
        sequence(id, prompt.task, filled.to_vec(), prompt.left_pad, answer)
    }

    /// Decodes the text of a filled span up to its end token.
    ///
    /// # Errors
    /// An error if the tokenizer fails.
    pub fn text(&self, ids: &[u32], span: Span) -> Result<String, SequenceError> {
        let ids = ids.get(span.start..span.end.min(ids.len())).unwrap_or_default();
        Ok(self.tokenizer.decode(&ids[..self.text_len(ids)])?)
    }

    /// Returns the number of tokens before the first end token.
    #[must_use]
    pub fn text_len(&self, ids: &[u32]) -> usize {
        let specials = self.tokenizer.specials();
        let end = ids.iter().position(|&id| self.style.ends(&specials, id));
        end.unwrap_or(ids.len())
    }

    /// Builds the sequence of plain text, which is all answer, as published.
    fn plain(&self, example: &Example) -> Result<Sequence, SequenceError> {
        let len = self.budgets.text.prompt + self.budgets.text.answer;
        let text = self
            .tokenizer
            .encode(example.answer.as_deref().unwrap_or(&example.prompt))?;
        fits_answer(text.len() + 2, len)?;
        let ids = layout::lm(&self.tokenizer.specials(), &text, len).ids;
        Ok(sequence(
            &example.id,
            Task::Text,
            ids,
            0,
            vec![Span { start: 0, end: len }],
        ))
    }

    /// Tokenises an answer and fills it up with at least one eos.
    fn answer(&self, text: &str, limit: usize) -> Result<Vec<u32>, SequenceError> {
        let mut ids = self.tokenizer.encode(text)?;
        fits_answer(ids.len() + 1, limit)?;
        ids.resize(limit, self.tokenizer.specials().eos);
        Ok(ids)
    }

    fn picture<'a>(&self, task: Task, codes: &'a [u32]) -> Result<&'a [u32], SequenceError> {
        let expected = self.budgets.of(task).codes;
        if codes.len() == expected {
            Ok(codes)
        } else {
            Err(SequenceError::Codes {
                expected,
                found: codes.len(),
            })
        }
    }
}

/// Overwrites a span with tokens of the same length.
fn put(ids: &mut [u32], span: Span, tokens: &[u32]) {
    if let Some(place) = ids.get_mut(span.start..span.end)
        && place.len() == tokens.len()
    {
        place.copy_from_slice(tokens);
    }
}

fn fits_answer(found: usize, limit: usize) -> Result<(), SequenceError> {
    if found > limit {
        Err(SequenceError::AnswerTooLong { limit, found })
    } else {
        Ok(())
    }
}

fn sequence(id: &str, task: Task, ids: Vec<u32>, left_pad: usize, answer: Vec<Span>) -> Sequence {
    Sequence {
        id: id.to_owned(),
        task,
        ids,
        left_pad,
        answer,
    }
}
