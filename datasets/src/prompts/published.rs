//! A published model's folder, LLaDA's or MMaDA's: whose it is, its tokenizer, how it is prompted.

use std::path::Path;

use demask_api::checkpoint::{CONFIG, MANIFEST, TOKENIZER};
use demask_api::{bounded_file, limits, validation};
use serde::Deserialize;
use serde_json::Value;

use crate::prompts::chat_template::{TemplateError, TokenizerSettings};
use crate::prompts::special_tokens::{Family, Stated};
use crate::prompts::style::PromptStyle;
use crate::prompts::text_tokenizer::{TextTokenizer, TokenizerError};

/// The file of the lengths that a checkpoint of ours was trained with.
pub const BUDGETS: &str = "budgets.json";
/// The name that templates call the first token by.
const BOS: &str = "bos_token";

/// Why a folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file that is missing or broken.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What was expected and found.
        message: String,
    },
    /// Its settings.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// Its tokenizer.
    #[error("{path}: {error}")]
    Tokenizer {
        /// The file.
        path: String,
        /// What was expected and found.
        error: TokenizerError,
    },
}

/// What is read of a `config.json` here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Facts {
    /// `llada` or `mmada`.
    pub model_type: Option<String>,
    /// Picture codes.
    pub codebook_size: Option<usize>,
    /// Rows of the vocabulary once it has picture codes.
    pub new_vocab_size: Option<usize>,
    /// Rows of the vocabulary.
    pub vocab_size: Option<usize>,
    /// The mask token.
    pub mask_token_id: Option<u32>,
    /// The end-of-text token.
    pub eos_token_id: Option<u32>,
    /// Longest sequence.
    pub max_sequence_length: Option<usize>,
}

impl Facts {
    /// Reads a folder's `config.json`.
    ///
    /// # Errors
    /// It is missing, or no configuration; a number beyond its limit (law L9).
    pub fn read(dir: &Path) -> Result<Self, FolderError> {
        let path = dir.join(CONFIG);
        let text = text(&path, limits::LONGEST_CONFIG)?;
        let fields = serde_json::from_str(&text).map_err(|error| broken(&path, &error))?;
        validation::backbone_fields(&fields).map_err(|error| broken(&path, &error))?;
        serde_json::from_value(Value::Object(fields)).map_err(|error| broken(&path, &error))
    }

    /// Whose model it is: one with picture codes is MMaDA's.
    #[must_use]
    pub fn family(&self) -> Family {
        let mmada = self.model_type.as_deref() == Some("mmada")
            || self.codebook_size.is_some_and(|codes| codes > 0)
            || self.new_vocab_size.or(self.vocab_size) == Some(MMADA_ROWS);
        if mmada { Family::Mmada } else { Family::Llada }
    }
}

/// Rows of MMaDA's vocabulary.
const MMADA_ROWS: usize = 134_656;

/// Whether a folder holds a published model rather than a checkpoint of ours, which has a manifest and lengths.
#[must_use]
pub fn is_published(dir: &Path) -> bool {
    dir.join(CONFIG).is_file() && ![MANIFEST, BUDGETS].iter().any(|file| dir.join(file).exists())
}

/// Reads how a published folder is prompted: its tokenizer's settings by its family's conventions.
///
/// # Errors
/// A file that is missing or broken.
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

/// Reads a folder's tokenizer by a family's conventions.
///
/// # Errors
/// `tokenizer.json` or `config.json` is missing or broken; they disagree; a special token is missing.
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
