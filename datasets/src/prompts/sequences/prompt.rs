//! Sequences with mask tokens to fill in: text, a picture, or both in turn.

use demask_api::sequence::{Span, Task};

use super::budgets::{Budget, MARKS};
use super::{SequenceBuilder, SequenceError};
use crate::example::{Example, Kind, Mode, Turn};
use crate::prompts::layout;
use crate::prompts::style::{ChatError, PromptTask};
use crate::prompts::text_tokenizer::SpecialTokens;

/// A sequence with mask tokens to fill in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The task.
    pub task: Task,
    /// Prompt and mask tokens.
    pub ids: Vec<u32>,
    /// The number of leading padding positions.
    pub left_pad: usize,
    /// The positions to be filled first: text, or the picture's codes.
    pub target: Span,
    /// For think-then-draw, the picture's positions, which are filled after the reasoning.
    pub then: Option<Span>,
    /// For classifier-free guidance of a picture: the sequence without its words, of the same length.
    pub unconditional: Option<Vec<u32>>,
    /// The number of leading padding positions of `unconditional`.
    pub unconditional_left_pad: usize,
}

impl SequenceBuilder {
    /// Builds a sequence to fill in. Plain text ([`Kind::Text`]) is a prompt to continue. `codes` are those of the
    /// picture that is asked about; other tasks ignore them.
    ///
    /// # Errors
    /// An error if the prompt is too long, or if codes are missing.
    pub fn prompt(&self, example: &Example, mode: Mode, codes: &[u32]) -> Result<Prompt, SequenceError> {
        let (task, turns) = (example.task(mode), example.conversation());
        let (specials, budget) = (self.tokenizer.specials(), self.budgets.of(task));
        let answer = answer_budget(budget, example.kind, mode);
        match task {
            Task::Text => {
                let asked = PromptTask::Answer { mode, picture: false };
                // Plain text is continued as it is: without a chat, and without tokens before it.
                let ids = match example.kind {
                    Kind::Text => self.tokenizer.encode(&example.prompt)?,
                    _ => self.chat(&turns, asked)?,
                };
                Ok(self.text_prompt(task, self.padded(ids, budget.prompt)?, answer))
            }
            Task::Understand => {
                let image = self.image_ids(self.picture(task, codes)?);
                let asked = PromptTask::Answer { mode, picture: true };
                let chat = self.chat(&turns, asked)?;
                fits_prompt(chat.len() + 1, budget.prompt)?;
                let asked = layout::mmu_prompt(&specials, &image, &chat);
                let head = self.padded(asked, budget.prompt + budget.codes + MARKS)?;
                Ok(self.text_prompt(task, head, answer))
            }
            Task::TextToImage => self.drawing(&example.prompt, budget),
            Task::ThinkThenDraw => self.think_then_draw(&turns, budget),
        }
    }

    /// Returns the second half of think-then-draw: the sequence with its reasoning filled in and the picture still
    /// masked. `None` for other tasks, and if the picture was the target already.
    #[must_use]
    pub fn then_draw(&self, prompt: &Prompt, filled: &[u32]) -> Option<Prompt> {
        let target = prompt.then?;
        Some(Prompt {
            ids: filled.to_vec(),
            target,
            then: None,
            ..prompt.clone()
        })
    }

    fn chat(&self, turns: &[Turn], asked: PromptTask) -> Result<Vec<u32>, ChatError> {
        self.style
            .conversation(&self.tokenizer, &self.quirks, turns, asked)
    }

    /// Pads `ids` on the left to `len` and returns them with the amount of padding. A style without padding adds none.
    fn padded(&self, ids: Vec<u32>, len: usize) -> Result<(Vec<u32>, usize), SequenceError> {
        fits_prompt(ids.len(), len)?;
        let left_pad = if self.style.is_padded() {
            len - ids.len()
        } else {
            0
        };
        Ok((
            [vec![self.tokenizer.specials().pad; left_pad], ids].concat(),
            left_pad,
        ))
    }

    fn text_prompt(&self, task: Task, (mut ids, left_pad): (Vec<u32>, usize), answer: usize) -> Prompt {
        let target = Span {
            start: ids.len(),
            end: ids.len() + answer,
        };
        ids.resize(target.end, self.tokenizer.specials().mask);
        Prompt {
            task,
            ids,
            left_pad,
            target,
            then: None,
            unconditional: None,
            unconditional_left_pad: 0,
        }
    }

    fn drawing(&self, text: &str, budget: Budget) -> Result<Prompt, SequenceError> {
        let specials = self.tokenizer.specials();
        let text = self.tokenizer.encode(text)?;
        fits_prompt(text.len() + 3, budget.prompt)?;
        let masks = vec![specials.mask; budget.codes];
        let laid = layout::t2i(&specials, &text, &masks, budget.prompt - 1);
        let empty = layout::t2i(&specials, &[], &masks, budget.prompt - 1);
        let target = Span {
            start: budget.prompt + 1,
            end: budget.prompt + 1 + budget.codes,
        };
        Ok(Prompt {
            task: Task::TextToImage,
            ids: laid.ids,
            left_pad: laid.left_pad,
            target,
            then: None,
            unconditional: Some(empty.ids),
            unconditional_left_pad: empty.left_pad,
        })
    }

    fn think_then_draw(&self, turns: &[Turn], budget: Budget) -> Result<Prompt, SequenceError> {
        let specials = self.tokenizer.specials();
        let chat = self.chat(turns, PromptTask::ThinkThenDraw)?;
        let head = self.padded([vec![specials.r2i], chat].concat(), budget.prompt)?;
        let len = budget.prompt + budget.answer;
        let answer = if self.style.is_padded() {
            budget.answer
        } else {
            rounded(len - head.0.len())
        };
        let mut prompt = self.text_prompt(Task::ThinkThenDraw, head, answer);
        prompt.ids.resize(len, specials.eos);
        let picture = picture_to_fill(&specials, budget.codes);
        prompt.ids.extend(&picture);
        prompt.then = Some(Span {
            start: len + 1,
            end: len + 1 + budget.codes,
        });
        let (mut unconditional, left_pad) =
            self.padded(vec![specials.r2i, specials.bos, specials.eos], len)?;
        unconditional.resize(len, specials.eos);
        unconditional.extend(&picture);
        (prompt.unconditional, prompt.unconditional_left_pad) = (Some(unconditional), left_pad);
        Ok(prompt)
    }
}

/// Returns the answer's length; captions and instructions get the long answer in either mode.
fn answer_budget(budget: Budget, kind: Kind, mode: Mode) -> usize {
    match (mode, kind) {
        (Mode::Think, _)
        | (Mode::Direct, Kind::Caption | Kind::Scene | Kind::Instruction | Kind::PictureInstruction) => {
            budget.answer
        }
        (Mode::Direct, _) => budget.direct_answer,
    }
}

/// Rounds a length down to a multiple of [`WHOLE`], so that samplers can cut it into blocks; shorter lengths stay.
fn rounded(room: usize) -> usize {
    if room < WHOLE { room } else { room / WHOLE * WHOLE }
}

/// A divisor of the usual block lengths.
const WHOLE: usize = 32;

fn fits_prompt(found: usize, limit: usize) -> Result<(), SequenceError> {
    if found > limit {
        Err(SequenceError::PromptTooLong { limit, found })
    } else {
        Ok(())
    }
}

fn picture_to_fill(specials: &SpecialTokens, codes: usize) -> Vec<u32> {
    let mut ids = vec![specials.mask; codes + MARKS];
    ids[0] = specials.soi;
    ids[codes + 1] = specials.eoi;
    ids
}
