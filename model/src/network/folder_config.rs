//! The configuration of a model's folder, and under which names its tensors are stored.

use std::path::Path;

use demask_api::checkpoint::{CONFIG, TOKENIZER};
use demask_api::config::{LLADA_TOKENIZER, LLADA_VOCABULARY};
use demask_api::{BackboneConfig, published};

use crate::error::{ModelError, Result};
use crate::network::slots::PREFIX;
use crate::weights::stored::StoredTensors;

/// No network of this family has more.
const LAYERS: usize = 1024;
/// Rows of a vocabulary at most: a drawn token is told as an f32, which holds every number up to here exactly.
const VOCABULARY: usize = 1 << 24;

/// The configuration of a folder. Where the picture codes begin is asked of the folder's tokenizer, if the file does not
/// say and there is one.
///
/// # Errors
/// A missing or broken file, options that are not computed here, a configuration that makes no network.
pub fn read_config(dir: &Path) -> Result<BackboneConfig> {
    let path = dir.join(CONFIG);
    let text = std::fs::read_to_string(&path).map_err(|source| ModelError::io(&path, source))?;
    let mut config =
        published::read(&text).map_err(|error| ModelError::checkpoint(&path, error.to_string()))?;
    check(&config)?;
    let tokenizer = dir.join(TOKENIZER);
    if config.codebook_size > 0 && config.image_token_offset.is_none() && tokenizer.is_file() {
        config.image_token_offset = Some(tokenizer_length(&tokenizer)?);
    }
    Ok(config)
}

/// Tokens of a `tokenizer.json`, the added ones too.
fn tokenizer_length(path: &Path) -> Result<u32> {
    let tokenizer = tokenizers::Tokenizer::from_file(path)
        .map_err(|error| ModelError::checkpoint(path, format!("not a tokenizer: {error}")))?;
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

/// Refuses what makes no network.
pub(crate) fn check(config: &BackboneConfig) -> Result<()> {
    let refuse = |message: String| Err(ModelError::Refused(format!("config.json: {message}")));
    let (width, heads, kv_heads) = (config.d_model, config.n_heads, config.kv_heads());
    if heads == 0 || !width.is_multiple_of(heads) || !(width / heads).is_multiple_of(2) {
        return refuse(format!(
            "d_model {width} cannot be split evenly into {heads} heads of even width"
        ));
    }
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return refuse(format!(
            "n_heads {heads} is not a multiple of n_kv_heads {kv_heads}"
        ));
    }
    if config.rows() > VOCABULARY {
        return refuse(format!(
            "a vocabulary of {}; expected at most {VOCABULARY}",
            config.rows()
        ));
    }
    let layers = config.n_layers;
    if config.rows() == 0 || !(1..=LAYERS).contains(&layers) {
        return refuse(format!(
            "vocab_size is {} and n_layers {layers}; expected at least 1 of each, and at most {LAYERS} layers",
            config.rows()
        ));
    }
    Ok(())
}
