//! Official scorers of single answers in user-defined benchmarks: the field of the right answer, and the number of the
//! verdict that counts by default.

use serde_json::{Map, Value, json};

use crate::scorers;

/// An official scorer of single answers.
struct Answers {
    /// The name in `demask score --list`.
    name: &'static str,
    /// The field of the right answer.
    gold: &'static str,
    /// The path of the number that counts by default.
    value: &'static str,
    /// Whether that number may lie between wrong and right.
    is_graded: bool,
}

/// The official scorers that score an answer by itself.
const ANSWERS: [Answers; 8] = [
    Answers {
        name: "gsm8k",
        gold: "reference",
        value: "gsm8k.flexible-extract.exact_match",
        is_graded: false,
    },
    Answers {
        name: "math.answer",
        gold: "reference",
        value: "hendrycks.is_equiv",
        is_graded: false,
    },
    Answers {
        name: "math.completion",
        gold: "reference",
        value: "minerva_math_v2.math_verify",
        is_graded: false,
    },
    Answers {
        name: "gqa.pair",
        gold: "answer",
        value: "official_after_llava_conversion",
        is_graded: false,
    },
    Answers {
        name: "vqav2.pair",
        gold: "answers",
        value: "lmms_eval",
        is_graded: true,
    },
    Answers {
        name: "gpqa_generative",
        gold: "answer",
        value: "lm_eval.flexible-extract.exact_match",
        is_graded: false,
    },
    Answers {
        name: "arc_challenge_chat",
        gold: "reference",
        value: "remove_whitespace.exact_match",
        is_graded: false,
    },
    Answers {
        name: "opencompass_first_option",
        gold: "reference",
        value: "correct",
        is_graded: false,
    },
];

/// An official scorer and the path of the number that counts.
pub(super) struct Official {
    answers: &'static Answers,
    value: String,
    is_graded: bool,
}

impl Official {
    /// Returns the names of the scorers.
    pub(super) fn names() -> Vec<&'static str> {
        ANSWERS.iter().map(|one| one.name).collect()
    }

    /// Finds a scorer by name; `None` if there is none.
    ///
    /// # Errors
    /// A message with the existing paths if its verdicts have no number at `value`.
    pub(super) fn of(name: &str, value: Option<&str>) -> Result<Option<Self>, String> {
        let Some(answers) = ANSWERS.iter().find(|one| one.name == name) else {
            return Ok(None);
        };
        let mut found = Self {
            answers,
            value: value.unwrap_or(answers.value).to_owned(),
            is_graded: answers.is_graded,
        };
        // All verdicts of a scorer have the same fields, so one shows them.
        let choices = json!({ "choices": ["1", "2", "3", "4"] });
        let verdict = found.verdict(
            "\\boxed{1}",
            "\\boxed{1}",
            choices.as_object().unwrap_or(&Map::new()),
        );
        let verdict = verdict.map_err(|why| format!("{name}: {why}"))?;
        if number(&verdict, &found.value).is_some() {
            found.is_graded &= !at(&verdict, &found.value).is_boolean();
            return Ok(Some(found));
        }
        let mut paths = Vec::new();
        numbers("", &verdict, &mut paths);
        Err(format!(
            "is {}, but the verdicts of {name} have the numbers {}",
            found.value,
            paths.join(", ")
        ))
    }

    /// Whether a credit may lie between wrong and right.
    pub(super) const fn is_graded(&self) -> bool {
        self.is_graded
    }

    /// Whether the row itself has the right answers that the scorer reads, such as VQA's answers of several people.
    pub(super) fn has_answers(&self, columns: &Map<String, Value>) -> bool {
        let gold = self.answers.gold;
        gold == "answers" && columns.get(gold).is_some_and(|all| !all.is_null())
    }

    /// Returns the credit of an answer, from 0 to 1.
    ///
    /// # Errors
    /// A message if the row lacks a field that the scorer needs.
    pub(super) fn credit(
        &self,
        said: &str,
        right: &str,
        columns: &Map<String, Value>,
    ) -> Result<f64, String> {
        let verdict = self.verdict(said, right, columns)?;
        let found = number(&verdict, &self.value)
            .ok_or_else(|| format!("the verdict has no number {}", self.value))?;
        // VQA's own script counts in percent.
        let percent = self.answers.name == "vqav2.pair" && self.value.starts_with("official");
        Ok(if percent { found / 100.0 } else { found })
    }

    /// Returns the scorer's verdict on an answer.
    ///
    /// # Errors
    /// A message if the row lacks a field that the scorer needs.
    pub(super) fn verdict(
        &self,
        said: &str,
        right: &str,
        columns: &Map<String, Value>,
    ) -> Result<Value, String> {
        let mut line = Map::new();
        line.insert("prediction".to_owned(), said.into());
        let gold = match self.answers.gold {
            // The answers of several people are a list in the row.
            "answers" => columns.get("answers").cloned().unwrap_or_else(|| json!([right])),
            _ => right.into(),
        };
        line.insert(self.answers.gold.to_owned(), gold);
        if let Some(choices) = columns.get("choices") {
            line.insert("choices".to_owned(), choices.clone());
        }
        let scored = scorers::score_line(self.answers.name, &Value::Object(line));
        scored
            .map(|(_, verdict)| verdict)
            .map_err(|error| error.to_string())
    }
}

fn at<'a>(verdict: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(verdict, |at, name| &at[name])
}

/// Returns the number or boolean at a path.
fn number(verdict: &Value, path: &str) -> Option<f64> {
    match at(verdict, path) {
        Value::Bool(yes) => Some(f64::from(u8::from(*yes))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// Collects the paths of all numbers.
fn numbers(path: &str, value: &Value, paths: &mut Vec<String>) {
    match value {
        Value::Bool(_) | Value::Number(_) => paths.push(path.to_owned()),
        Value::Object(fields) => {
            for (name, inner) in fields {
                let at = match path.is_empty() {
                    true => name.clone(),
                    false => format!("{path}.{name}"),
                };
                numbers(&at, inner, paths);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_scorer_has_the_number_that_counts() {
        for name in Official::names() {
            assert!(Official::of(name, None).unwrap().is_some(), "{name}");
        }
        assert!(Official::of("pope.answer", None).unwrap().is_none());
        let wrong = Official::of("gqa.pair", Some("exact")).err().unwrap();
        assert!(wrong.contains("lmms_eval, "), "{wrong}");
    }

    #[test]
    fn an_answer_is_credited_as_the_official_scorer_says() {
        let row = json!({"answer": "the row's own", "answers": ["red", "red", "red", "blue"]});
        let row = row.as_object().unwrap();
        let credit = |name: &str, value: Option<&str>, said: &str, right: &str| {
            Official::of(name, value)
                .unwrap()
                .unwrap()
                .credit(said, right, row)
                .unwrap()
        };
        assert_eq!(credit("gqa.pair", None, "Red.", "red"), 1.0);
        assert_eq!(credit("gqa.pair", None, "blue", "red"), 0.0);
        assert_eq!(credit("math.answer", None, "\\frac{1}{2}", "\\frac12"), 1.0);
        assert_eq!(credit("gsm8k", None, "so it is 18", "x #### 18"), 1.0);
        assert_eq!(
            credit(
                "gsm8k",
                Some("gsm8k.strict-match.exact_match"),
                "so it is 18",
                "#### 18"
            ),
            0.0
        );
        assert!((0.0..=1.0).contains(&credit("vqav2.pair", Some("official"), "red", "red")));
    }
}
