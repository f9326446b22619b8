//! Lists of prompts and pictures from a file or standard input. A line is JSON with `prompt` or `image`, or the prompt
//! or path itself.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use demask_api::limits;
use serde_json::Value;

/// Longest line in bytes.
const LONGEST: u64 = 1 << 20;
/// The mark with which some editors begin a file of UTF-8.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the prompt of the argument, or standard input if that is `-`.
///
/// # Errors
/// An error if standard input cannot be read or is empty.
pub fn typed(prompt: &str) -> anyhow::Result<String> {
    if prompt != "-" {
        return Ok(prompt.to_owned());
    }
    let mut bytes = Vec::new();
    let mut input = std::io::stdin().lock().take(LONGEST + 1);
    input.read_to_end(&mut bytes).context("standard input")?;
    if bytes.len() as u64 > LONGEST {
        bail!("standard input: a prompt of at most {LONGEST} bytes was expected");
    }
    let text = String::from_utf8(bytes).context("standard input")?;
    let text = text.trim_start_matches(BYTE_ORDER_MARK).trim();
    if text.is_empty() {
        bail!("standard input: a prompt was expected, found nothing");
    }
    Ok(text.to_owned())
}

/// Reads the prompts of a file, or of standard input if that is `-`. Empty lines are skipped.
///
/// # Errors
/// An error with the line if the file cannot be read, if JSON lacks `prompt`, or if a line is too long or not text.
pub fn listed(file: &Path) -> anyhow::Result<Vec<String>> {
    rows(file, "prompt", prompt_of)
}

/// A picture to read, with the question about it if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PictureRow {
    /// File of the picture.
    pub image: PathBuf,
    /// The question.
    pub question: Option<String>,
}

/// Reads the pictures of a file, or of standard input if that is `-`. A relative path is relative to the file's folder.
///
/// # Errors
/// As [`listed`].
pub fn listed_pictures(file: &Path) -> anyhow::Result<Vec<PictureRow>> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    rows(file, "picture", |line| {
        let row = picture_of(line)?;
        Ok(PictureRow {
            image: folder.join(row.image),
            ..row
        })
    })
}

/// Divides the samples of some rows into batches of at most `together`, in order: the row's number and the sample's.
pub fn batches(rows: usize, samples: usize, together: usize) -> impl Iterator<Item = Vec<(usize, usize)>> {
    let all = rows.saturating_mul(samples);
    (0..all).step_by(together).map(move |first| {
        let batch = first..all.min(first.saturating_add(together));
        batch.map(|at| (at / samples, at % samples)).collect()
    })
}

/// Reads every line that is not empty.
fn rows<T>(file: &Path, what: &str, read: impl Fn(&str) -> anyhow::Result<T>) -> anyhow::Result<Vec<T>> {
    let name = file.display().to_string();
    let mut reader: Box<dyn std::io::BufRead> = if name == "-" {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        Box::new(BufReader::new(
            std::fs::File::open(file).with_context(|| name.clone())?,
        ))
    };
    let (mut prompts, mut line, mut number, mut bytes) = (Vec::new(), String::new(), 0, 0);
    loop {
        number += 1;
        line.clear();
        let taken = reader.by_ref().take(LONGEST).read_line(&mut line);
        let taken = taken.with_context(|| format!("{name}:{number}"))?;
        if taken as u64 >= LONGEST {
            bail!("{name}:{number}: a line of at most {LONGEST} bytes was expected");
        }
        bytes += taken as u64;
        if bytes > limits::LONGEST_LIST {
            bail!(
                "{name}:{number}: a list of at most {} bytes was expected",
                limits::LONGEST_LIST
            );
        }
        match line.trim_start_matches(BYTE_ORDER_MARK).trim() {
            _ if taken == 0 => break,
            "" => {}
            text => prompts.push(read(text).with_context(|| format!("{name}:{number}"))?),
        }
    }
    if prompts.is_empty() {
        bail!("{name}: expected one {what} per line, found none");
    }
    Ok(prompts)
}

fn picture_of(line: &str) -> anyhow::Result<PictureRow> {
    if !line.starts_with('{') {
        return Ok(PictureRow {
            image: line.into(),
            question: None,
        });
    }
    let row: Value =
        serde_json::from_str(line).context("JSON was expected, because the line begins with {")?;
    let text = |key: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .map(str::trim)
            .filter(|text| !text.is_empty())
    };
    let Some(image) = text("image") else {
        bail!(
            "\"image\" with a picture's path was expected, found {}",
            crate::terminal::print::short(line)
        );
    };
    Ok(PictureRow {
        image: image.into(),
        question: text("prompt").or_else(|| text("question")).map(str::to_owned),
    })
}

fn prompt_of(line: &str) -> anyhow::Result<String> {
    if !line.starts_with('{') {
        return Ok(line.to_owned());
    }
    let row: Value =
        serde_json::from_str(line).context("JSON was expected, because the line begins with {")?;
    match row.get("prompt").and_then(Value::as_str) {
        Some(prompt) if !prompt.trim().is_empty() => Ok(prompt.trim().to_owned()),
        _ => bail!(
            "\"prompt\" with some text was expected, found {}",
            crate::terminal::print::short(line)
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_every_sample_of_every_row_in_order() {
        let all: Vec<Vec<(usize, usize)>> = batches(3, 2, 4).collect();
        assert_eq!(all, [vec![(0, 0), (0, 1), (1, 0), (1, 1)], vec![(2, 0), (2, 1)]]);
        assert_eq!(
            batches(usize::MAX, 2, 64).next().map(|first| first.len()),
            Some(64)
        );
    }
}
