//! What a sequence and the settings of a step must be before libtorch meets them: token ids, spans, lengths, ranges. Each
//! refusal says what was expected and what was found.

use demask_api::{BackboneConfig, Sequence, Span, StepSettings};

use crate::error::{ModelError, Result};

/// An error with that message.
pub(crate) fn refuse(message: String) -> Result<()> {
    Err(ModelError::Refused(message))
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
    if let Some(message) = unknown_token(config, &sequence.ids) {
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

/// The first token that the vocabulary does not have, as a message.
pub(crate) fn unknown_token(config: &BackboneConfig, ids: &[u32]) -> Option<String> {
    let rows = config.rows();
    let (at, id) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= rows)?;
    Some(format!("token {id} at {at}, the vocabulary has {rows}"))
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

/// Refuses a setting outside `low..=high`, and what is not a number.
///
/// # Errors
/// [`ModelError::Refused`] naming the setting, its range and the value.
pub(crate) fn in_range(name: &str, value: f64, low: f64, high: f64) -> Result<()> {
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
