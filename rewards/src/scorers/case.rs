//! A case to be scored: one line of a file, with access to its fields.
//!
//! Two forms are read. `{"scorer", "prediction", "reference", "options"?}` is the form of the text and picture scorers;
//! `{"kind", ...}` with the inputs beside it is that of the understanding scorers. A field is searched at the top
//! level, then in `prediction`, `reference` and `options` if these are objects.

use serde_json::{Map, Value};

use super::{ScoreError, python};

/// The fields of a line.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    line: &'a Map<String, Value>,
}

impl<'a> Case<'a> {
    /// Makes the case of a line.
    pub fn new(line: &'a Map<String, Value>) -> Self {
        Self { line }
    }

    /// Returns the first of these fields that exists, at the top level or inside prediction, reference or options.
    pub fn find(&self, names: &[&str]) -> Option<&'a Value> {
        names.iter().find_map(|name| {
            let inside = |part: &str| self.line.get(part).and_then(|part| part.get(*name));
            self.line
                .get(*name)
                .or_else(|| inside("prediction"))
                .or_else(|| inside("reference"))
                .or_else(|| inside("options"))
        })
    }

    /// Returns the first of these fields that the line has, like [`Self::find`].
    ///
    /// # Errors
    /// An error that names the fields if the line has none of them.
    pub fn need(&self, names: &[&str]) -> Result<&'a Value, ScoreError> {
        self.find(names)
            .ok_or_else(|| ScoreError::Missing(names.join(" or ")))
    }

    /// Returns a field's text.
    ///
    /// # Errors
    /// An error if the field is missing or not a text.
    pub fn text(&self, names: &[&str]) -> Result<&'a str, ScoreError> {
        self.need(names)?
            .as_str()
            .ok_or_else(|| ScoreError::wrong(names, "a text"))
    }

    /// Returns a field's list.
    ///
    /// # Errors
    /// An error if the field is missing or not a list.
    pub fn list(&self, names: &[&str]) -> Result<&'a Vec<Value>, ScoreError> {
        self.need(names)?
            .as_array()
            .ok_or_else(|| ScoreError::wrong(names, "a list"))
    }

    /// Returns a field's list, which has at least one entry.
    ///
    /// # Errors
    /// An error if the field is missing, not a list, or empty.
    pub fn filled(&self, names: &[&str]) -> Result<&'a Vec<Value>, ScoreError> {
        let list = self.list(names)?;
        if list.is_empty() {
            return Err(ScoreError::wrong(names, "a list with at least one entry"));
        }
        Ok(list)
    }

    /// Returns what `read` makes of a field; `None` if the field is missing or null.
    ///
    /// # Errors
    /// An error if the field is not what was expected.
    pub fn optional<T>(
        &self,
        name: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ScoreError> {
        match self.find(&[name]) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| ScoreError::wrong(&[name], expected)),
        }
    }

    /// Returns a field's object.
    ///
    /// # Errors
    /// An error if the field is missing or not an object.
    pub fn object(&self, names: &[&str]) -> Result<&'a Map<String, Value>, ScoreError> {
        self.need(names)?
            .as_object()
            .ok_or_else(|| ScoreError::wrong(names, "an object"))
    }

    /// Returns a field's non-negative integer.
    ///
    /// # Errors
    /// An error if the field is missing or not a non-negative integer.
    pub fn whole(&self, names: &[&str]) -> Result<u64, ScoreError> {
        self.need(names)?
            .as_u64()
            .ok_or_else(|| ScoreError::wrong(names, "a whole number"))
    }

    /// Returns a field's list of texts.
    ///
    /// # Errors
    /// An error if the field is missing or not a list of texts.
    pub fn texts(&self, names: &[&str]) -> Result<Vec<&'a str>, ScoreError> {
        let wrong = || ScoreError::wrong(names, "a list of texts");
        self.list(names)?
            .iter()
            .map(|value| value.as_str().ok_or_else(wrong))
            .collect()
    }

    /// Returns a field's list of numbers; `null` and `__nan__` are not-a-number.
    ///
    /// # Errors
    /// An error if the field is missing or not a list of numbers.
    pub fn numbers(&self, names: &[&str]) -> Result<Vec<f64>, ScoreError> {
        let wrong = || ScoreError::wrong(names, "a list of numbers");
        self.list(names)?
            .iter()
            .map(|value| number(value).ok_or_else(wrong))
            .collect()
    }
}

/// Converts JSON to a number, including those that JSON does not have: `-inf`, `__nan__`, `null`.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Null => Some(f64::NAN),
        Value::String(text) => python::float(text.trim_matches('_')),
        _ => None,
    }
}

/// Converts a float to JSON; non-finite values become the words that [`number`] reads.
pub fn float(value: f64) -> Value {
    if value.is_nan() {
        Value::from("__nan__")
    } else if value.is_infinite() {
        Value::from(if value > 0.0 { "__inf__" } else { "__-inf__" })
    } else {
        Value::from(value)
    }
}
