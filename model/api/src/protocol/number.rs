//! Numbers that need not be finite: JSON writes NaN and the infinities as `null`, which is read back as NaN here, so that
//! the report of a loss that is not finite arrives.

use serde::{Deserialize, Deserializer};

/// A number.
///
/// # Errors
/// What is neither a number nor null.
pub fn one<'de, D: Deserializer<'de>>(input: D) -> Result<f64, D::Error> {
    Ok(or_nan(Option::deserialize(input)?))
}

/// A list of numbers.
///
/// # Errors
/// The errors of [`one`].
pub fn list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<f64>, D::Error> {
    let list: Vec<Option<f64>> = Vec::deserialize(input)?;
    Ok(list.into_iter().map(or_nan).collect())
}

/// Numbers with what they belong to.
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

/// Lists of numbers in single precision.
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
