//! Scoring of user-defined benchmarks: by a built-in rule, by an official scorer, or by a listed or external reward.

use std::collections::BTreeMap;

use demask_datasets::example::Mode;
use regex::Regex;
use serde_json::{Map, Value};

use super::choices::{Choices, letter};
use super::config::{OwnBenchmark, OwnKind};
use super::official::Official;
use crate::benchmarks::{Item, Response, Scoring, Verdict};
use crate::completion::Completion;
use crate::rewards::{self, Evidence, Needs, Reward, RewardCase};
use crate::verifiers::{Verifiers, answer, thought};

/// The budget given to rewards: the length of an answer is not penalised here.
const NO_BUDGET: usize = usize::MAX;

/// A scorer.
pub(super) enum OwnScorer {
    /// The text must match, or the number if the right answer is one.
    Exact,
    /// The last number of the answer must match.
    Number,
    /// The answer must name the right choice by letter or text.
    Choice,
    /// The match of a pattern is the answer.
    Pattern(Regex),
    /// F1 of common words, as in SQuAD.
    F1,
    /// An official scorer of single answers.
    Official(Official),
    /// A listed reward.
    Listed(&'static dyn Reward),
    /// An external reward.
    External(String),
}

impl OwnScorer {
    /// Returns the scorer that a benchmark names.
    ///
    /// # Errors
    /// The invalid key, and what was expected.
    pub(super) fn of(own: &OwnBenchmark, external: &[&str]) -> Result<Self, (&'static str, String)> {
        let named = own.scorer.as_str();
        let scorer = match named {
            "exact" => Self::Exact,
            "number" => Self::Number,
            "choice" => Self::Choice,
            "f1" => Self::F1,
            "regex" => Self::Pattern(pattern(own)?),
            _ if external.contains(&named) => Self::External(named.to_owned()),
            _ => match rewards::find(named) {
                Some(reward) if reward.needs() == Needs::Completion => Self::Listed(reward),
                _ => match Official::of(named, own.value.as_deref()).map_err(|why| ("value", why))? {
                    Some(official) => Self::Official(official),
                    None => return Err(("scorer", unknown(named, external))),
                },
            },
        };
        let judges_pictures = matches!(scorer, Self::External(_) | Self::Listed(_));
        if own.kind == OwnKind::Drawing && !judges_pictures {
            let message = format!("is {named}, which judges texts; use a reward to judge drawings");
            return Err(("scorer", message));
        }
        // A row has no table to look for and no class, so both would call every drawing wrong.
        let is_blind = named == "draw" || named == "correct" && own.kind == OwnKind::Drawing;
        if is_blind && matches!(scorer, Self::Listed(_)) {
            let message = format!(
                "is {named}, which judges drawings of the program's own sources only; use an external reward for drawings"
            );
            return Err(("scorer", message));
        }
        match (&own.pattern, &own.value, &scorer) {
            (Some(_), _, scorer) if !matches!(scorer, Self::Pattern(_)) => {
                Err(("pattern", "is only for the scorer regex; leave it out".to_owned()))
            }
            (_, Some(_), scorer) if !matches!(scorer, Self::Official(_)) => {
                let message = "is only for official scorers; leave it out".to_owned();
                Err(("value", message))
            }
            _ => Ok(scorer),
        }
    }

    /// Whether a credit may lie between wrong and right, so that the result is their mean rather than a proportion.
    pub(super) fn is_graded(&self) -> bool {
        match self {
            Self::Exact | Self::Number | Self::Choice | Self::Pattern(_) => false,
            Self::Official(official) => official.is_graded(),
            Self::F1 | Self::Listed(_) | Self::External(_) => true,
        }
    }

    /// Whether a row with these columns needs a right answer beside them.
    pub(super) fn needs_reference(&self, columns: &Map<String, Value>) -> bool {
        match self {
            Self::Exact | Self::Number | Self::Choice | Self::F1 => true,
            Self::Official(official) => !official.has_answers(columns),
            Self::Pattern(_) | Self::Listed(_) | Self::External(_) => false,
        }
    }

    /// Scores a row's own right answer, to find rows for which every answer would be wrong.
    ///
    /// # Errors
    /// The scorer's message.
    pub(super) fn try_row(&self, right: &str, columns: &Map<String, Value>) -> Result<(), String> {
        match self {
            Self::Official(official) => official.verdict(right, right, columns).map(drop),
            _ => Ok(()),
        }
    }

    /// Scores the model's response.
    pub(super) fn score(&self, item: &Item, response: &Response, verifiers: &Verifiers) -> Scoring {
        let Response::Completion(completion) = response else {
            return Scoring::Done(Verdict::default());
        };
        let right = item.example.reference();
        let said = thought::split(&completion.text).result;
        let verdict = match self {
            Self::Exact => answer::same(said, &right).into(),
            Self::Number => number(said, &right),
            // A row with more choices than letters was rejected as an item.
            Self::Choice => choice(
                said,
                &right,
                &Choices::of(&item.example.columns).unwrap_or_default(),
            ),
            Self::Pattern(pattern) => matched(pattern, &completion.text, &right),
            Self::F1 => f1(said, &right).into(),
            Self::Official(official) => match official.credit(said, &right, &item.example.columns) {
                Ok(credit) => credit.into(),
                // A row that cannot be scored counts as wrong; the reason is recorded as the parsed answer.
                Err(why) => Verdict {
                    credit: 0.0,
                    answer: format!("not scored: {why}"),
                },
            },
            Self::Listed(reward) => listed(*reward, item, completion, verifiers),
            Self::External(name) => {
                return Scoring::AskReward { reward: name.clone() };
            }
        };
        Scoring::Done(verdict)
    }
}

impl From<f64> for Verdict {
    fn from(credit: f64) -> Self {
        Self {
            credit: credit.clamp(0.0, 1.0),
            answer: String::new(),
        }
    }
}

fn pattern(own: &OwnBenchmark) -> Result<Regex, (&'static str, String)> {
    let Some(pattern) = &own.pattern else {
        let message = "is missing; the scorer regex needs one, such as 'answer is (\\w+)'".to_owned();
        return Err(("pattern", message));
    };
    Regex::new(pattern).map_err(|error| ("pattern", format!("is not a regular expression: {error}")))
}

fn unknown(named: &str, external: &[&str]) -> String {
    let rewards = rewards::REWARDS
        .iter()
        .filter(|reward| reward.needs() == Needs::Completion)
        .map(|reward| reward.name());
    let rewards: Vec<&str> = rewards.chain(external.iter().copied()).collect();
    format!(
        "is {named}; there are exact, number, choice, regex, f1, the official {}, and the rewards {}",
        Official::names().join(", "),
        rewards.join(", ")
    )
}

fn number(said: &str, right: &str) -> Verdict {
    let found = answer::number(said).or_else(|| answer::final_number(said));
    let wanted = answer::number(right).or_else(|| answer::final_number(right));
    let is_right = match (found, wanted) {
        (Some(found), Some(wanted)) => (found - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
        _ => false,
    };
    Verdict {
        answer: found.map(|found| found.to_string()).unwrap_or_default(),
        ..is_right.into()
    }
}

/// Compares the letter of the named choice with that of the right one. A reply may name it by letter, text or the row's
/// own label.
fn choice(said: &str, right: &str, choices: &Choices) -> Verdict {
    let found = choices
        .said(said)
        .or_else(|| lettered(said, choices.texts.len()))
        .map(|number| letter(number).to_string());
    let is_right = found.as_deref() == Some(right);
    Verdict {
        answer: found.unwrap_or_default(),
        ..is_right.into()
    }
}

/// Finds the last capital letter that stands alone, as in "the answer is (B)" or "B. blue". "A" as an article does not
/// count if another letter stands there.
fn lettered(text: &str, count: usize) -> Option<usize> {
    let signs: Vec<char> = text.chars().collect();
    let alone = |at: usize| {
        let beside = [at.checked_sub(1), Some(at + 1)];
        !beside
            .into_iter()
            .flatten()
            .filter_map(|at| signs.get(at))
            .any(|sign| sign.is_alphanumeric())
    };
    let letters = signs.iter().enumerate().filter(|(at, sign)| {
        let number = (**sign as usize).wrapping_sub('A' as usize);
        number < count.min(26) && alone(*at)
    });
    let found: Vec<usize> = letters.map(|(_, sign)| *sign as usize - 'A' as usize).collect();
    let marked = signs.first().and_then(|first| {
        let second = signs
            .get(1)
            .is_none_or(|sign| matches!(sign, '.' | ')' | ':' | ','));
        let number = (*first as usize).wrapping_sub('A' as usize);
        (second && number < count).then_some(number)
    });
    marked.or_else(|| found.last().copied())
}

/// Takes the first group of the pattern's last match, or the whole match.
fn matched(pattern: &Regex, text: &str, right: &str) -> Verdict {
    let last = pattern.captures_iter(text).last();
    let found = last
        .as_ref()
        .and_then(|found| found.get(1).or_else(|| found.get(0)))
        .map(|found| found.as_str());
    let is_right = found.is_some_and(|found| right.trim().is_empty() || answer::same(found, right));
    Verdict {
        answer: found.unwrap_or_default().to_owned(),
        ..is_right.into()
    }
}

/// Computes the F1 of words without articles and punctuation (SQuAD 1.1's `evaluate-v1.1.py`).
pub(super) fn f1(said: &str, right: &str) -> f64 {
    let (said, right) = (bag(said), bag(right));
    let total = |bag: &BTreeMap<String, usize>| bag.values().sum::<usize>();
    let common: usize = said
        .iter()
        .map(|(word, count)| *count.min(right.get(word).unwrap_or(&0)))
        .sum();
    match (total(&said), total(&right)) {
        (0, 0) => 1.0,
        (0, _) | (_, 0) => 0.0,
        (ours, theirs) => 2.0 * common as f64 / (ours + theirs) as f64,
    }
}

fn bag(text: &str) -> BTreeMap<String, usize> {
    let plain: String = text
        .to_lowercase()
        .chars()
        .filter(|sign| !sign.is_ascii_punctuation())
        .collect();
    let mut bag = BTreeMap::new();
    let words = plain
        .split_whitespace()
        .filter(|word| !matches!(*word, "a" | "an" | "the"));
    for word in words {
        *bag.entry(word.to_owned()).or_default() += 1;
    }
    bag
}

fn listed(reward: &dyn Reward, item: &Item, completion: &Completion, verifiers: &Verifiers) -> Verdict {
    let mode = match completion.text.contains("</think>") {
        true => Mode::Think,
        false => Mode::Direct,
    };
    let evidence = Evidence::Case(RewardCase {
        example: &item.example,
        mode,
        completion,
        budget: NO_BUDGET,
        verifiers,
    });
    reward.score(&evidence).unwrap_or(0.0).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_choice_is_read_by_its_letter_or_its_words() {
        let row = serde_json::json!({"choices": ["red", "blue", "green"]});
        let all = Choices::of(row.as_object().unwrap()).unwrap();
        let cases = [
            ("B", "B", 1.0),
            ("(b)", "B", 1.0),
            ("Blue.", "B", 1.0),
            ("The answer is (B).", "B", 1.0),
            ("A blue one is B", "B", 1.0),
            ("C. green", "C", 1.0),
            ("D", "B", 0.0),
            ("none of them", "B", 0.0),
        ];
        for (said, right, credit) in cases {
            assert_eq!(choice(said, right, &all).credit, credit, "{said} for {right}");
        }
    }

    #[test]
    fn a_reward_that_would_call_every_drawing_wrong_is_refused() {
        let scorer = |kind: &str, scorer: &str| {
            let own =
                serde_json::json!({ "name": "own", "file": "rows.jsonl", "kind": kind, "scorer": scorer });
            OwnScorer::of(&serde_json::from_value(own).unwrap(), &["mine"]).err()
        };
        for (kind, named) in [("drawing", "draw"), ("drawing", "correct"), ("text", "draw")] {
            let (key, why) = scorer(kind, named).unwrap();
            assert!(
                key == "scorer" && why.contains("external reward"),
                "{kind} {named}: {why}"
            );
        }
        assert!(scorer("text", "correct").is_none() && scorer("drawing", "mine").is_none());
    }

    #[test]
    fn words_in_common_count_as_squad_counts_them() {
        assert_eq!(f1("the Blue house.", "a blue house"), 1.0);
        assert!((f1("blue", "blue house") - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(f1("", "blue"), 0.0);
    }

    #[test]
    fn a_pattern_finds_the_last_answer() {
        let pattern = Regex::new(r"answer: (\w+)").unwrap();
        let verdict = matched(&pattern, "answer: 3, no, answer: 4", "4");
        assert_eq!((verdict.credit, verdict.answer.as_str()), (1.0, "4"));
        assert_eq!(matched(&pattern, "none", "4").credit, 0.0);
        assert_eq!(matched(&pattern, "answer: any", "").credit, 1.0);
    }
}
