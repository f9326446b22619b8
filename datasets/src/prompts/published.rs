//! The folder of a published model, LLaDA's or MMaDA's: its family, tokenizer and prompt style.

use std::path::Path;

use demask_api::checkpoint::{CONFIG, MANIFEST, TOKENIZER};
use demask_api::{bounded_file, bounded_json, limits, validation};
use serde::Deserialize;
use serde_json::Value;

use crate::prompts::chat_template::{TemplateError, TokenizerSettings};
use crate::prompts::special_tokens::{Family, Stated};
use crate::prompts::style::PromptStyle;
use crate::prompts::text_tokenizer::{TextTokenizer, TokenizerError};

/// The file with the sequence lengths of a checkpoint that Demask trained.
pub const BUDGETS: &str = "budgets.json";
/// The name of the first token in templates.
const BOS: &str = "bos_token";

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A missing or broken file.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What was expected and found.
        message: String,
    },
    /// Broken chat settings.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A broken tokenizer.
    #[error("{path}: {error}")]
    Tokenizer {
        /// The file.
        path: String,
        /// What was expected and found.
        error: TokenizerError,
    },
}

/// The fields of a `config.json` that matter for prompts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `llada` or `mmada`.
    pub model_type: Option<String>,
    /// The number of picture codes.
    pub codebook_size: Option<usize>,
    /// The size of the vocabulary with picture codes.
    pub new_vocab_size: Option<usize>,
    /// The size of the vocabulary.
    pub vocab_size: Option<usize>,
    /// The mask token.
    pub mask_token_id: Option<u32>,
    /// The end-of-text token.
    pub eos_token_id: Option<u32>,
    /// The longest sequence in tokens.
    pub max_sequence_length: Option<usize>,
}

impl Facts {
    /// Reads a folder's `config.json`.
    ///
    /// # Errors
    /// An error if it is missing or not a configuration, or if a number exceeds its limit (law L9).
    pub fn read(dir: &Path) -> Result<Self, FolderError> {
        let path = dir.join(CONFIG);
        let text = text(&path, limits::LONGEST_CONFIG)?;
        let fields = bounded_json::parse(&text, limits::MOST_CONFIG_VALUES);
        let fields = fields.map_err(|error| broken(&path, &error))?;
        validation::backbone_fields(&fields).map_err(|error| broken(&path, &error))?;
        serde_json::from_value(Value::Object(fields)).map_err(|error| broken(&path, &error))
    }

    /// Returns the model's family: a model with picture codes is MMaDA.
    #[must_use]
    pub fn family(&self) -> Family {
        let mmada = self.model_type.as_deref() == Some("mmada")
            || self.codebook_size.is_some_and(|codes| codes > 0)
            || self.new_vocab_size.or(self.vocab_size) == Some(MMADA_ROWS);
        if mmada { Family::Mmada } else { Family::Llada }
    }
}

/// The size of MMaDA's vocabulary.
const MMADA_ROWS: usize = 134_656;

/// Whether a folder holds a published model. A checkpoint of Demask has a manifest and a file of lengths instead.
#[must_use]
pub fn is_published(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && ![MANIFEST, BUDGETS].iter().any(|file| dir.join(file).exists())
}

/// Reads the prompt style of a published folder from its tokenizer's settings and its family's conventions.
///
/// # Errors
/// An error if a file is missing or broken.
pub fn style(dir: &Path) -> Result<PromptStyle, FolderError> {
    let family = Facts::read(dir)?.family();
    let TokenizerSettings { template, mut names } = TokenizerSettings::read(dir)?;
    names
        .entry(BOS.to_owned())
        .or_insert_with(|| family.names()[0][0].to_owned());
    Ok(PromptStyle {
        family,
        template,
        names,
    })
}

/// Reads a folder's tokenizer by the conventions of a family.
///
/// # Errors
/// An error if `tokenizer.json` or `config.json` is missing or broken, if they disagree, or if a special token is
/// missing.
pub fn tokenizer(dir: &Path, family: Family) -> Result<TextTokenizer, FolderError> {
    let path = dir.join(TOKENIZER);
    let json = text(&path, limits::LONGEST_TOKENIZER)?;
    let read = if family == Family::Tabletop {
        TextTokenizer::from_json(&json)
    } else {
        let facts = Facts::read(dir)?;
        let stated = Stated {
            mask: facts.mask_token_id,
            eos: facts.eos_token_id,
        };
        TextTokenizer::published(&json, family, stated)
    };
    read.map_err(|error| FolderError::Tokenizer {
        path: path.display().to_string(),
        error,
    })
}

fn text(path: &Path, longest: u64) -> Result<String, FolderError> {
    bounded_file::read_text(path, longest).map_err(|error| broken(path, &error))
}

fn broken(path: &Path, error: &dyn std::error::Error) -> FolderError {
    FolderError::File {
        path: path.display().to_string(),
        message: error.to_string(),
    }
}
