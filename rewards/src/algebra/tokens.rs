//! The LaTeX tokens of both grammars.

use std::cell::Cell;

/// The most steps in which a text's tokens are read (law L9). `f(` and braces have two readings, so that those nested in
/// one another have twice as many at each level.
pub const MOST_STEPS: usize = 100_000;

/// Takes one of the steps that are left; `None` when none is.
pub fn step(left: &Cell<usize>) -> Option<()> {
    left.set(left.get().checked_sub(1)?);
    Some(())
}

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// Digits, with a point in the grammar that allows one in its numbers.
    Number(String),
    /// A number with a percent sign.
    Percent(String),
    /// A letter.
    Letter(char),
    /// A command without its backslash.
    Command(String),
    /// A differential: `d` and what follows it.
    Differential(String),
    /// A text or accent: its command and content.
    Accent(String, String),
    /// The begin or end of a matrix or determinant: whether it begins, and its kind.
    Matrix(bool, String),
    /// A name that the extended grammar reserves.
    Reserved(String),
    /// Any other character.
    Sign(&'static str),
    /// Input that no rule matches; the official lexers raise when they reach it.
    Broken,
}

/// Commands that are white space in both grammars.
pub const SPACES: [&str; 13] = [
    "thinspace",
    "medspace",
    "thickspace",
    "quad",
    "qquad",
    "negthinspace",
    "negmedspace",
    "negthickspace",
    "vrule",
    "vcenter",
    "vbox",
    "vskip",
    "vspace",
];

/// Returns the longest known sign with which a text begins.
pub fn sign(rest: &str, known: &[&'static str]) -> Option<&'static str> {
    known
        .iter()
        .filter(|sign| rest.starts_with(**sign))
        .max_by_key(|sign| sign.len())
        .copied()
}

/// Reads a differential, `d`, white space and a letter or command; returns its name and length.
pub fn differential(rest: &str) -> Option<(String, usize)> {
    let after = rest.strip_prefix('d')?;
    let trimmed = after.trim_start_matches([' ', '\t', '\r', '\n']);
    let skipped = after.len() - trimmed.len() + 1;
    if let Some(command) = trimmed.strip_prefix('\\') {
        let length = command.bytes().take_while(u8::is_ascii_alphabetic).count();
        return (length > 0).then(|| (command[..length].to_owned(), skipped + 1 + length));
    }
    let letter = trimmed.chars().next().filter(char::is_ascii_alphabetic)?;
    Some((letter.to_string(), skipped + 1))
}
