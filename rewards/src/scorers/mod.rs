//! The official scorers of the benchmarks, reproduced verdict for verdict.
//!
//! A scorer reads a [`Case`] (prediction, reference, options) and returns the published code's verdict. It shares the
//! published regular expressions, roundings and mistakes, because only then are results comparable. The registry,
//! `SCORERS` in each folder, states the tool and version of each; `demask score --list` prints them.

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

/// An official scorer.
#[derive(Debug, Clone, Copy)]
pub struct OfficialScorer {
    /// The file of cases to which it belongs, and the first name that users type.
    pub family: &'static str,
    /// The name in a line's `scorer`; `family.kind` for lines with a `kind`.
    pub name: &'static str,
    /// The published tool with its version.
    pub official: &'static str,
    /// A one-line description.
    pub about: &'static str,
    /// The function that computes the verdict on a case.
    pub verdict: fn(&Case<'_>) -> Result<Value, ScoreError>,
}

impl OfficialScorer {
    /// Returns what a line's `kind` says of this scorer, if its name has the family before it.
    fn kind(&self) -> Option<&'static str> {
        self.name.strip_prefix(self.family)?.strip_prefix('.')
    }

    /// Whether a line's `scorer` or `kind` means another scorer than this one. Words that no scorer has mean none.
    fn is_contradicted(&self, said: &str) -> bool {
        if said == self.name || self.kind() == Some(said) || spelled(said) == self.family {
            return false;
        }
        let is_kind = || all().any(|scorer| scorer.kind() == Some(said));
        is_name(said) || (self.kind().is_some() && is_kind())
    }
}

/// Why a line could not be scored.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScoreError {
    /// The line is not an object.
    #[error("expected a JSON object such as {{\"scorer\": …, \"prediction\": …, \"reference\": …}}")]
    NotAnObject,
    /// A field is missing.
    #[error("the field {0} is missing")]
    Missing(String),
    /// A field has the wrong type.
    #[error("the field {field} is not {expected}")]
    Wrong {
        /// The field's names.
        field: String,
        /// The expected kind of value.
        expected: String,
    },
    /// No scorer has this name.
    #[error("there is no scorer {0}; `demask score --list` lists the scorers")]
    Unknown(String),
    /// The line names another scorer than the one that was asked for.
    #[error("the line is for the scorer {said}, and {asked} was asked for")]
    Other {
        /// The name that was asked for.
        asked: String,
        /// The name in the line.
        said: String,
    },
    /// A family has several scorers, and the line does not select one.
    #[error("{family} has several scorers ({names}): name one in the field scorer or kind of the line")]
    Which {
        /// The family.
        family: String,
        /// The names of the family's scorers.
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

    fn other(asked: &str, said: &str) -> Self {
        Self::Other {
            asked: asked.to_owned(),
            said: said.to_owned(),
        }
    }
}

/// Returns every scorer.
pub fn all() -> impl Iterator<Item = &'static OfficialScorer> {
    text::SCORERS
        .iter()
        .chain(generation::SCORERS)
        .chain(understanding::SCORERS)
        .chain(captions::SCORERS)
}

/// Whether a family or scorer has this name.
pub fn is_name(name: &str) -> bool {
    let name = spelled(name);
    all().any(|scorer| scorer.family == name || scorer.name == name)
}

/// Resolves other common names of a family.
fn spelled(name: &str) -> &str {
    match name {
        "cider" | "bleu" | "rouge" | "rouge_l" | "captions" => "flickr30k",
        "truthfulqa" | "arc" | "gpqa" => "choices",
        "prompts" => "understanding-prompts",
        other => other,
    }
}

/// Scores a line that was requested under the name of a family or scorer; returns the scorer and its verdict.
///
/// # Errors
/// An error if the line is not an object, selects no scorer or another than the requested one, or lacks a field.
pub fn score_line(asked: &str, line: &Value) -> Result<(&'static OfficialScorer, Value), ScoreError> {
    let line = line.as_object().ok_or(ScoreError::NotAnObject)?;
    let scorer = scorer_of(asked, line)?;
    Ok((scorer, (scorer.verdict)(&Case::new(line))?))
}

fn scorer_of(asked: &str, line: &Map<String, Value>) -> Result<&'static OfficialScorer, ScoreError> {
    let scorer = selected(asked, line)?;
    let said = line.get("scorer").and_then(Value::as_str);
    if let Some(said) = said.filter(|said| !is_name(said) && scorer.kind() != Some(*said)) {
        return Err(ScoreError::Unknown(said.to_owned()));
    }
    let of_another = ["scorer", "kind"].into_iter().find_map(|field| {
        let said = line.get(field)?.as_str()?;
        scorer.is_contradicted(said).then_some(said)
    });
    of_another.map_or(Ok(scorer), |said| Err(ScoreError::other(asked, said)))
}

fn selected(asked: &str, line: &Map<String, Value>) -> Result<&'static OfficialScorer, ScoreError> {
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
        candidates
            .iter()
            .find(|scorer| scorer.name == said || scorer.kind() == Some(said))
    };
    match said {
        Some(said) if named(said).is_some() => named(said)
            .copied()
            .ok_or_else(|| ScoreError::Unknown(said.to_owned())),
        Some(said) if candidates.len() > 1 && spelled(said) != family => {
            let is_known = is_name(said) || all().any(|scorer| scorer.kind() == Some(said));
            Err(if is_known {
                ScoreError::other(asked, said)
            } else {
                ScoreError::Unknown(said.to_owned())
            })
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

/// Selects the scorer of single answers if the line is a prediction and says no more.
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

/// Compiles a pattern of this crate. An invalid one matches nothing, so the tests of its scorer fail.
#[allow(clippy::unwrap_used)]
fn pattern(text: &str) -> Regex {
    debug_assert!(Regex::new(text).is_ok(), "{text}");
    Regex::new(text).unwrap_or_else(|_| Regex::new("[^\\s\\S]").unwrap())
}
