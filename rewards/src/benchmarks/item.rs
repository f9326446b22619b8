//! What passes between a benchmark and a model: an item, what is asked about it, the response and its verdict.

use demask_datasets::example::Example;
use demask_datasets::formats::Encoded;

use crate::completion::Completion;
use crate::verifiers::Verifiers;

/// An item of a benchmark.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The question and the right answer.
    pub example: Example,
    /// The group with which the item counts: the same question with its choices in another order, or the two halves of
    /// a pair.
    pub group: Option<String>,
    /// The undecoded picture of the question; [`Suite::with_picture`](super::Suite::with_picture) decodes it when the
    /// item is asked.
    pub picture: Option<Encoded>,
    /// Whether the picture's table names it as PNG, so that a harness which writes it under that name loses nothing.
    pub is_png: bool,
    /// The question and its choices without the protocol's wording; empty if the example has just that.
    pub bare: Vec<String>,
    /// Why the row cannot be asked. It then counts as wrong, because leaving it out would improve the result.
    pub broken: Option<String>,
    /// Whether its text must not be shown or stored, as GPQA's authors ask.
    pub is_secret: bool,
}

impl From<Example> for Item {
    fn from(example: Example) -> Self {
        Self {
            example,
            group: None,
            picture: None,
            is_png: false,
            bare: Vec::new(),
            broken: None,
            is_secret: false,
        }
    }
}

/// What a model is asked about an item.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemRequest {
    /// A completion of the item's example.
    Generate {
        /// Whether the model may reason first, if the run uses reasoning.
        may_think: bool,
    },
    /// The log-likelihood of each choice as the answer to the item's example.
    Likelihood {
        /// The choices, exactly as the model would write them, including a leading space.
        choices: Vec<String>,
        /// The masked views of each choice of several tokens; a single token needs only one, which is exact.
        samples: usize,
        /// The scale of classifier-free guidance; 0 is off.
        guidance: f32,
    },
}

impl ItemRequest {
    /// Asks for the log-likelihoods of choices with `samples` views each, without guidance.
    #[must_use]
    pub const fn likelihood(choices: Vec<String>, samples: usize) -> Self {
        Self::Likelihood {
            choices,
            samples,
            guidance: 0.0,
        }
    }
}

/// The model's response.
#[derive(Clone, Copy, Debug)]
pub enum Response<'a> {
    /// A completion.
    Completion(&'a Completion),
    /// The log-likelihood of each choice, in nats, in the order of the request.
    Likelihood(&'a [f64]),
}

impl Response<'_> {
    /// Whether the response is a completion that is right by the item's own check.
    #[must_use]
    pub fn is_right(&self, item: &Item, verifiers: &Verifiers) -> bool {
        match self {
            Self::Completion(completion) => verifiers.is_right(&item.example, completion),
            Self::Likelihood(_) => false,
        }
    }
}

/// The state of scoring a response.
#[derive(Clone, Debug, PartialEq)]
pub enum Scoring {
    /// The verdict is known.
    Done(Verdict),
    /// A judge model must be asked over HTTP, with the drawing if there is one; `score_reply` reads its reply.
    AskJudge {
        /// The system message; may be empty.
        system: String,
        /// The prompt for the judge model.
        prompt: String,
        /// The verdict if no judge is named; absent if a judge is required.
        otherwise: Option<Verdict>,
    },
    /// A reward network must score the drawing for this text; `score_reply` reads the number.
    AskNetwork {
        /// `clip`, whose number is the cosine, or `image_reward`.
        network: &'static str,
        /// The text.
        text: String,
    },
    /// A detector must find the objects of the drawing; `score_reply` reads its JSON.
    AskDetector {
        /// The drawing's name in the benchmark's own folder layout.
        image: String,
        /// The classes of objects to detect.
        classes: Vec<String>,
    },
    /// An external reward must be asked; its value, as a share of its range, is the credit.
    AskReward {
        /// The reward's name.
        reward: String,
    },
}

/// The verdict on one response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The credit from 0 (wrong) to 1 (right).
    pub credit: f64,
    /// The answer as it was parsed, for metrics over the whole set.
    pub answer: String,
}

/// The prefix that marks the answer of an unjudged item.
const UNJUDGED: &str = "unjudged: ";

impl Verdict {
    /// Makes the verdict of a response that could not be judged. It counts as wrong unless a benchmark says otherwise.
    #[must_use]
    pub fn unjudged(why: &str) -> Self {
        Self {
            credit: 0.0,
            answer: format!("{UNJUDGED}{why}"),
        }
    }

    /// Whether the response was judged.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        !self.answer.starts_with(UNJUDGED)
    }
}

impl From<bool> for Verdict {
    fn from(is_right: bool) -> Self {
        Self {
            credit: f64::from(u8::from(is_right)),
            answer: String::new(),
        }
    }
}

/// An item with its verdict.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// The item.
    pub item: Item,
    /// The verdict on the model's response.
    pub verdict: Verdict,
}
