//! What a request must be before libtorch meets it: token ids, spans, positions, lengths, settings. Each refusal says what
//! was expected and what was found.

use std::collections::HashSet;

use demask_api::{
    BackboneConfig, Commit, End, EstimatorConfig, ImageSampler, ObjectiveConfig, PolicyGroup, SampleRequest,
    Sampler, Sequence, Span, StepSettings, TextCache, TextSampler,
};

use crate::error::{ModelError, Result};

fn refuse(message: String) -> Result<()> {
    Err(ModelError::Refused(message))
}

/// The special tokens and the picture codes must lie in the vocabulary.
///
/// # Errors
/// [`ModelError::Refused`] naming the field.
pub fn config(config: &BackboneConfig) -> Result<()> {
    let rows = config.rows();
    let specials = [
        ("mask_token_id", config.mask_token_id),
        ("eos_token_id", config.eos_token_id),
        ("pad_token_id", config.pad_token_id),
    ];
    for (name, id) in specials {
        if id as usize >= rows {
            return refuse(format!("config.json: {name} is {id}, the vocabulary has {rows}"));
        }
    }
    let end = config.image_offset() as usize + config.codebook_size;
    if end > rows {
        let message = format!("config.json: picture codes up to token {end}, the vocabulary has {rows}");
        return refuse(message);
    }
    Ok(())
}

/// One sequence for training or scoring.
///
/// # Errors
/// [`ModelError::Refused`] naming the sequence: no token, too many, one outside the vocabulary; nothing but padding; an
/// answer outside the tokens, or that names a position twice.
pub fn sequence(config: &BackboneConfig, sequence: &Sequence) -> Result<()> {
    let refuse = |message: String| refuse(format!("sequence {}: {message}", sequence.id));
    let (first, length) = (sequence.left_pad, sequence.ids.len());
    if first >= length {
        return refuse(format!(
            "{length} tokens, {first} of them padding: nothing is left"
        ));
    }
    let longest = config.max_sequence_length;
    if length - first > longest {
        return refuse(format!(
            "{} tokens; the model takes at most {longest}",
            length - first
        ));
    }
    if let Some(message) = stranger(config, &sequence.ids) {
        return refuse(message);
    }
    let mut spans = sequence.answer.clone();
    spans.sort_by_key(|span| (span.start, span.end));
    let outside = |span: &&Span| span.start < first || span.end > length || span.start > span.end;
    if let Some(Span { start, end }) = spans.iter().find(outside) {
        return refuse(format!(
            "an answer at {start}..{end}, but tokens at {first}..{length}"
        ));
    }
    if let Some(pair) = spans.windows(2).find(|pair| pair[1].start < pair[0].end) {
        let (one, other) = (pair[0], pair[1]);
        return refuse(format!(
            "answers at {}..{} and {}..{} overlap",
            one.start, one.end, other.start, other.end
        ));
    }
    Ok(())
}

fn stranger(config: &BackboneConfig, ids: &[u32]) -> Option<String> {
    let rows = config.rows();
    let (at, id) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= rows)?;
    Some(format!("token {id} at {at}, the vocabulary has {rows}"))
}

/// The positions that a request for log-probabilities asks for.
///
/// # Errors
/// [`ModelError::Refused`]: another number of lists than of sequences; a position in the padding, past the end or twice.
pub fn positions(config: &BackboneConfig, sequences: &[Sequence], masked: &[Vec<usize>]) -> Result<()> {
    let (lists, rows) = (masked.len(), sequences.len());
    if lists != rows {
        return refuse(format!("{lists} lists of masked positions for {rows} sequences"));
    }
    for (one, positions) in sequences.iter().zip(masked) {
        sequence(config, one)?;
        let (first, length) = (one.left_pad, one.ids.len());
        let mut seen = HashSet::new();
        for &at in positions {
            if at < first || at >= length {
                return refuse(format!(
                    "sequence {}: masked position {at}, but tokens at {first}..{length}",
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

/// A policy step: groups, estimator, objective, settings.
///
/// # Errors
/// [`ModelError::Refused`] naming the sequence or the field.
pub fn policy(
    backbone: &BackboneConfig,
    groups: &[PolicyGroup],
    estimator: &EstimatorConfig,
    objective: &ObjectiveConfig,
    step: &StepSettings,
) -> Result<()> {
    let samples = groups.iter().map(|group| group.samples.len()).sum::<usize>();
    if samples == 0 || objective.inner_steps == 0 {
        let inner = objective.inner_steps;
        return refuse(format!(
            "a policy step on {samples} samples with {inner} inner steps: both must be at least 1"
        ));
    }
    if let EstimatorConfig::DiffuGrpo { prompt_mask } = estimator {
        in_range("prompt_mask", *prompt_mask, 0.0, 1.0)?;
    }
    in_range("clip", objective.clip, 0.0, f64::MAX)?;
    in_range("kl", objective.kl, 0.0, f64::MAX)?;
    settings(step)?;
    for sample in groups.iter().flat_map(|group| &group.samples) {
        sequence(backbone, &sample.sequence)?;
        let id = &sample.sequence.id;
        if sample.sequence.answer_len() == 0 {
            return refuse(format!(
                "sequence {id}: no answer position, so nothing to learn from"
            ));
        }
        let (steps, positions) = (sample.commit_step.len(), sample.sequence.answer_len());
        if matches!(estimator, EstimatorConfig::TraceRl { .. }) && steps != positions {
            return refuse(format!(
                "sequence {id}: {steps} commit steps, expected one for each of {positions} answer positions"
            ));
        }
        if !sample.advantage.is_finite() {
            let found = sample.advantage;
            return refuse(format!(
                "sequence {id}: advantage {found}, expected a finite number"
            ));
        }
    }
    Ok(())
}

/// What holds for one optimiser step.
///
/// # Errors
/// [`ModelError::Refused`] naming the field, its range and the value.
pub fn settings(settings: &StepSettings) -> Result<()> {
    let below_one = 1.0 - f64::EPSILON;
    let adam = &settings.adam;
    in_range("learning_rate", settings.learning_rate, 0.0, f64::MAX)?;
    in_range("clip_norm", settings.clip_norm, 0.0, f64::MAX)?;
    in_range("ema", settings.ema, 0.0, below_one)?;
    in_range("beta1", adam.beta1, 0.0, below_one)?;
    in_range("beta2", adam.beta2, 0.0, below_one)?;
    in_range("eps", adam.eps, f64::MIN_POSITIVE, f64::MAX)?;
    in_range("weight_decay", adam.weight_decay, 0.0, f64::MAX)?;
    in_range("block_noise.share", settings.block_noise.share, 0.0, 1.0)?;
    in_range(
        "block_noise.length",
        settings.block_noise.length as f64,
        1.0,
        f64::MAX,
    )?;
    for weight in settings.task_weights {
        in_range("task_weights", weight, 0.0, f64::MAX)?;
    }
    Ok(())
}

/// Also refuses what is not a number.
fn in_range(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let range = match (low == f64::MIN, high == f64::MAX) {
        (true, _) => String::new(),
        (false, true) => format!(", at least {low}"),
        (false, false) => format!(", {low} to {high}"),
    };
    refuse(format!("{name} is {value}, expected a finite number{range}"))
}

/// Sequences to complete.
///
/// # Errors
/// [`ModelError::Refused`] naming the request.
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

/// Steps of a sampler at most: a sample notes the step of each token in two bytes.
const STEPS: f64 = u16::MAX as f64;

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

fn sample(config: &BackboneConfig, request: &SampleRequest) -> Result<()> {
    let refuse = |message: String| refuse(format!("request {}: {message}", request.id));
    let (length, longest) = (request.ids.len(), config.max_sequence_length);
    if length > longest {
        return refuse(format!(
            "a prompt and answer of {length} tokens; the model takes at most {longest}"
        ));
    }
    let Span { start, end } = request.target;
    if end > length || start >= end {
        return refuse(format!("a target {start}..{end} in {length} tokens"));
    }
    if request.left_pad > start {
        let pad = request.left_pad;
        return refuse(format!("{pad} positions of padding before a target at {start}"));
    }
    if let Some(grid) = request.grid.filter(|grid| grid.codes() != end - start) {
        let (expected, found) = (grid.codes(), end - start);
        return refuse(format!(
            "a grid of {expected} picture codes, {grid}, on a target of {found} positions"
        ));
    }
    if let Some(message) = stranger(config, &request.ids) {
        return refuse(message);
    }
    if request.unconditional_left_pad > start {
        let pad = request.unconditional_left_pad;
        return refuse(format!(
            "{pad} positions of unconditional padding before a target at {start}"
        ));
    }
    let Some(other) = &request.unconditional else {
        return Ok(());
    };
    if other.len() != length {
        let found = other.len();
        return refuse(format!(
            "an unconditional sequence of {found} tokens beside one of {length}"
        ));
    }
    stranger(config, other).map_or(Ok(()), |message| refuse(format!("unconditional: {message}")))
}
