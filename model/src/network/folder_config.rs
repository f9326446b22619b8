//! The configuration of a model's folder, and under which names its tensors are stored.

use std::path::Path;

use demask_api::checkpoint::{CONFIG, TOKENIZER};
use demask_api::config::{LLADA_TOKENIZER, LLADA_VOCABULARY};
use demask_api::{BackboneConfig, bounded_file, limits, published, tokenizer_rules, validation};

use crate::error::{ModelError, Result};
use crate::network::slots::PREFIX;
use crate::weights::stored::StoredTensors;

/// The configuration of a folder. Where the picture codes begin is asked of the folder's tokenizer, if the file does not
/// say and there is one.
///
/// # Errors
/// A missing or broken file, options that are not computed here, a configuration that makes no network.
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

/// Tokens of a `tokenizer.json`, the added ones too.
fn tokenizer_length(path: &Path) -> Result<u32> {
    let wrong =
        |error: &dyn std::fmt::Display| ModelError::checkpoint(path, format!("not a tokenizer: {error}"));
    let json = bounded_file::read_text(path, limits::LONGEST_TOKENIZER)
        .map_err(|source| ModelError::io(path, source))?;
    tokenizer_rules::check(&json).map_err(|words| wrong(&words))?;
    let tokenizer = tokenizers::Tokenizer::from_bytes(&json).map_err(|error| wrong(&error))?;
    Ok(u32::try_from(tokenizer.get_vocab_size(true)).unwrap_or(u32::MAX))
}

/// Tokens of a folder's text tokenizer: what its file says, or LLaDA's for LLaDA's vocabulary.
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
            "missing: its length says where picture codes begin",
        )),
    }
}

/// Under which name a parameter is stored: a tied head lies beside the embedding, or alone under its own name.
pub(crate) fn source(config: &BackboneConfig, stored: &StoredTensors) -> impl Fn(&str) -> String {
    let (table, head) = (format!("{PREFIX}.wte.weight"), format!("{PREFIX}.ff_out.weight"));
    let is_there = |name: &str| stored.shape(name).is_some();
    let renamed = config.weight_tying && !is_there(&table) && is_there(&head);
    move |name| match name {
        name if renamed && name == table => head.clone(),
        name => name.to_owned(),
    }
}

/// Stored tensors that are not needed.
pub(crate) fn ignored(config: &BackboneConfig) -> Vec<&'static str> {
    if config.weight_tying {
        return vec!["model.transformer.ff_out.weight"];
    }
    Vec::new()
}

/// Refuses what makes no network: a number beyond its limit (law L9), heads that do not fit.
pub(crate) fn check(config: &BackboneConfig) -> Result<()> {
    let within = validation::backbone(config).map_err(|error| error.to_string());
    within
        .and_then(|()| heads(config))
        .map_err(|message| ModelError::Refused(format!("config.json: {message}")))
}

/// Whether a network's heads divide its width, and its key and value heads its heads.
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
