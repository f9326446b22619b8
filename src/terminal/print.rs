//! Tables, JSON and notes for a person or a script.

use std::io::{self, Write as _};

use serde::Serialize;

/// Prints a value as indented JSON.
///
/// # Errors
/// Standard output's.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a value as JSON on one line.
///
/// # Errors
/// Standard output's.
pub fn json_line<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints rows under a head, columns aligned.
///
/// # Errors
/// Standard output's.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let mut widths: Vec<usize> = head.iter().map(|cell| width(cell)).collect();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            widths[column] = widths[column].max(width(cell));
        }
    }
    let mut out = io::stdout().lock();
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, &wide)| pad(cell, wide))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

/// Says something to the person, not to the script. Where nobody listens any more, nothing is lost.
pub fn note(text: &str) {
    // Not `eprintln`, which panics where there is nobody to tell: a terminal that is gone.
    writeln!(io::stderr(), "{text}").ok();
}

/// The beginning of a text, in one line.
pub fn short(text: &str) -> String {
    const WIDEST: usize = 60;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if width(&line) <= WIDEST {
        return line;
    }
    let kept: String = line.chars().take(WIDEST - 1).collect();
    format!("{kept}…")
}

/// Prints what a model wrote; that nothing was written is said, for an empty line looks like a fault of the terminal.
pub fn written(text: &str) {
    if text.trim().is_empty() {
        note("the model wrote nothing: its answer is empty");
    } else {
        println!("{text}");
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

fn pad(text: &str, wide: usize) -> String {
    let missing = wide.saturating_sub(width(text));
    format!("{text}{}", " ".repeat(missing))
}
