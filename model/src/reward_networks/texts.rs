//! The tokenizer of a reward network: texts are encoded with its `tokenizer.json`, truncated, and padded to a common
//! length.
//!
//! Legend: B texts, L tokens of the longest text.

#![allow(non_snake_case)]

use std::path::Path;

use demask_api::{bounded_file, limits, tokenizer_rules};
use tch::Tensor;
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::{ModelError, Result};

/// The tokenizer of a network.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    tokenizer: Tokenizer,
    pad: i64,
}

impl Texts {
    /// Loads a folder's `tokenizer.json`. Texts are truncated to `most` tokens, including special tokens.
    ///
    /// # Errors
    /// [`ModelError::Io`] if the file cannot be read, [`ModelError::Checkpoint`] if it is not a tokenizer.
    pub(super) fn load(dir: &Path, most: usize, pad: i64) -> Result<Self> {
        let path = dir.join(demask_api::checkpoint::TOKENIZER);
        let json = bounded_file::read_text(&path, limits::LONGEST_TOKENIZER)
            .map_err(|source| ModelError::io(&path, source))?;
        let wrong = |error: tokenizers::Error| {
            ModelError::checkpoint(&path, format!("this is not a tokenizer: {error}"))
        };
        tokenizer_rules::check(&json).map_err(|words| wrong(words.into()))?;
        let mut tokenizer = Tokenizer::from_bytes(&json).map_err(wrong)?;
        let cut = TruncationParams {
            max_length: most,
            ..TruncationParams::default()
        };
        tokenizer
            .with_truncation(Some(cut))
            .map_err(wrong)?
            .with_padding(None);
        Ok(Self { tokenizer, pad })
    }

    /// Encodes texts. Returns the token ids and the attention mask, [B, L] each, i64, on the CPU.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the tokenizer fails or a text has no token, or any error libtorch reports.
    pub(super) fn tensors(&self, texts: &[String]) -> Result<(Tensor, Tensor)> {
        let rows: Vec<Vec<i64>> = texts.iter().map(|text| self.ids(text)).collect::<Result<_>>()?;
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut ids, mut real) = (Vec::new(), Vec::new());
        for row in &rows {
            let pads = length - row.len();
            ids.extend(row.iter().copied().chain(std::iter::repeat_n(self.pad, pads)));
            real.extend(std::iter::repeat_n(1i64, row.len()).chain(std::iter::repeat_n(0, pads)));
        }
        let shape = [rows.len() as i64, length as i64];
        Ok((
            Tensor::f_from_slice(&ids)?.f_view(shape)?,
            Tensor::f_from_slice(&real)?.f_view(shape)?,
        ))
    }

    fn ids(&self, text: &str) -> Result<Vec<i64>> {
        let encoded = self.tokenizer.encode_fast(text, true);
        let encoded = encoded.map_err(|error| {
            ModelError::Refused(format!(
                "a text for a reward network cannot be tokenised: {error}"
            ))
        })?;
        let ids: Vec<i64> = encoded.get_ids().iter().map(|&id| i64::from(id)).collect();
        if ids.is_empty() {
            return Err(ModelError::Refused(
                "a text for a reward network has no tokens, because the tokenizer adds none at its ends"
                    .into(),
            ));
        }
        Ok(ids)
    }
}
