//! Values that flags may have: what is wrong with another is told before anything is started.

use demask_api::PictureSize;

/// The sides of a picture: `512`, or `768x512`, across and down.
///
/// # Errors
/// What was expected.
pub fn size(text: &str) -> Result<PictureSize, String> {
    let (width, height) = text.split_once(['x', 'X']).unwrap_or((text, text));
    match (count(width), count(height)) {
        (Ok(width), Ok(height)) => Ok(PictureSize { width, height }),
        _ => Err("expected PIXELS of a square (512) or WIDTHxHEIGHT (768x512)".to_owned()),
    }
}

/// A pixel: `240,160`, from the left and from the top.
///
/// # Errors
/// What was expected.
pub fn place(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .map(|(x, y)| (x.trim().parse(), y.trim().parse()));
    match parts {
        Some((Ok(x), Ok(y))) => Ok((x, y)),
        _ => Err("expected X,Y in pixels from the left and from the top (240,160)".to_owned()),
    }
}

/// A whole number, at least 1.
///
/// # Errors
/// What was expected.
pub fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a whole number, at least 1".to_owned()),
    }
}

/// A number of picture codes.
///
/// # Errors
/// What was expected.
pub fn codes(text: &str) -> Result<usize, String> {
    match count(text) {
        Ok(number) if number <= 262_144 => Ok(number),
        _ => Err("expected a whole number, 1 to 262144".to_owned()),
    }
}

/// A finite number, at least 0.
///
/// # Errors
/// What was expected.
pub fn amount(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number),
        _ => Err("expected a finite number, at least 0".to_owned()),
    }
}

/// A text that says something.
///
/// # Errors
/// What was expected.
pub fn words(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("expected some words".to_owned());
    }
    Ok(text.to_owned())
}

/// A weight of smoothing.
pub(super) fn weight(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(weight) if (0.0..=0.999).contains(&weight) => Ok(weight),
        _ => Err("expected a number from 0 to 0.999".to_owned()),
    }
}
