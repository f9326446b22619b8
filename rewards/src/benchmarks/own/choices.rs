//! The choices of a row, and which of them is right.

use serde_json::{Map, Value};

use crate::verifiers::answer;

/// The most choices: each is named by a letter.
const MOST: usize = 26;

/// The choices of a row.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Choices {
    /// The texts of the choices.
    pub(super) texts: Vec<String>,
    /// The row's own labels, one per text; empty if it has none.
    labels: Vec<String>,
}

impl Choices {
    /// Reads the column `choices`: a list; an object with the lists `text` and `label`, as in ARC; or an object of
    /// texts by label.
    ///
    /// # Errors
    /// A message if there are more choices than letters, or if the numbers of labels and texts differ.
    pub(super) fn of(columns: &Map<String, Value>) -> Result<Self, String> {
        let (texts, labels) = match columns.get("choices") {
            Some(Value::Array(all)) => (words(all), Vec::new()),
            Some(Value::Object(named)) => match (named.get("text"), named.get("label")) {
                (Some(Value::Array(texts)), Some(Value::Array(labels))) => (words(texts), words(labels)),
                (Some(Value::Array(texts)), _) => (words(texts), Vec::new()),
                _ => (
                    named.values().map(word).collect(),
                    named.keys().cloned().collect(),
                ),
            },
            _ => (Vec::new(), Vec::new()),
        };
        if texts.len() > MOST {
            return Err(format!(
                "choices: found {} choices, expected at most {MOST}",
                texts.len()
            ));
        }
        if !labels.is_empty() && labels.len() != texts.len() {
            let (labels, texts) = (labels.len(), texts.len());
            return Err(format!(
                "choices: found {labels} labels for {texts} texts; expected one per text"
            ));
        }
        Ok(Self { texts, labels })
    }

    /// Returns the index of the right choice. The row's own labels are tried first. A JSON number counts from 0; a text
    /// is a letter, the choice's text, or a number that counts from 0.
    ///
    /// # Errors
    /// A message with the value and the choices if it fits none.
    pub(super) fn right(&self, given: &Value) -> Result<usize, String> {
        let said = word(given);
        let by_label = self.labels.iter().position(|label| label.trim() == said);
        let counted = || {
            said.parse()
                .ok()
                .filter(|&number: &usize| number < self.texts.len())
        };
        let found = match (given, self.labels.is_empty()) {
            (_, false) => by_label.or_else(|| self.said(&said)),
            (Value::Number(_), true) => counted(),
            (_, true) => self.said(&said).or_else(counted),
        };
        found.ok_or_else(|| {
            let lettered = self.texts.iter().enumerate();
            let lettered = lettered.map(|(number, text)| {
                let label = self.labels.get(number).cloned();
                format!("{} {text}", label.unwrap_or_else(|| letter(number).to_string()))
            });
            let all: Vec<String> = lettered.collect();
            let counts = if given.is_number() { ", counted from 0" } else { "" };
            format!("reference: {said}{counts} matches none of {}", all.join(", "))
        })
    }

    /// Returns the choice that a reply names: by its letter alone, its text, or the row's own label.
    pub(super) fn said(&self, text: &str) -> Option<usize> {
        let bare = text.trim().trim_matches(['(', ')', '.', ':', '*', ' ']);
        let by_letter = match bare.as_bytes() {
            [one] if one.is_ascii_alphabetic() => Some(usize::from(one.to_ascii_uppercase() - b'A')),
            _ => None,
        };
        let words = answer::normal(text);
        let by_words = || {
            self.texts
                .iter()
                .position(|choice| answer::normal(choice) == words)
        };
        let by_label = || self.labels.iter().position(|label| label.trim() == bare);
        by_letter
            .filter(|&number| number < self.texts.len())
            .or_else(by_words)
            .or_else(by_label)
    }
}

/// Returns the letter of a choice.
pub(super) fn letter(number: usize) -> char {
    u8::try_from(number)
        .ok()
        .and_then(|number| b'A'.checked_add(number))
        .map_or('?', char::from)
}

fn words(values: &[Value]) -> Vec<String> {
    values.iter().map(word).collect()
}

fn word(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn right(row: &Value, given: &Value) -> Result<usize, String> {
        Choices::of(row.as_object().unwrap()).unwrap().right(given)
    }

    #[test]
    fn arc_counts_by_its_own_labels() {
        let numbered = json!({"choices": {"text": ["a", "b", "c", "d"], "label": ["1", "2", "3", "4"]}});
        assert_eq!(right(&numbered, &json!("1")), Ok(0));
        assert_eq!(right(&numbered, &json!(4)), Ok(3));
        let why = right(&numbered, &json!("5")).unwrap_err();
        assert_eq!(why, "reference: 5 matches none of 1 a, 2 b, 3 c, 4 d");
        let lettered = json!({"choices": {"text": ["a", "b"], "label": ["A", "B"]}});
        assert_eq!(right(&lettered, &json!("B")), Ok(1));
        let named = json!({"choices": {"A": "6", "B": "7"}});
        assert_eq!(right(&named, &json!("7")), Ok(1));
    }

    #[test]
    fn mmlu_counts_from_0_whatever_the_choices_say() {
        let row = json!({"choices": ["4", "2", "8", "0"]});
        assert_eq!(right(&row, &json!(2)), Ok(2));
        assert_eq!(
            right(&row, &json!("2")),
            Ok(1),
            "a text is a choice's words first"
        );
        assert_eq!(right(&row, &json!("3")), Ok(3));
        assert_eq!(right(&row, &json!("c")), Ok(2));
        assert!(right(&row, &json!(4)).is_err() && right(&row, &json!("E")).is_err());
    }

    #[test]
    fn what_no_letter_can_name_is_told() {
        let many = json!({"choices": (0..27).collect::<Vec<_>>()});
        assert!(
            Choices::of(many.as_object().unwrap())
                .unwrap_err()
                .contains("at most 26")
        );
        let torn = json!({"choices": {"text": ["a", "b"], "label": ["A"]}});
        assert!(
            Choices::of(torn.as_object().unwrap())
                .unwrap_err()
                .contains("1 labels for 2 texts")
        );
    }
}
