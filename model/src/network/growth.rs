//! Growth: the extension of a text model by picture codes, as LLaDA is extended before MMaDA is trained from it
//! (`mmada.md` 1.3).
//!
//! The token of a picture code is the length of the text tokenizer plus the code. The first codes therefore use the
//! padding rows that the text model's embedding already has. As many rows as there are codes are added after them.
//! Legend: V rows, D width.

#![allow(non_snake_case)]

use demask_api::{BackboneConfig, Growth};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::error::{ModelError, Result};
use crate::weights::init::normal;

/// The standard deviation of new rows relative to that of the old ones. The variance is 1e-9 of theirs, as in Hugging
/// Face's transformers.
const SMALLNESS: f64 = 3.162_277_66e-5;

/// Returns the configuration with picture codes that begin at token `offset`.
///
/// # Errors
/// [`ModelError::Refused`] if the model already has picture codes, the growth adds none, or the offset exceeds the
/// rows.
pub fn grown(config: &BackboneConfig, growth: &Growth, offset: u32) -> Result<BackboneConfig> {
    let refuse = |message: String| Err(ModelError::Refused(format!("grow: {message}")));
    if config.codebook_size > 0 {
        let codes = config.codebook_size;
        return refuse(format!("the model has {codes} picture codes already"));
    }
    if growth.codebook_size == 0 {
        return refuse("codebook_size is 0, expected at least 1".into());
    }
    if offset as usize > config.rows() {
        let rows = config.rows();
        return refuse(format!(
            "the tokenizer has {offset} tokens, but the embedding has {rows} rows"
        ));
    }
    let rows = config.rows() + growth.codebook_size;
    Ok(BackboneConfig {
        vocab_size: rows,
        embedding_size: Some(rows),
        codebook_size: growth.codebook_size,
        image_token_offset: Some(offset),
        ..config.clone()
    })
}

/// Fills the rows from `old` on with the mean of the rows before them, plus small noise.
///
/// # Errors
/// Any error libtorch reports.
pub fn fill(table: &Tensor, old: i64, rng: &mut ChaCha8Rng) -> Result<()> {
    let new = table.size()[0] - old;
    let rows_VD = table.f_narrow(0, 0, old)?;
    let mean_D = rows_VD.f_mean_dim(&[0i64][..], false, Kind::Float)?;
    let deviation_D = rows_VD
        .f_std_dim(&[0i64][..], old > 1, false)?
        .f_to_kind(Kind::Float)?;
    let mut shape = table.size();
    shape[0] = new;
    let noise_VD = normal(&shape, SMALLNESS, rng)?.f_to_device(table.device())?;
    let made_VD = noise_VD.f_mul(&deviation_D)?.f_add(&mean_D)?;
    Ok(table.f_narrow(0, old, new)?.f_copy_(&made_VD)?)
}
