//! The answer of an external reward: one checked value per item. A value is a number, an object of named numbers, or
//! null for no value.

use serde_json::{Map, Value};

/// Key of the number that counts, in an object of named numbers.
const OWN: &str = "value";
/// Most named numbers of one value.
const MOST_PARTS: usize = 64;

/// The value of one completion.
#[derive(Clone, Debug, PartialEq)]
pub struct ExternalValue {
    /// The number that counts, within the reward's range.
    pub value: f64,
    /// The named numbers that make up the value, or that stand beside it.
    pub parts: Vec<(String, f64)>,
}

/// Parses the values of a batch's items, in order.
///
/// # Errors
/// A message that says what was expected, what was found, and at which item.
pub(super) fn read(
    text: &str,
    ids: &[&str],
    batch: u64,
    range: [f64; 2],
) -> Result<Vec<Option<ExternalValue>>, String> {
    let answer: Value = serde_json::from_str(text).map_err(|error| no_json(text, &error.to_string()))?;
    let Value::Object(answer) = answer else {
        return Err(format!("{EXPECTED} was expected, found {}", beginning(text)));
    };
    if let Some(number) = answer
        .get("batch")
        .filter(|number| number.as_u64() != Some(batch))
    {
        return Err(format!(
            "expected the answer to batch {batch}, found that to batch {number}"
        ));
    }
    let Some(Value::Array(values)) = answer.get("values") else {
        return Err(format!("{EXPECTED} was expected, found {}", beginning(text)));
    };
    if values.len() != ids.len() {
        return Err(format!("found {} values for {} items", values.len(), ids.len()));
    }
    let each = values.iter().zip(ids);
    each.map(|(value, id)| one(value, range).map_err(|why| format!("the value of item {id} {why}")))
        .collect()
}

/// The expected form of an answer.
const EXPECTED: &str = "one line {\"values\": […]} with one value per item";

fn one(value: &Value, [low, high]: [f64; 2]) -> Result<Option<ExternalValue>, String> {
    let found = match value {
        Value::Null => return Ok(None),
        Value::Object(named) => of_parts(named)?,
        number => ExternalValue {
            value: number.as_f64().ok_or_else(|| {
                format!("is {number}; a number, an object of named numbers or null was expected")
            })?,
            parts: Vec::new(),
        },
    };
    if !(low..=high).contains(&found.value) {
        return Err(format!(
            "is {}, outside {low} to {high} (`range` in the profile)",
            found.value
        ));
    }
    Ok(Some(found))
}

/// Reads named numbers. The one named `value` counts; without it, their sum does.
fn of_parts(named: &Map<String, Value>) -> Result<ExternalValue, String> {
    if named.is_empty() || named.len() > MOST_PARTS {
        return Err(format!(
            "has {} parts; 1 to {MOST_PARTS} were expected",
            named.len()
        ));
    }
    let number = |(name, value): (&String, &Value)| match value.as_f64().filter(|value| value.is_finite()) {
        Some(number) => Ok((name.clone(), number)),
        None => Err(format!("has {name} = {value}; a finite number was expected")),
    };
    let mut parts: Vec<(String, f64)> = named.iter().map(number).collect::<Result<_, _>>()?;
    let own = parts.iter().position(|(name, _)| name == OWN);
    let value = match own {
        Some(at) => parts.remove(at).1,
        None => parts.iter().map(|(_, value)| value).sum(),
    };
    Ok(ExternalValue { value, parts })
}

/// Returns the error for an answer that is not JSON. Python writes NaN and infinity as words that JSON does not have.
fn no_json(text: &str, error: &str) -> String {
    match ["NaN", "Infinity"].into_iter().find(|word| text.contains(word)) {
        Some(word) => format!(
            "a value is {word}, but values must be finite numbers: {}",
            beginning(text)
        ),
        None => format!(
            "{EXPECTED} was expected, found {} ({error}); print messages for people to standard error",
            beginning(text)
        ),
    }
}

/// Returns the beginning of a text, in quotes.
pub(super) fn beginning(text: &str) -> String {
    const SHOWN: usize = 160;
    let cut = text.chars().nth(SHOWN).map_or("", |_| "…");
    format!("'{}{cut}'", text.chars().take(SHOWN).collect::<String>())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn found(text: &str) -> Result<Vec<Option<ExternalValue>>, String> {
        read(text, &["a", "b"], 7, [0.0, 1.0])
    }

    #[test]
    fn a_value_is_a_number_or_named_numbers_or_nothing() {
        let all = found(r#"{"values": [0.5, {"style": 0.25, "length": 0.5}]}"#).unwrap();
        assert_eq!(all[0].as_ref().unwrap().value, 0.5);
        let named = all[1].as_ref().unwrap();
        assert_eq!((named.value, named.parts.len()), (0.75, 2));
        let all = found(r#"{"batch": 7, "values": [null, {"value": 1, "words": 30}]}"#).unwrap();
        assert_eq!(all[0], None);
        let named = all[1].as_ref().unwrap();
        assert_eq!((named.value, named.parts[0].0.as_str()), (1.0, "words"));
    }

    #[test]
    fn what_is_no_answer_is_told_with_what_was_expected() {
        let cases = [
            ("hello", "one line {\"values\": […]}"),
            ("[1, 2]", "found '[1, 2]'"),
            (r#"{"values": [1]}"#, "found 1 values for 2 items"),
            (
                r#"{"values": [0, 1.5]}"#,
                "the value of item b is 1.5, outside 0 to 1",
            ),
            (r#"{"values": [NaN, 1]}"#, "a value is NaN"),
            (r#"{"values": ["x", 1]}"#, "the value of item a is \"x\""),
            (r#"{"values": [{}, 1]}"#, "has 0 parts"),
            (r#"{"values": [{"a": null}, 1]}"#, "has a = null"),
            (
                r#"{"batch": 6, "values": [0, 1]}"#,
                "answer to batch 7, found that to batch 6",
            ),
        ];
        for (text, expected) in cases {
            let error = found(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
