//! The number of positions of each part of a sequence, per task.

use demask_api::limits::{self, CountRange};
use demask_api::sequence::Task;
use demask_api::validation::{self, OutOfRange};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
