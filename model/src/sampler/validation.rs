//! The checks of a request for samples, before libtorch sees it. Each refusal says what was expected and what was
//! found.

use demask_api::{
    BackboneConfig, Commit, End, ImageSampler, SampleRequest, Sampler, Span, TextCache, TextSampler, limits,
};

use crate::error::Result;
use crate::training::validation::{in_range, refuse, unknown_token};

/// Checks sequences to complete, and their samplers.
///
/// # Errors
/// [`ModelError::Refused`](crate::ModelError::Refused) if a request is invalid, with its id or the setting's name.
pub fn samples(config: &BackboneConfig, requests: &[SampleRequest]) -> Result<()> {
    for request in requests {
        sample(config, request)?;
        match &request.sampler {
            Sampler::Text(sampler) => text_sampler(sampler)?,
            Sampler::Image(sampler) => image_sampler(sampler)?,
        }
    }
    Ok(())
}

/// The largest number of steps.
const STEPS: f64 = limits::STEPS.most as f64;

fn text_sampler(sampler: &TextSampler) -> Result<()> {
    in_range("steps", sampler.steps as f64, 0.0, STEPS)?;
    in_range("block", sampler.block as f64, 0.0, STEPS)?;
    in_range("temperature", sampler.temperature, 0.0, f64::MAX)?;
    in_range("guidance", sampler.guidance, f64::MIN, f64::MAX)?;
    match sampler.commit {
        Commit::Schedule => {}
        Commit::Threshold { threshold } => in_range("commit.threshold", threshold, 0.0, 1.0)?,
        Commit::Factor { factor } => in_range("commit.factor", factor, 0.0, f64::MAX)?,
        Commit::Hierarchical { high, low } => {
            in_range("commit.high", high, 0.0, 1.0)?;
            in_range("commit.low", low, 0.0, high)?;
        }
    }
    if let TextCache::Dual { refresh, .. } = sampler.cache {
        in_range("cache.refresh", refresh as f64, 1.0, f64::MAX)?;
    }
    if let End::Token { threshold } = sampler.end {
        in_range("end.threshold", threshold, 0.0, 1.0)?;
    }
    if let Some(credit) = &sampler.credit {
        in_range("credit.weight", credit.weight, 0.0, f64::MAX)?;
        in_range("credit.decay", credit.decay, 0.0, 1.0)?;
        in_range("credit.power", credit.power, 0.0, f64::MAX)?;
    }
    Ok(())
}

fn image_sampler(sampler: &ImageSampler) -> Result<()> {
    in_range("steps", sampler.steps as f64, 0.0, STEPS)?;
    in_range("temperature", sampler.temperature, 0.0, f64::MAX)?;
    in_range("guidance", sampler.guidance, f64::MIN, f64::MAX)?;
    in_range("accept", sampler.accept, 0.0, 1.0)?;
    in_range("surprise", sampler.surprise, 0.0, 1.0)?;
    if let Some(cache) = &sampler.cache {
        in_range("cache.warmup", cache.warmup, 0.0, 1.0)?;
        in_range("cache.ratio", cache.ratio, 0.0, 1.0)?;
        in_range("cache.interval", cache.interval as f64, 1.0, f64::MAX)?;
    }
    Ok(())
}

/// Checks the sequence, the target, the padding and the unconditional sequence of a request, because libtorch would
/// fail without naming the request.
fn sample(config: &BackboneConfig, request: &SampleRequest) -> Result<()> {
    let refuse = |message: String| refuse(format!("request {}: {message}", request.id));
    let (length, longest) = (request.ids.len(), config.max_sequence_length);
    if length > longest {
        return refuse(format!(
            "prompt and answer have {length} tokens; the model takes at most {longest}"
        ));
    }
    let Span { start, end } = request.target;
    if end > length || start >= end {
        return refuse(format!("a target {start}..{end} in {length} tokens"));
    }
    if request.left_pad > start {
        let pad = request.left_pad;
        return refuse(format!(
            "found {pad} positions of padding, but the target begins at {start}"
        ));
    }
    if let Some(grid) = request.grid.filter(|grid| grid.codes() != end - start) {
        let (expected, found) = (grid.codes(), end - start);
        return refuse(format!(
            "the grid {grid} has {expected} picture codes, but the target has {found} positions"
        ));
    }
    if let Some(message) = unknown_token(config, &request.ids) {
        return refuse(message);
    }
    if request.unconditional_left_pad > start {
        let pad = request.unconditional_left_pad;
        return refuse(format!(
            "found {pad} positions of unconditional padding, but the target begins at {start}"
        ));
    }
    let Some(other) = &request.unconditional else {
        return Ok(());
    };
    if other.len() != length {
        let found = other.len();
        return refuse(format!(
            "the unconditional sequence has {found} tokens, but the conditional one has {length}"
        ));
    }
    unknown_token(config, other).map_or(Ok(()), |message| refuse(format!("unconditional: {message}")))
}
