//! The checks of a sequence and of the settings of a step, before libtorch sees them: token ids, spans, lengths and
//! ranges. Each refusal says what was expected and what was found.

use demask_api::{BackboneConfig, Sequence, Span, StepSettings};

use crate::error::{ModelError, Result};

/// Returns [`ModelError::Refused`] with a message.
pub(crate) fn refuse(message: String) -> Result<()> {
    Err(ModelError::Refused(message))
}

/// Checks one sequence for training or scoring.
///
/// # Errors
/// [`ModelError::Refused`] with the sequence's id if it has no token but padding, too many tokens or a token outside
/// the vocabulary, or if an answer lies outside the tokens or two answers overlap.
pub fn sequence(config: &BackboneConfig, sequence: &Sequence) -> Result<()> {
    let refuse = |message: String| refuse(format!("sequence {}: {message}", sequence.id));
    let (first, length) = (sequence.left_pad, sequence.ids.len());
    if first >= length {
        return refuse(format!(
            "found {length} tokens, of which {first} are padding; expected at least one token"
        ));
    }
    let longest = config.max_sequence_length;
    if length - first > longest {
        return refuse(format!(
            "found {} tokens; the model takes at most {longest}",
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
            "an answer is at {start}..{end}, but the tokens are at {first}..{length}"
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

/// Finds the first token outside the vocabulary and returns a message about it.
pub(crate) fn unknown_token(config: &BackboneConfig, ids: &[u32]) -> Option<String> {
    let rows = config.rows();
    let (at, id) = ids.iter().enumerate().find(|&(_, &id)| id as usize >= rows)?;
    Some(format!(
        "the token at {at} is {id}, but the vocabulary has {rows} tokens"
    ))
}

/// Checks the settings of one optimizer step.
///
/// # Errors
/// [`ModelError::Refused`] if a field is out of range, with its name, its range and the value.
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

/// Checks that a setting is a finite number in `low..=high`.
///
/// # Errors
/// [`ModelError::Refused`] if it is not, with the setting's name, its range and the value.
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
