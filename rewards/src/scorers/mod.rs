//! The official scorers of the benchmarks, verdict for verdict.
//!
//! A scorer reads a [`Case`] (a prediction, what it is held against, options) and says what the published code says of it:
//! with its regular expressions, its roundings and its mistakes, since a figure is comparable only if they are shared.
//! Which tool in which version is followed stands in the registry, [`SCORERS`] by folder, and with `demask score --list`.

use regex::Regex;
use serde_json::{Map, Value};
use thiserror::Error;

mod aggregate;
mod captions;
mod case;
mod generation;
mod official;
mod python;
mod text;
pub(crate) mod twister;
pub(crate) mod understanding;

pub use aggregate::Aggregate;
pub use case::Case;

/// A scorer: its names and what it computes.
#[derive(Debug, Clone, Copy)]
pub struct OfficialScorer {
    /// The file of cases that it belongs to, and the first name that users type.
    pub family: &'static str,
    /// The name in a line's `scorer`; `family.kind` for lines with a `kind`.
    pub name: &'static str,
    /// The published tool that it equals, with its version.
    pub official: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// The verdict on a case.
    pub verdict: fn(&Case<'_>) -> Result<Value, ScoreError>,
}

/// Why a line has no verdict.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScoreError {
    /// The line is not an object.
    #[error("expected a JSON object such as {{\"scorer\": …, \"prediction\": …, \"reference\": …}}")]
    NotAnObject,
    /// A field is not there.
    #[error("the field {0} is missing")]
    Missing(String),
    /// A field is not what it should be.
    #[error("the field {field} is not {expected}")]
    Wrong {
        /// The field's names.
        field: String,
        /// What was expected.
        expected: String,
    },
    /// No scorer has this name.
    #[error("no scorer is named {0}; `demask score --list` names them")]
    Unknown(String),
    /// A family has several scorers and the line does not say which.
    #[error("{family} has several scorers ({names}): the line must say which in its field scorer or kind")]
    Which {
        /// The family.
        family: String,
        /// Its scorers.
        names: String,
    },
}

impl ScoreError {
    fn wrong(names: &[&str], expected: &str) -> Self {
        Self::Wrong {
            field: names.join(" or "),
            expected: expected.to_owned(),
        }
    }
}

/// Every scorer.
pub fn all() -> impl Iterator<Item = &'static OfficialScorer> {
    text::SCORERS
        .iter()
        .chain(generation::SCORERS)
        .chain(understanding::SCORERS)
        .chain(captions::SCORERS)
}

/// Whether a family or a scorer has this name.
pub fn is_name(name: &str) -> bool {
    let name = spelled(name);
    all().any(|scorer| scorer.family == name || scorer.name == name)
}

/// The names that people use for what is in a family of another name.
fn spelled(name: &str) -> &str {
    match name {
        "cider" | "bleu" | "rouge" | "rouge_l" | "captions" => "flickr30k",
        "truthfulqa" | "arc" | "gpqa" => "choices",
        "prompts" => "understanding-prompts",
        other => other,
    }
}

/// The scorer of a line, asked for under a name (a family or a scorer), and its verdict.
///
/// # Errors
/// The line is not an object, names no scorer, or lacks a field.
pub fn score_line(asked: &str, line: &Value) -> Result<(&'static OfficialScorer, Value), ScoreError> {
    let line = line.as_object().ok_or(ScoreError::NotAnObject)?;
    let scorer = scorer_of(asked, line)?;
    Ok((scorer, (scorer.verdict)(&Case::new(line))?))
}

fn scorer_of(asked: &str, line: &Map<String, Value>) -> Result<&'static OfficialScorer, ScoreError> {
    let family = spelled(asked);
    let text = |field: &str| line.get(field).and_then(Value::as_str);
    if let Some(scorer) = all().find(|scorer| scorer.name == family && scorer.family != family) {
        return Ok(scorer);
    }
    let candidates: Vec<&OfficialScorer> = all().filter(|scorer| scorer.family == family).collect();
    if candidates.is_empty() {
        return Err(ScoreError::Unknown(asked.to_owned()));
    }
    let said = text("kind").or_else(|| text("scorer"));
    let named = |said: &str| {
        candidates.iter().find(|scorer| {
            scorer.name == said
                || scorer
                    .name
                    .strip_prefix(family)
                    .and_then(|rest| rest.strip_prefix('.'))
                    == Some(said)
        })
    };
    match said {
        Some(said) if named(said).is_some() => named(said)
            .copied()
            .ok_or_else(|| ScoreError::Unknown(said.to_owned())),
        Some(said) if candidates.len() > 1 && spelled(said) != family => {
            Err(ScoreError::Unknown(said.to_owned()))
        }
        _ if candidates.len() == 1 => Ok(candidates[0]),
        _ => by_fields(&candidates, line).ok_or_else(|| ScoreError::Which {
            family: family.to_owned(),
            names: candidates
                .iter()
                .map(|scorer| scorer.name)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// The scorer of single answers, where the line is a prediction and does not say more.
fn by_fields(
    candidates: &[&'static OfficialScorer],
    line: &Map<String, Value>,
) -> Option<&'static OfficialScorer> {
    line.get("prediction")?.as_str()?;
    let single = ["answer", "pair", "can_infer", "wise", "geneval", "completion"];
    candidates
        .iter()
        .find(|scorer| {
            scorer
                .name
                .rsplit('.')
                .next()
                .is_some_and(|last| single.contains(&last))
        })
        .copied()
}

/// A pattern that is written in this crate. One that does not compile matches nothing, and the tests of its scorer fail.
#[allow(clippy::unwrap_used)]
fn pattern(text: &str) -> Regex {
    debug_assert!(Regex::new(text).is_ok(), "{text}");
    Regex::new(text).unwrap_or_else(|_| Regex::new("[^\\s\\S]").unwrap())
}
