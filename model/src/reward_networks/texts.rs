//! Texts as a reward network reads them: its own `tokenizer.json`, cut at its longest length, padded to one length.
//!
//! Legend: B texts, L tokens of the longest.

#![allow(non_snake_case)]

use std::path::Path;

use demask_api::{bounded_file, limits, tokenizer_rules};
use tch::Tensor;
use tokenizers::{Tokenizer, TruncationParams};

use crate::error::{ModelError, Result};

/// A network's tokenizer.
#[derive(Clone, Debug)]
pub(super) struct Texts {
    tokenizer: Tokenizer,
    pad: i64,
}

impl Texts {
    /// Reads a folder's `tokenizer.json`; texts have at most `most` tokens, those at their ends included.
    ///
    /// # Errors
    /// A file that is missing or is none.
    pub(super) fn load(dir: &Path, most: usize, pad: i64) -> Result<Self> {
        let path = dir.join(demask_api::checkpoint::TOKENIZER);
        let json = bounded_file::read_text(&path, limits::LONGEST_TOKENIZER)
            .map_err(|source| ModelError::io(&path, source))?;
        let wrong =
            |error: tokenizers::Error| ModelError::checkpoint(&path, format!("not a tokenizer: {error}"));
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

    /// Token ids and which of them are real, [B, L] each, i64, on the CPU.
    ///
    /// # Errors
    /// The tokenizer's; a text that comes out empty.
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
        let encoded =
            encoded.map_err(|error| ModelError::Refused(format!("a text for a reward network: {error}")))?;
        let ids: Vec<i64> = encoded.get_ids().iter().map(|&id| i64::from(id)).collect();
        if ids.is_empty() {
            return Err(ModelError::Refused(
                "a text without a token for a reward network, whose tokenizer puts none at its ends".into(),
            ));
        }
        Ok(ids)
    }
}
