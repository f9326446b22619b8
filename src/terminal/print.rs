//! Tables, JSON and notes for the user or a script.
//!
//! Texts come from models, files, the hub and the store, so that all but JSON is printed without control characters (law
//! L9).

use std::io::{self, Write as _};

use demask_storage::visible;
use serde::Serialize;

/// Prints a value as indented JSON.
///
/// # Errors
/// Any error of standard output.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a value as JSON on one line.
///
/// # Errors
/// Any error of standard output.
pub fn json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints rows under a head, with aligned columns.
///
/// # Errors
/// Any error of standard output.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| visible::line(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let mut out = io::stdout().lock();
    let head: Vec<String> = head.iter().map(|cell| visible::line(cell)).collect();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &wide)| pad(cell, wide))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Prints a note to standard error, for the user and not for a script. An error is ignored.
pub fn note(text: &str) {
    drawn(&visible::lines(text));
}

/// Prints a picture that this program drew with the terminal's own commands to standard error. An error is ignored.
pub fn drawn(picture: &str) {
    // `eprintln` would panic if standard error is closed, for example because the terminal is gone.
    writeln!(io::stderr(), "{picture}").ok();
}

/// Prints a text.
pub fn say(text: &str) {
    println!("{}", visible::lines(text));
}

/// Returns the beginning of a text, on one line and without control characters.
pub fn short(text: &str) -> String {
    const WIDEST: usize = 60;
    let line = visible::line(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if width(&line) <= WIDEST {
        return line;
    }
    let kept: String = line.chars().take(WIDEST - 1).collect();
    format!("{kept}…")
}

/// Prints a model's output. An empty output is reported, because an empty line looks like a fault of the terminal.
pub fn written(text: &str) {
    if text.trim().is_empty() {
        note("the model wrote nothing: its answer is empty");
    } else {
        say(text);
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, wide: usize) -> String {
    let missing = wide.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}
