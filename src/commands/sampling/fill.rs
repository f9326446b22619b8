//! `demask fill`: fills holes in a text from both sides.

use std::process::ExitCode;

use anyhow::bail;
use demask_actors::home::Home;
use demask_actors::inference::settings::fit;
use demask_api::{
    Answer, Commit, End, Quirks, Request, SampleRequest, Sampler, Span, TextCache, TextSampler, limits,
};
use demask_datasets::prompts::text_tokenizer::TextTokenizer;
use serde_json::{Map, Value};

use crate::args::Fill;
use crate::exit::UsageError;
use crate::model::engine;
use crate::model::session::Session;
use crate::terminal::print;

/// A part of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum TextPiece {
    /// Text that stays.
    Words(String),
    /// A hole of this many masks.
    Hole(usize),
}

/// Fills the holes and prints the text.
///
/// # Errors
/// An error if there is no hole or one has a wrong form; an error with both numbers if there are more steps than masks
/// or the text is too long; any error of [`Session::open`].
pub fn fill(home: &Home, options: &Fill) -> anyhow::Result<ExitCode> {
    let pieces = pieces(&options.text)?;
    let masks = masks(&pieces);
    if masks as u64 > limits::POSITIONS.most {
        let most = limits::POSITIONS.most;
        bail!(UsageError(format!(
            "the text has {masks} masked tokens, expected at most {most}"
        )));
    }
    if let Some(steps) = options.steps.filter(|&steps| steps > masks) {
        let message = format!("--steps {steps}: expected at most {masks}, one per masked token");
        bail!(UsageError(message));
    }
    let (sample, text, filled) = engine::runtime()?.block_on(async {
        let session = Session::open(home, &options.model).await?;
        let tokenizer = session.inference.builder().tokenizer();
        let (ids, holes) = tokens(tokenizer, &pieces)?;
        let plain = sampler(&session.said_of_text, session.samplers.text.quirks, masks)?;
        let request = request(ids, &holes, options, plain);
        let asked = Request::Sample {
            requests: vec![request],
        };
        let Answer::Samples { mut samples, .. } = session.engine.ask(&asked).await? else {
            bail!("the engine returned no sample");
        };
        let Some(sample) = samples.pop() else {
            bail!("the engine returned no sample");
        };
        let filled: Vec<String> = holes
            .iter()
            .map(|hole| tokenizer.decode(&sample.ids[hole.start..hole.end]))
            .collect::<Result<_, _>>()?;
        let text = tokenizer.decode(&sample.ids[1..sample.ids.len() - 1])?;
        anyhow::Ok((sample, text, filled))
    })?;
    if options.output.json {
        print::json(&serde_json::json!({
            "prompt": options.text, "text": text, "filled": filled, "forwards": sample.forwards, "seed": options.seed,
        }))?;
    } else {
        print::say(&text);
    }
    Ok(ExitCode::SUCCESS)
}

/// Splits a text at its holes, `[MASK]` and `[MASK:N]`.
fn pieces(text: &str) -> Result<Vec<TextPiece>, UsageError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("[MASK") {
        let (inside, behind) = behind
            .split_once(']')
            .ok_or_else(|| UsageError("a mask has no closing bracket: expected [MASK] or [MASK:N]".into()))?;
        let count = match inside.strip_prefix(':') {
            None if inside.is_empty() => Some(1),
            None => None,
            Some(number) => number.parse().ok().filter(|&count| count > 0),
        };
        let count = count.ok_or_else(|| {
            UsageError(format!(
                "[MASK{inside}]: expected [MASK] or [MASK:N], N tokens, at least 1"
            ))
        })?;
        pieces.push(TextPiece::Words(before.to_owned()));
        pieces.push(TextPiece::Hole(count));
        rest = behind;
    }
    if pieces.is_empty() {
        let example = "\"The [MASK:8] sat on the mat.\"";
        return Err(UsageError(format!(
            "there is nothing to fill: the text has no [MASK] or [MASK:N], as in {example}"
        )));
    }
    pieces.push(TextPiece::Words(rest.to_owned()));
    pieces.retain(|piece| *piece != TextPiece::Words(String::new()));
    Ok(pieces)
}

/// Returns the number of masked tokens; the largest number if it does not fit.
fn masks(pieces: &[TextPiece]) -> usize {
    let of = |piece: &TextPiece| match piece {
        TextPiece::Words(_) => 0,
        TextPiece::Hole(count) => *count,
    };
    pieces.iter().map(of).fold(0, usize::saturating_add)
}

/// Returns the sampler: one token per step, the one with the highest confidence, with the whole text as context and no
/// end of text before the last hole. A checkpoint's own sampler is made for answers, which begin empty and may be
/// short. Keys that `--sampling` sets for text take precedence.
fn sampler(said: &Map<String, Value>, quirks: Quirks, masks: usize) -> anyhow::Result<TextSampler> {
    let plain = TextSampler {
        steps: masks,
        block: 0,
        commit: Commit::Schedule,
        cache: TextCache::None,
        horizon: None,
        end: End::Never,
        ..TextSampler::default()
    };
    let mut keys = serde_json::to_value(plain)?;
    if let Value::Object(keys) = &mut keys {
        keys.extend(said.clone());
    }
    // The flags that set quirks were applied before.
    let sampler = serde_json::from_value(keys)?;
    Ok(TextSampler { quirks, ..sampler })
}

/// Returns the text as tokens between the begin and end tokens, and the spans of the holes.
fn tokens(tokenizer: &TextTokenizer, pieces: &[TextPiece]) -> anyhow::Result<(Vec<u32>, Vec<Span>)> {
    let specials = tokenizer.specials();
    let (mut ids, mut holes) = (vec![specials.bos], Vec::new());
    for piece in pieces {
        match piece {
            TextPiece::Words(words) => ids.extend(tokenizer.encode(words)?),
            TextPiece::Hole(count) => {
                // A single space before a hole belongs to the first token in the hole.
                let alone = |id: &u32| tokenizer.decode(&[*id]).is_ok_and(|text| text == " ");
                if ids.len() > 1 && ids.last().is_some_and(alone) {
                    ids.pop();
                }
                holes.push(Span {
                    start: ids.len(),
                    end: ids.len() + count,
                });
                ids.extend(std::iter::repeat_n(specials.mask, *count));
            }
        }
    }
    ids.push(specials.eos);
    Ok((ids, holes))
}

/// Makes the request. All holes are one target, in which every mask competes with every other, and the text between
/// them stays. A given number of steps implies the schedule as the commit rule.
fn request(ids: Vec<u32>, holes: &[Span], options: &Fill, plain: TextSampler) -> SampleRequest {
    let target = Span {
        start: holes.first().map_or(0, |hole| hole.start),
        end: holes.last().map_or(0, |hole| hole.end),
    };
    let masks: usize = holes.iter().map(|hole| hole.end - hole.start).sum();
    let most = match plain.steps {
        0 => masks,
        steps => steps.min(masks),
    };
    let sampler = TextSampler {
        steps: options.steps.unwrap_or(most),
        temperature: options.temperature.unwrap_or(plain.temperature),
        commit: options.steps.map_or(plain.commit, |_| Commit::Schedule),
        ..plain
    };
    SampleRequest {
        id: 0,
        sampler: Sampler::Text(fit(&sampler, target.len())),
        ids,
        left_pad: 0,
        target,
        grid: None,
        unconditional: None,
        unconditional_left_pad: 0,
        seed: options.seed,
        watch: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_sampling_says_goes_before_and_the_rest_is_plain() {
        let said =
            r#"{"commit": {"rule": "threshold", "threshold": 0.5}, "remasking": "random", "block": 4}"#;
        let sampler = |said: &str| {
            let said = serde_json::from_str(said).unwrap();
            sampler(&said, Quirks::default(), 3).unwrap()
        };
        let plain = sampler("{}");
        assert_eq!((plain.steps, plain.block, plain.end), (3, 0, End::Never));
        let wanted = TextSampler {
            commit: Commit::Threshold { threshold: 0.5 },
            remasking: demask_api::Remasking::Random,
            block: 4,
            ..plain
        };
        assert_eq!(sampler(said), wanted);
    }

    #[test]
    fn holes_are_found_and_bad_ones_named() {
        let words = |text: &str| TextPiece::Words(text.to_owned());
        assert_eq!(
            pieces("The [MASK:8] sat on the [MASK]").unwrap(),
            [
                words("The "),
                TextPiece::Hole(8),
                words(" sat on the "),
                TextPiece::Hole(1)
            ]
        );
        for (text, part) in [
            ("no hole", "nothing to fill"),
            ("[MASK:0]", "[MASK:0]"),
            ("[MASK:x]", "[MASK:x]"),
            ("[MASKED]", "[MASKED]"),
            ("[MASK:3", "closing bracket"),
        ] {
            let error = pieces(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
