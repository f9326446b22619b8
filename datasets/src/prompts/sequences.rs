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

use demask_api::Quirks;
use demask_api::limits::{self, CountRange};
use demask_api::sequence::{Sequence, Span, Task};
use demask_api::validation::{self, OutOfRange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::example::{Example, Kind, Mode, Turn};
use crate::prompts::layout;
use crate::prompts::style::{ChatError, PromptStyle, PromptTask};
use crate::prompts::text_tokenizer::{SpecialTokens, TextTokenizer, TokenizerError};

/// The number of marks around a picture's codes.
pub const MARKS: usize = 2;

/// The number of positions of each part of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The prompt in tokens, including bos, task token and chat marks, excluding a picture.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub prompt: usize,
    /// The answer with its reasoning, in tokens; also captions, and answers to instructions.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub answer: usize,
    /// The answer to a question or problem without reasoning, in tokens.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub direct_answer: usize,
    /// Picture codes; 0 for tasks without a picture.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub codes: usize,
}

/// The budget of each task; the defaults are the tabletop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Budgets {
    /// Text to picture.
    pub text_to_image: Budget,
    /// Text to text.
    pub text: Budget,
    /// Questions about pictures.
    pub understand: Budget,
    /// Reasoning, then a picture.
    pub think_then_draw: Budget,
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            text_to_image: Budget {
                prompt: 16,
                answer: 0,
                direct_answer: 0,
                codes: 64,
            },
            text: Budget {
                prompt: 48,
                answer: 36,
                direct_answer: 4,
                codes: 0,
            },
            understand: Budget {
                prompt: 24,
                answer: 36,
                direct_answer: 5,
                codes: 64,
            },
            think_then_draw: Budget {
                prompt: 24,
                answer: 16,
                direct_answer: 16,
                codes: 64,
            },
        }
    }
}

/// The text positions of a picture's sequence in the published layout, without the task token.
const PUBLISHED_TEXT: usize = 512;

impl Budgets {
    /// Returns the budgets of a published model: sequences of at most `longest` tokens, of which `answer` are new;
    /// pictures of `codes` codes after 512 text positions. Think-then-draw gives at least half of those to the
    /// reasoning.
    #[must_use]
    pub fn published(longest: usize, answer: usize, codes: usize) -> Self {
        let room = longest.saturating_sub(codes + MARKS);
        let text = room.min(PUBLISHED_TEXT + 1);
        let budget = |prompt: usize, answer: usize, codes: usize| Budget {
            prompt,
            answer,
            direct_answer: answer,
            codes,
        };
        Self {
            text_to_image: budget(text, 0, codes),
            text: budget(longest.saturating_sub(answer), answer, 0),
            understand: budget(room.saturating_sub(answer), answer, codes),
            think_then_draw: budget(text - text / 2, text / 2, codes),
        }
    }

    /// Checks every length against the limit of a sequence (law L9).
    ///
    /// # Errors
    /// The first length beyond the limit, with the limit.
    pub fn check(&self) -> Result<(), OutOfRange> {
        let most = CountRange {
            least: 0,
            ..limits::POSITIONS
        };
        let tasks = [
            ("text_to_image", &self.text_to_image),
            ("text", &self.text),
            ("understand", &self.understand),
            ("think_then_draw", &self.think_then_draw),
        ];
        tasks.into_iter().try_for_each(|(task, budget)| {
            let within = |part: &str, length| validation::within(&format!("{task}.{part}"), length, most);
            within("prompt", budget.prompt)?;
            within("answer", budget.answer)?;
            within("direct_answer", budget.direct_answer)?;
            within("codes", budget.codes)
        })
    }

    /// Returns these budgets for pictures of `codes` codes.
    #[must_use]
    pub const fn with_codes(mut self, codes: usize) -> Self {
        self.text_to_image.codes = codes;
        self.understand.codes = codes;
        self.think_then_draw.codes = codes;
        self
    }

    /// Returns the budget of a task.
    #[must_use]
    pub const fn of(&self, task: Task) -> Budget {
        match task {
            Task::TextToImage => self.text_to_image,
            Task::Text => self.text,
            Task::Understand => self.understand,
            Task::ThinkThenDraw => self.think_then_draw,
        }
    }
}

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

/// Rounds a length down to a multiple of [`WHOLE`], so that samplers can cut it into blocks; shorter lengths stay.
fn rounded(room: usize) -> usize {
    if room < WHOLE { room } else { room / WHOLE * WHOLE }
}

/// A divisor of the usual block lengths.
const WHOLE: usize = 32;

/// Overwrites a span with tokens of the same length.
fn put(ids: &mut [u32], span: Span, tokens: &[u32]) {
    if let Some(place) = ids.get_mut(span.start..span.end)
        && place.len() == tokens.len()
    {
        place.copy_from_slice(tokens);
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

fn fits_prompt(found: usize, limit: usize) -> Result<(), SequenceError> {
    if found > limit {
        Err(SequenceError::PromptTooLong { limit, found })
    } else {
        Ok(())
    }
}

fn fits_answer(found: usize, limit: usize) -> Result<(), SequenceError> {
    if found > limit {
        Err(SequenceError::AnswerTooLong { limit, found })
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

fn sequence(id: &str, task: Task, ids: Vec<u32>, left_pad: usize, answer: Vec<Span>) -> Sequence {
    Sequence {
        id: id.to_owned(),
        task,
        ids,
        left_pad,
        answer,
    }
}
