//! The neutral record that every source yields, and that curation, training, rollouts, scoring and evaluation share.

use demask_api::Picture;
use demask_api::sequence::Task;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::scene::request::SceneRequest;

/// What the user says to get a caption.
pub const CAPTION_PROMPT: &str = "describe the table";

/// Which part of a source an example belongs to; parts never share content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Trained on.
    Train,
    /// Looked at while training.
    Validation,
    /// Benchmarks only.
    Test,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// Its name in files and tables.
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
    /// Describe a fuller picture: what an image tokenizer learns from, too long to say in a short answer.
    Scene,
    /// Answer a question about a picture.
    Question,
    /// Solve a problem in words.
    WordProblem,
    /// Work out what to draw, then draw it.
    ThinkThenDraw,
    /// Plain text, nothing asked.
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

    /// Its name in files and tables.
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

    /// The modality: which sequence layout and loss it is trained with in this mode. A request that needs thought is
    /// plain text-to-image when asked without.
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

/// Whether reasoning is wanted before the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `<think>` reasoning `</think>`, then the result.
    #[default]
    Think,
    /// The result alone.
    Direct,
}

impl Mode {
    /// The short instruction that ends a text prompt in this mode.
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
    /// It cannot be.
    #[default]
    None,
    /// The answer text, after normalising case and white space.
    Exact {
        /// What it must be.
        answer: String,
    },
    /// The answer's number, by value (`0.5` and `1/2` are the same).
    Number {
        /// What it must be.
        answer: String,
    },
    /// The drawn picture, read back as a table.
    Scene {
        /// What must lie on it.
        request: SceneRequest,
    },
    /// The drawn picture's class, by a classifier of the source's training pictures.
    Class {
        /// What it must be.
        class: String,
    },
}

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Turn {
    /// What the user says.
    #[must_use]
    pub fn user(content: &str) -> Self {
        Self {
            role: "user".into(),
            content: content.into(),
        }
    }

    /// Whether the user says it.
    #[must_use]
    pub fn is_users(&self) -> bool {
        self.role == "user"
    }
}

/// One example.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// BLAKE3 of the content in hex (32 digits): the lineage id (law L5).
    pub id: String,
    /// The source that it comes from: `tabletop`, or one of a profile.
    pub source: String,
    /// Where a person finds it: the file and the line or number in it, `train.jsonl:17`; empty for what was generated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// Under which licence.
    pub licence: String,
    /// Which split.
    pub split: Split,
    /// What is asked for.
    pub kind: Kind,
    /// The part of a benchmark that it counts in (`counting`, `how_many`, `two_steps`); may be empty.
    pub category: String,
    /// It shows a composition that is kept out of training.
    #[serde(default)]
    pub held_out: bool,
    /// What the user says, without the mode's instruction.
    pub prompt: String,
    /// The conversation that is answered, where there is more of it than the prompt, which is then the user's last turn.
    /// Empty where the prompt alone is asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub turns: Vec<Turn>,
    /// The picture: asked about, or to be drawn.
    pub picture: Option<Picture>,
    /// Worked reasoning, without the think marks.
    pub reasoning: Option<String>,
    /// The text that answers; none when the answer is the picture.
    pub answer: Option<String>,
    /// How to verify.
    pub check: Check,
    /// The row's own columns that were asked to be kept (`keep` of a source), for rewards and benchmarks that are not part of
    /// the program; they do not enter the id.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub columns: Map<String, Value>,
}

impl Example {
    /// Sets the id from the content. Source, place, licence and split do not enter: the same content has the same id.
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

    /// With reasoning where the example brings some.
    #[must_use]
    pub const fn own_mode(&self) -> Mode {
        match self.reasoning {
            Some(_) => Mode::Think,
            None => Mode::Direct,
        }
    }

    /// The answer that is right, in words; empty where none is known.
    #[must_use]
    pub fn reference(&self) -> String {
        match &self.check {
            Check::Exact { answer } | Check::Number { answer } => answer.clone(),
            Check::Scene { request } => request.words(),
            Check::Class { class } => class.clone(),
            Check::None => self.answer.clone().unwrap_or_default(),
        }
    }

    /// All that is said before the answer.
    #[must_use]
    pub fn conversation(&self) -> Vec<Turn> {
        match self.turns.is_empty() {
            true => vec![Turn::user(&self.prompt)],
            false => self.turns.clone(),
        }
    }

    /// The layout and loss in this mode.
    #[must_use]
    pub fn task(&self, mode: Mode) -> Task {
        self.kind.task(mode)
    }

    /// What the model writes in this mode: reasoning in think marks (when wanted and known), then the answer. Empty for
    /// a picture without reasoning.
    #[must_use]
    pub fn completion(&self, mode: Mode) -> String {
        let answer = self.answer.as_deref().unwrap_or_default();
        match (&self.reasoning, mode) {
            (Some(reasoning), Mode::Think) => format!("<think>{reasoning}</think>{answer}"),
            _ => answer.to_owned(),
        }
    }
}
