//! The checks of a model's configuration and of a request for log-probabilities, before libtorch sees them.

use std::collections::HashSet;

use demask_api::{BackboneConfig, Sequence};

use crate::error::Result;
use crate::training::validation::{refuse, sequence};

/// Checks that the special tokens and the picture codes lie in the vocabulary.
///
/// # Errors
/// Returns [`ModelError::Refused`](crate::ModelError::Refused), which names the field.
pub fn config(config: &BackboneConfig) -> Result<()> {
    let rows = config.rows();
    let specials = [
        ("mask_token_id", config.mask_token_id),
        ("eos_token_id", config.eos_token_id),
        ("pad_token_id", config.pad_token_id),
    ];
    for (name, id) in specials {
        if id as usize >= rows {
            return refuse(format!(
                "config.json: {name} is {id}, but the vocabulary has {rows} tokens"
            ));
        }
    }
    let end = config.image_offset() as usize + config.codebook_size;
    if end > rows {
        let message =
            format!("config.json: picture codes go up to token {end}, but the vocabulary has {rows} tokens");
        return refuse(message);
    }
    Ok(())
}

/// Checks the masked positions of a request for log-probabilities.
///
/// # Errors
/// Returns [`ModelError::Refused`](crate::ModelError::Refused) if the number of lists differs from the number
/// of sequences, or if a position lies in the padding, lies past the end or is masked twice.
pub fn positions(config: &BackboneConfig, sequences: &[Sequence], masked: &[Vec<usize>]) -> Result<()> {
    let (lists, rows) = (masked.len(), sequences.len());
    if lists != rows {
        return refuse(format!(
            "found {lists} lists of masked positions for {rows} sequences"
        ));
    }
    for (one, positions) in sequences.iter().zip(masked) {
        sequence(config, one)?;
        let (first, length) = (one.left_pad, one.ids.len());
        let mut seen = HashSet::new();
        for &at in positions {
            if at < first || at >= length {
                return refuse(format!(
                    "sequence {}: position {at} is masked, but the tokens are at {first}..{length}",
                    one.id
                ));
            }
            if !seen.insert(at) {
                return refuse(format!("sequence {}: position {at} is masked twice", one.id));
            }
        }
    }
    Ok(())
}
