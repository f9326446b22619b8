//! The checks of a query for a log-likelihood, before libtorch sees it (law L9). Each refusal names the query, what was
//! expected and what was found.

use demask_api::{BackboneConfig, LikelihoodEstimator, LikelihoodQuery};

use crate::error::Result;
use crate::training::validation::{in_range, refuse, unknown_token};

/// The most queries of one request.
const QUERIES: usize = 65_536;
/// The most masked views of one query.
const VIEWS: usize = 65_536;
/// The most masked positions in all views of one query, which are in memory at the same time.
const POSITIONS: usize = 1 << 26;

/// Checks every query of a request.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) if a query is invalid, with its index from 0.
pub(super) fn queries(config: &BackboneConfig, queries: &[LikelihoodQuery]) -> Result<()> {
    if queries.len() > QUERIES {
        let found = queries.len();
        return refuse(format!(
            "found {found} answers to score, expected at most {QUERIES}"
        ));
    }
    let numbered = queries.iter().enumerate();
    numbered
        .into_iter()
        .try_for_each(|(number, query)| check(config, number, query))
}

fn check(config: &BackboneConfig, number: usize, query: &LikelihoodQuery) -> Result<()> {
    let refuse = |message: String| refuse(format!("answer {number}: {message}"));
    let (prompt, answer) = (query.prompt.len(), query.answer.len());
    let longest = config.max_sequence_length;
    if answer == 0 {
        return refuse("the answer has no tokens, expected at least 1".into());
    }
    if prompt + answer > longest {
        return refuse(format!(
            "the prompt has {prompt} and the answer {answer} tokens; the model takes at most {longest} together"
        ));
    }
    for (what, ids) in [("prompt", &query.prompt), ("answer", &query.answer)] {
        if let Some(message) = unknown_token(config, ids) {
            return refuse(format!("{what}: {message}"));
        }
    }
    if let Some(at) = query.answer.iter().position(|&id| id == config.mask_token_id) {
        return refuse(format!(
            "position {at} of the answer is the mask token, which has no likelihood"
        ));
    }
    in_range("guidance", f64::from(query.guidance), f64::MIN, f64::MAX)?;
    let views = query.estimator.views(answer);
    if views == 0 || views > VIEWS || views.saturating_mul(answer) > POSITIONS {
        return refuse(format!(
            "found {views} samples of {answer} tokens; expected 1 to {VIEWS} samples, and at most {POSITIONS} positions together"
        ));
    }
    match query.estimator {
        LikelihoodEstimator::Published { samples, batch } if batch == 0 || !samples.is_multiple_of(batch) => {
            refuse(format!(
                "found {samples} samples in batches of {batch}; expected a batch size that divides the samples"
            ))
        }
        _ => Ok(()),
    }
}
