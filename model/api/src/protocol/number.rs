//! Numbers that need not be finite. JSON writes NaN and the infinities as `null`, which these functions read as NaN, so
//! that the report of a loss that is not finite can be read.

use serde::{Deserialize, Deserializer};

/// Reads a number.
///
/// # Errors
/// An error if the value is neither a number nor null.
pub fn one<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(or_nan(Option::deserialize(input)?))
}

/// Reads a list of numbers.
///
/// # Errors
/// The errors of [`one`].
pub fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<f64>, D::Error> {
    let list: Vec<Option<f64>> = Vec::deserialize(input)?;
    Ok(list.into_iter().map(or_nan).collect())
}

/// Reads a list of pairs of a name and a number.
///
/// # Errors
/// The errors of [`one`].
pub fn named<'de, D: Deserializer<'de>, T: Deserialize<'de>>(input: D) -> Result<Vec<(T, f64)>, D::Error> {
    let list: Vec<(T, Option<f64>)> = Vec::deserialize(input)?;
    Ok(list
        .into_iter()
        .map(|(name, value)| (name, or_nan(value)))
        .collect())
}

/// Reads a list of lists of f32 numbers.
///
/// # Errors
/// The errors of [`one`].
pub fn lists<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Vec<f32>>, D::Error> {
    let lists: Vec<Vec<Option<f32>>> = Vec::deserialize(input)?;
    let read = |list: Vec<Option<f32>>| list.into_iter().map(|value| value.unwrap_or(f32::NAN)).collect();
    Ok(lists.into_iter().map(read).collect())
}

fn or_nan(value: Option<f64>) -> f64 {
    value.unwrap_or(f64::NAN)
}
