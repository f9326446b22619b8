//! The parsers of flag values, which report a wrong value before anything is started.

use demask_api::{PictureSize, limits};

/// Parses the size of a picture: `512`, or `768x512` for width and height.
///
/// # Errors
/// A message that says what was expected.
pub fn size(text: &str) -> Result<PictureSize, String> {
    let (width, height) = text.split_once(['x', 'X']).unwrap_or((text, text));
    match (count(width), count(height)) {
        (Ok(width), Ok(height)) => Ok(PictureSize { width, height }),
        _ => Err("expected PIXELS of a square (512) or WIDTHxHEIGHT (768x512)".to_owned()),
    }
}

/// Parses the position of a pixel: `240,160`, from the left and from the top.
///
/// # Errors
/// A message that says what was expected.
pub fn place(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .map(|(x, y)| (x.trim().parse(), y.trim().parse()));
    match parts {
        Some((Ok(x), Ok(y))) => Ok((x, y)),
        _ => Err("expected X,Y in pixels from the left and the top, such as 240,160".to_owned()),
    }
}

/// Parses a whole number, at least 1.
///
/// # Errors
/// A message that says what was expected.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected an integer, at least 1".to_owned()),
    }
}

/// Parses a number of tokens of a sequence.
///
/// # Errors
/// A message that says what was expected.
pub fn positions(text: &str) -> Result<usize, String> {
    match count(text) {
        Ok(number) if number as u64 <= limits::POSITIONS.most => Ok(number),
        _ => Err(format!(
            "expected an integer, at least 1 and at most {}",
            limits::POSITIONS.most
        )),
    }
}

/// Parses a number of bytes: `80GB`, `24GiB`, `500MB`, or a plain number.
///
/// # Errors
/// A message that says what was expected.
pub fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "expected bytes, such as 80GB, 24GiB or 500MB".to_owned();
    let end = text
        .find(|sign: char| sign.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let unit: f64 = match text[end..].to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        "mib" => 1024.0 * 1024.0,
        "gib" => 1024.0 * 1024.0 * 1024.0,
        _ => return Err(wrong()),
    };
    let number: f64 = text[..end].trim().parse().map_err(|_| wrong())?;
    let bytes = number * unit;
    if !(1.0..1e18).contains(&bytes) {
        return Err(wrong());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(bytes as u64)
}

/// Parses a number of picture codes.
///
/// # Errors
/// A message that says what was expected.
pub fn codes(text: &str) -> Result<usize, String> {
    match count(text) {
        Ok(number) if number <= 262_144 => Ok(number),
        _ => Err("expected an integer from 1 to 262144".to_owned()),
    }
}

/// Parses a finite number, at least 0.
///
/// # Errors
/// A message that says what was expected.
pub fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a finite number, at least 0".to_owned()),
    }
}

/// Parses a probability.
///
/// # Errors
/// A message that says what was expected.
pub fn probability(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 1".to_owned()),
    }
}

/// Parses a text that is not blank.
///
/// # Errors
/// A message that says what was expected.
pub fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected a text that is not empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Parses a smoothing weight.
pub(super) fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(weight) if (0.0..=0.999).contains(&weight) => Ok(weight),
        _ => Err("expected a number from 0 to 0.999".to_owned()),
    }
}
