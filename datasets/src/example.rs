//! The neutral record that every source yields; curation, training, rollouts, scoring and evaluation share it.

use demask_api::Picture;
use demask_api::sequence::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::scene::request::SceneRequest;

/// The user's prompt in a captioning example.
pub const CAPTION_PROMPT: &str = "describe the table";

/// The part of a source that an example belongs to; the splits share no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Used for training.
    Train,
    /// Used for monitoring during training.
    Validation,
    /// Used for benchmarks only.
    Test,
}

impl Split {
    /// All splits.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Returns the split's name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What an example asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Draw what the prompt says.
    TextToImage,
    /// Describe a picture.
    Caption,
    /// Describe a fuller picture. Its description is too long for a short answer; such pictures train the image
    /// tokenizer.
    Scene,
    /// Answer a question about a picture.
    Question,
    /// Solve a problem in words.
    WordProblem,
    /// Work out what to draw, then draw it.
    ThinkThenDraw,
    /// Plain text without a question.
    Text,
    /// An instruction and a free answer.
    Instruction,
    /// An instruction about a picture and a free answer.
    PictureInstruction,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::TextToImage,
        Self::Caption,
        Self::Scene,
        Self::Question,
        Self::WordProblem,
        Self::ThinkThenDraw,
        Self::Text,
        Self::Instruction,
        Self::PictureInstruction,
    ];

    /// Returns the kind's name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TextToImage => "text_to_image",
            Self::Caption => "caption",
            Self::Scene => "scene",
            Self::Question => "question",
            Self::WordProblem => "word_problem",
            Self::ThinkThenDraw => "think_then_draw",
            Self::Text => "text",
            Self::Instruction => "instruction",
            Self::PictureInstruction => "picture_instruction",
        }
    }

    /// Returns whether the answer is a picture.
    #[must_use]
    pub const fn draws(self) -> bool {
        matches!(self, Self::TextToImage | Self::ThinkThenDraw)
    }

    /// Returns the modality: the sequence layout and loss with which this kind is trained in `mode`. In direct mode, a
    /// think-then-draw request is plain text-to-image.
    #[must_use]
    pub const fn task(self, mode: Mode) -> Task {
        match self {
            Self::TextToImage => Task::TextToImage,
            Self::Caption | Self::Scene | Self::Question | Self::PictureInstruction => Task::Understand,
            Self::WordProblem | Self::Text | Self::Instruction => Task::Text,
            Self::ThinkThenDraw => match mode {
                Mode::Think => Task::ThinkThenDraw,
                Mode::Direct => Task::TextToImage,
            },
        }
    }
}

/// Whether reasoning precedes the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `<think>` reasoning `</think>`, then the result.
    #[default]
    Think,
    /// Only the result.
    Direct,
}

impl Mode {
    /// Returns the short instruction that ends a text prompt in this mode.
    #[must_use]
    pub const fn instruction(self) -> &'static str {
        match self {
            Self::Think => " /think",
            Self::Direct => " /no",
        }
    }
}

/// How an answer is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "check", rename_all = "snake_case")]
pub enum Check {
    /// The answer cannot be verified.
    #[default]
    None,
    /// The answer's text must match after case and white space are normalised.
    Exact {
        /// The expected answer.
        answer: String,
    },
    /// The answer's number must match by value (`0.5` and `1/2` are equal).
    Number {
        /// The expected answer.
        answer: String,
    },
    /// The drawn picture is read back as a table and compared with a request.
    Scene {
        /// The objects that must lie on the table.
        request: SceneRequest,
    },
    /// The drawn picture's class must match, as judged by a classifier built from the source's training pictures.
    Class {
        /// The expected class.
        class: String,
    },
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
}

impl Turn {
    /// Makes a turn of the user.
    #[must_use]
    pub fn user(content: &str) -> Self {
        Self {
            role: "user".into(),
            content: content.into(),
        }
    }

    /// Whether the turn is the user's.
    #[must_use]
    pub fn is_users(&self) -> bool {
        self.role == "user"
    }
}

/// One example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The lineage id (law L5): the first 32 hex digits of the BLAKE3 of the content.
    pub id: String,
    /// The source that yielded the example: `tabletop`, or one named in a profile.
    pub source: String,
    /// The file and the line or row number in it, such as `train.jsonl:17`; empty for generated examples.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The licence.
    pub licence: String,
    /// The split.
    pub split: Split,
    /// What the example asks for.
    pub kind: Kind,
    /// The category that it counts towards in a benchmark (`counting`, `how_many`, `two_steps`); may be empty.
    pub category: String,
    /// Whether it shows a composition that is held out of training.
    #[serde(default)]
    pub held_out: bool,
    /// The user's words, without the mode's instruction.
    pub prompt: String,
    /// The whole conversation before the answer, when it has more than the prompt; `prompt` is then the user's last
    /// turn. Empty when the conversation is the prompt alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// The picture that is asked about, or that is to be drawn.
    pub picture: Option<Picture>,
    /// Worked reasoning, without the think marks.
    pub reasoning: Option<String>,
    /// The answer's text; `None` when the answer is the picture.
    pub answer: Option<String>,
    /// How to verify an answer.
    pub check: Check,
    /// The row's own columns that the source keeps (`keep`), for external rewards and benchmarks. They do not enter the
    /// id.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub columns: Map<String, Value>,
}

impl Example {
    /// Sets the id from the content. Source, place, licence and split do not enter it: equal content has an equal id.
    #[must_use]
    pub fn with_id(mut self) -> Self {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(self.kind.name().as_bytes());
        part(self.prompt.as_bytes());
        part(self.picture.as_ref().map_or(&[], |picture| &picture.rgb));
        part(self.reasoning.as_deref().unwrap_or_default().as_bytes());
        part(self.answer.as_deref().unwrap_or_default().as_bytes());
        for turn in &self.turns {
            part(turn.role.as_bytes());
            part(turn.content.as_bytes());
        }
        self.id = hasher.finalize().to_hex()[..32].to_string();
        self
    }

    /// Returns [`Mode::Think`] if the example brings reasoning, else [`Mode::Direct`].
    #[must_use]
    pub const fn own_mode(&self) -> Mode {
        match self.reasoning {
            Some(_) => Mode::Think,
            None => Mode::Direct,
        }
    }

    /// Returns the right answer in words; empty if none is known.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.check {
            Check::Exact { answer } | Check::Number { answer } => answer.clone(),
            Check::Scene { request } => request.words(),
            Check::Class { class } => class.clone(),
            Check::None => self.answer.clone().unwrap_or_default(),
        }
    }

    /// Returns all turns before the answer.
    #[must_use]
    pub fn conversation(&self) -> Vec<Turn> {
        match self.turns.is_empty() {
            true => vec![Turn::user(&self.prompt)],
            false => self.turns.clone(),
        }
    }

    /// Returns the sequence layout and loss of the example in `mode`.
    #[must_use]
    pub fn task(&self, mode: Mode) -> Task {
        self.kind.task(mode)
    }

    /// Returns the text that the model should write in `mode`: the reasoning in think marks (when wanted and known),
    /// then the answer. Empty for a picture without reasoning.
    #[must_use]
    pub fn completion(&self, mode: Mode) -> String {
        let answer = self.answer.as_deref().unwrap_or_default();
        match (&self.reasoning, mode) {
            (Some(reasoning), Mode::Think) => format!("<think>{reasoning}</think>{answer}"),
            _ => answer.to_owned(),
        }
    }
}
