//! Parsing of JSON with a limit on its number of values (law L9), which is checked before any is made.
//!
//! A limit of bytes does not limit the memory: `{"a":0},` has 8 bytes, and its map has room for eleven entries.

use serde::de::{DeserializeOwned, Error as _};

/// Counts the values of a text: objects, arrays and what follows a comma.
#[must_use]
pub fn count(text: &[u8]) -> usize {
    let (mut values, mut is_quoted, mut is_escaped) = (0_usize, false, false);
    for &byte in text {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' | b'[' | b'{' if !is_quoted => values += 1,
            _ => {}
        }
    }
    values
}

/// Checks that a text has at most `most` values, as [`count`] counts them.
///
/// # Errors
/// A message with both numbers.
pub fn check(text: &[u8], most: usize) -> Result<(), String> {
    if text.len() <= most {
        return Ok(());
    }
    let values = count(text);
    match values > most {
        true => Err(format!("found {values} values in JSON, expected at most {most}")),
        false => Ok(()),
    }
}

/// Parses a text of at most `most` values.
///
/// # Errors
/// The message of [`check`], or any error of `serde_json`.
pub fn parse<T: DeserializeOwned>(text: &str, most: usize) -> serde_json::Result<T> {
    check(text.as_bytes(), most).map_err(serde_json::Error::custom)?;
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn l9_values_are_counted_before_they_are_made_and_signs_in_quotes_are_none() {
        let many = format!("[{}0]", "{\"a\":0},".repeat(1000));
        let refused = parse::<serde_json::Value>(&many, 2000).unwrap_err().to_string();
        assert_eq!(refused, "found 2001 values in JSON, expected at most 2000");
        assert!(parse::<serde_json::Value>(&many, 2001).is_ok());
        let quoted = format!("[\"{}\"]", "\\\",[{".repeat(1000));
        assert!(parse::<serde_json::Value>(&quoted, 1).is_ok());
    }
}
