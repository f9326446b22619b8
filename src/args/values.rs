//! The parsers of flag values, which report a wrong value before anything is started.

use demask_api::PictureSize;
use demask_api::limits::{self, CountRange};

/// Parses the size of a picture: `512`, or `768x512` for width and height.
///
/// # Errors
/// A message that says what was expected.
pub fn size(text: &str) -> Result<PictureSize, String> {
    let (width, height) = text.split_once(['x', 'X']).unwrap_or((text, text));
    let pixels = within(limits::PIXELS);
    match (pixels(width), pixels(height)) {
        (Ok(width), Ok(height)) => Ok(PictureSize { width, height }),
        _ => Err(format!(
            "expected PIXELS of a square (512) or WIDTHxHEIGHT (768x512), at most {} a side",
            limits::PIXELS.most
        )),
    }
}

/// Parses the position of a pixel: `240,160`, from the left and from the top.
///
/// # Errors
/// A message that says what was expected.
pub fn place(text: &str) -> Result<(usize, usize), String> {
    let parts = text
        .split_once(',')
        .map(|(x, y)| (x.trim().parse::<usize>(), y.trim().parse::<usize>()));
    let most = limits::PIXELS.most;
    match parts {
        Some((Ok(x), Ok(y))) if x.max(y) as u64 <= most => Ok((x, y)),
        _ => Err(format!(
            "expected X,Y in pixels from the left and the top, such as 240,160, at most {most} each"
        )),
    }
}

/// Makes the parser of a whole number in a range. Its error says the range.
pub fn within(range: CountRange) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text: &str| match text.parse::<usize>() {
        Ok(number) if range.contains(number as u64) => Ok(number),
        _ => Err(format!(
            "expected an integer, at least {} and at most {}",
            range.least, range.most
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

/// Parses a part `K/N` of what is divided into N parts.
///
/// # Errors
/// A message that says what was expected.
pub fn part(text: &str) -> Result<(usize, usize), String> {
    let number = within(limits::PARTS);
    let numbers = text
        .split_once('/')
        .map(|(part, parts)| (number(part), number(parts)));
    match numbers {
        Some((Ok(part), Ok(parts))) if part <= parts => Ok((part, parts)),
        _ => Err(format!(
            "expected K/N for the K-th of N parts, such as 1/4, at most {} parts",
            limits::PARTS.most
        )),
    }
}

/// The range of a number of picture codes that are added to a text model.
pub const CODES: CountRange = CountRange {
    least: 1,
    ..limits::CODEBOOK
};

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
