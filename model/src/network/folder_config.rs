//! The configuration of a model's folder, and the names under which its tensors are stored.

use std::path::Path;

use demask_api::checkpoint::{CONFIG, TOKENIZER};
use demask_api::config::{LLADA_TOKENIZER, LLADA_VOCABULARY};
use demask_api::{BackboneConfig, bounded_file, limits, published, tokenizer_rules, validation};

use crate::error::{ModelError, Result};
use crate::network::slots::PREFIX;
use crate::weights::stored::StoredTensors;

/// Reads the configuration of a folder. If the file does not say where the picture codes begin, the length of the
/// folder's tokenizer does, if there is one.
///
/// # Errors
/// [`ModelError::Io`] if the file cannot be read. [`ModelError::Checkpoint`] if it is not a configuration, has an
/// option that is not implemented, or its heads do not fit its width, or if the tokenizer is broken.
pub fn read_config(dir: &Path) -> Result<BackboneConfig> {
    let path = dir.join(CONFIG);
    let text = bounded_file::read_text(&path, limits::LONGEST_CONFIG)
        .map_err(|source| ModelError::io(&path, source))?;
    let mut config =
        published::read(&text).map_err(|error| ModelError::checkpoint(&path, error.to_string()))?;
    heads(&config).map_err(|message| ModelError::checkpoint(&path, message))?;
    let tokenizer = dir.join(TOKENIZER);
    if config.codebook_size > 0 && config.image_token_offset.is_none() && tokenizer.is_file() {
        config.image_token_offset = Some(tokenizer_length(&tokenizer)?);
    }
    Ok(config)
}

/// Returns the number of tokens of a `tokenizer.json`, including added ones.
fn tokenizer_length(path: &Path) -> Result<u32> {
    let wrong = |error: &dyn std::fmt::Display| {
        ModelError::checkpoint(path, format!("this is not a tokenizer: {error}"))
    };
    let json = bounded_file::read_text(path, limits::LONGEST_TOKENIZER)
        .map_err(|source| ModelError::io(path, source))?;
    tokenizer_rules::check(&json).map_err(|words| wrong(&words))?;
    let tokenizer = tokenizers::Tokenizer::from_bytes(&json).map_err(|error| wrong(&error))?;
    Ok(u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX))
}

/// Returns the number of tokens of a folder's text tokenizer: from its file, else from the configuration, else LLaDA's
/// number if the vocabulary has LLaDA's size.
pub(crate) fn text_tokens(dir: &Path, config: &BackboneConfig) -> Result<u32> {
    let path = dir.join(TOKENIZER);
    if path.is_file() {
        return tokenizer_length(&path);
    }
    match config.image_token_offset {
        Some(offset) => Ok(offset),
        None if config.vocab_size == LLADA_VOCABULARY => Ok(LLADA_TOKENIZER),
        None => Err(ModelError::checkpoint(
            &path,
            "the file is missing; its number of tokens determines where the picture codes begin",
        )),
    }
}

/// Returns a function from a parameter's name to its stored name. They differ only for tied weights that are stored
/// under the head's name alone.
pub(crate) fn source(config: &BackboneConfig, stored: &StoredTensors) -> impl Fn(&str) -> String {
    let (table, head) = (format!("{PREFIX}.wte.weight"), format!("{PREFIX}.ff_out.weight"));
    let is_there = |name: &str| stored.shape(name).is_some();
    let renamed = config.weight_tying && !is_there(&table) && is_there(&head);
    move |name| match name {
        name if renamed && name == table => head.clone(),
        name => name.to_owned(),
    }
}

/// Returns the names of stored tensors that the network does not need: the head, if it is tied to the embedding.
pub(crate) fn ignored(config: &BackboneConfig) -> Vec<&'static str> {
    if config.weight_tying {
        return vec!["model.transformer.ff_out.weight"];
    }
    Vec::new()
}

/// Checks that a configuration describes a network: its numbers are within their limits (law L9) and its heads fit.
pub(crate) fn check(config: &BackboneConfig) -> Result<()> {
    let within = validation::backbone(config).map_err(|error| error.to_string());
    within
        .and_then(|()| heads(config))
        .map_err(|message| ModelError::Refused(format!("config.json: {message}")))
}

/// Checks that the heads divide the width into even parts, and that the key and value heads divide the heads.
fn heads(config: &BackboneConfig) -> std::result::Result<(), String> {
    let (width, heads, kv_heads) = (config.d_model, config.n_heads, config.kv_heads());
    if heads == 0 || !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) {
        return Err(format!(
            "d_model {width} cannot be split evenly into {heads} heads of even width"
        ));
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "n_heads {heads} is not a multiple of n_kv_heads {kv_heads}"
        ));
    }
    Ok(())
}
