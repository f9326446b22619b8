//! The prompt style of a checkpoint: its family, its chat template, and how reasoning is requested. It is stored beside
//! the weights, so that a fine-tuned published model is still prompted as it was trained.

use std::collections::BTreeMap;

use demask_api::{Quirks, Template};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::example::{Mode, Turn};
use crate::prompts::chat_template::{self, LLADA, MMADA, TemplateError};
use crate::prompts::foreign;
use crate::prompts::special_tokens::{Family, SpecialTokens};
use crate::prompts::text_tokenizer::{TextTokenizer, TokenizerError};

/// MMaDA's instruction before a text that requires reasoning (`mmada.md` 2.2); the model was trained on these words.
pub const THINK: &str = "You should first think about the reasoning process in the mind and then provide the user with \
                         the answer. The reasoning process is enclosed within <think> </think> tags, i.e. <think> \
                         reasoning process here </think> answer here";
/// MMaDA's instruction for reasoning before a picture.
pub const THINK_THEN_DRAW: &str = "You should first think out a more detailed version of the description and then provide the user with the image. \
     The detailed description is enclosed within <think> </think> tags, i.e. <think> detailed description here </think> \
     image here";
/// The end of a turn in MMaDA's hand-written strings, a typo for `<|eot_id|>`.
const EOT_AS_TEXT: &str = "<eot_id>";

/// Why a chat could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The template failed.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// The task of a prompt, as far as its wording depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptTask {
    /// A text, possibly about a picture.
    Answer {
        /// With or without reasoning.
        mode: Mode,
        /// Whether it is about a picture.
        picture: bool,
    },
    /// Reasoning, then a picture.
    ThinkThenDraw,
}

/// How a checkpoint is prompted; the default is Demask's own style.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PromptStyle {
    /// The model family.
    pub family: Family,
    /// The checkpoint's own chat template, a Jinja source.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "within_limits")]
    pub template: Option<String>,
    /// Special tokens by their names in templates.
    pub names: BTreeMap<String, String>,
}

/// Checks the limits of a deserialised template, which may come from a download (law L9).
fn within_limits<'de, D: Deserializer<'de>>(file: D) -> Result<Option<String>, D::Error> {
    let template = Option::<String>::deserialize(file)?;
    if let Some(source) = &template {
        foreign::template(source).map_err(|words| D::Error::custom(format!("template: {words}")))?;
    }
    Ok(template)
}

impl PromptStyle {
    /// Whether prompts are padded on the left to one length. Demask's own models are trained so; published models read
    /// text unpadded.
    #[must_use]
    pub fn is_padded(&self) -> bool {
        self.family == Family::Tabletop
    }

    /// Whether a token ends a text: the end of text, or in published families the end of a turn.
    #[must_use]
    pub fn ends(&self, specials: &SpecialTokens, id: u32) -> bool {
        id == specials.eos || (self.family != Family::Tabletop && id == specials.eot)
    }

    /// Tokenises a user's turn and the assistant's header, with bos first.
    ///
    /// # Errors
    /// An error if the template cannot be rendered or the tokenizer fails.
    pub fn chat(
        &self,
        tokenizer: &TextTokenizer,
        quirks: &Quirks,
        text: &str,
        asked: PromptTask,
    ) -> Result<Vec<u32>, ChatError> {
        self.conversation(tokenizer, quirks, &[Turn::user(text)], asked)
    }

    /// Tokenises the turns of a conversation and the assistant's header, with bos first. The request for reasoning is
    /// added to the user's last turn.
    ///
    /// # Errors
    /// An error if the template cannot be rendered or refuses these turns, or if the tokenizer fails.
    pub fn conversation(
        &self,
        tokenizer: &TextTokenizer,
        quirks: &Quirks,
        turns: &[Turn],
        asked: PromptTask,
    ) -> Result<Vec<u32>, ChatError> {
        let typo = quirks.eot_as_text && matches!(asked, PromptTask::Answer { picture: true, .. });
        let mut turns = turns.to_vec();
        if let Some(last) = turns.iter_mut().rfind(|turn| turn.is_users()) {
            last.content = self.words(&last.content, asked);
        }
        if self.family == Family::Tabletop {
            return Ok(in_pieces(tokenizer, quirks, &turns, typo)?);
        }
        for turn in &mut turns {
            turn.content = tokenizer.guarded(&turn.content);
        }
        let mut chat = chat_template::render(self.source(quirks.template), &turns, &self.names)?;
        if typo {
            chat = chat.replace("<|eot_id|>", EOT_AS_TEXT);
        }
        Ok(tokenizer.encode_marked(&chat)?)
    }

    /// Returns the user's text with the request for reasoning.
    fn words(&self, text: &str, asked: PromptTask) -> String {
        match (self.family, asked) {
            (Family::Tabletop, PromptTask::Answer { mode, .. }) => format!("{text}{}", mode.instruction()),
            (
                Family::Mmada,
                PromptTask::Answer {
                    mode: Mode::Think, ..
                },
            ) => format!("{THINK}\n{text}"),
            (Family::Mmada, PromptTask::ThinkThenDraw) => format!("{THINK_THEN_DRAW}\n{text}"),
            _ => text.to_owned(),
        }
    }

    fn source(&self, template: Template) -> &str {
        let families = if self.family == Family::Llada {
            LLADA
        } else {
            MMADA
        };
        match template {
            Template::Checkpoint => self.template.as_deref().unwrap_or(families),
            Template::Mmada => MMADA,
            Template::Llada => LLADA,
        }
    }
}

/// Tokenises Demask's own chat format: words and markup are tokenised separately, as in training.
fn in_pieces(
    tokenizer: &TextTokenizer,
    quirks: &Quirks,
    turns: &[Turn],
    typo: bool,
) -> Result<Vec<u32>, TokenizerError> {
    let specials = tokenizer.specials();
    let line_feed = match quirks.template {
        Template::Llada => "\n\n",
        Template::Checkpoint | Template::Mmada => "\n",
    };
    let line_feed = tokenizer.encode(line_feed)?;
    let header = |role: &str| -> Result<Vec<u32>, TokenizerError> {
        let role = tokenizer.encode(role)?;
        Ok([
            &[specials.start_header],
            role.as_slice(),
            &[specials.end_header],
            &line_feed,
        ]
        .concat())
    };
    let end = if typo {
        tokenizer.encode(EOT_AS_TEXT)?
    } else {
        vec![specials.eot]
    };
    let mut chat = vec![specials.bos];
    for turn in turns {
        chat.extend(header(&turn.role)?);
        chat.extend(tokenizer.encode(&turn.content)?);
        chat.extend(&end);
    }
    chat.extend(header("assistant")?);
    Ok(chat)
}
