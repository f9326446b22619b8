//! The lexer of `latex2sympy2_extended`'s grammar.

use super::super::tokens::{SPACES, Token, differential, sign};
use super::vocabulary::{ACCENTS, RESERVED, SIGNS_OF_COMMANDS, is_known};

/// Returns all tokens of a text; `None` where the official lexer raises.
pub fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (token, length) = next(rest, c)?;
        tokens.extend(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

/// Reads the token at the start of `rest`, whose first character is `c`. Returns the token, or none for a space, and
/// its length in bytes. Returns `None` for a character that the grammar does not know. The order of the cases is
/// significant: a longer token is tried before a shorter one with which it begins.
fn next(rest: &str, c: char) -> Option<(Option<Token>, usize)> {
    const SIGNS: [&str; 32] = [
        "+", "-", "*", "/", "(", ")", "\\(", "\\)", "{", "}", "\\{", "\\}", "\\{\\}", "[", "]", "|", "\\|",
        "_", "^", ":", ";", ",", ".", "\\\\", "&", "=", "==", "<", "<=", ">", ">=", "!",
    ];
    const DEGREES: [&str; 8] = [
        "^\\circ",
        "^\\degree",
        "^\\circle",
        "^°",
        "^{\\circ}",
        "^{\\degree}",
        "^{\\circle}",
        "^{°}",
    ];
    if matches!(c, ' ' | '\t' | '\r' | '\n') {
        return Some((None, 1));
    }
    if let Some(degree) = sign(rest, &DEGREES) {
        return Some((Some(Token::Sign("^degree")), degree.len()));
    }
    if let Some(transpose) = sign(rest, &["^T", "^{T}", "^{\\top}"]) {
        return Some((Some(Token::Sign("^T")), transpose.len()));
    }
    if ["\\,", "\\:", "\\;", "\\!", "\\$"]
        .iter()
        .any(|space| rest.starts_with(space))
    {
        return Some((None, 2));
    }
    if let Some(command) = rest
        .strip_prefix('\\')
        .filter(|command| command.starts_with(|c: char| c.is_ascii_alphabetic()))
    {
        return command_token(command);
    }
    if c.is_ascii_digit() || (c == '.' && rest[1..].starts_with(|c: char| c.is_ascii_digit())) {
        return Some(number_token(rest));
    }
    if c.is_ascii_alphabetic() {
        return Some(letter_token(rest, c));
    }
    if rest.starts_with("!=") {
        return Some((
            Some(Token::Sign("!=")),
            if rest.starts_with("!==") { 3 } else { 2 },
        ));
    }
    if rest.starts_with("~=") {
        return Some((Some(Token::Command("approx".to_owned())), 2));
    }
    if c == '\'' {
        return Some((Some(Token::Sign("'")), 1));
    }
    if let Some(sign) = sign(rest, &SIGNS) {
        return Some((Some(Token::Sign(sign)), sign.len()));
    }
    if c == '−' {
        return Some((Some(Token::Sign("-")), c.len_utf8()));
    }
    let command = SIGNS_OF_COMMANDS.iter().find(|pair| pair.0 == c)?.1;
    Some((Some(Token::Command(command.to_owned())), c.len_utf8()))
}

/// Reads the longest command that the grammar knows here, which may be shorter than the word.
fn command_token(command: &str) -> Option<(Option<Token>, usize)> {
    let length = command.bytes().take_while(u8::is_ascii_alphabetic).count();
    let word = &command[..length];
    if word == "begin" || word == "end" {
        return matrix_token(word == "begin", &command[length..], length);
    }
    let known = |name: &str| is_known(name) || SPACES.contains(&name) || ACCENTS.contains(&name);
    let length = (1..=length).rev().find(|length| known(&word[..*length]))?;
    let name = &word[..length];
    if SPACES.contains(&name) {
        return Some((None, length + 1));
    }
    if ACCENTS.contains(&name) {
        let after = &command[length..];
        let opened = after.strip_prefix([' ', '\t', '\n']).unwrap_or(after);
        if let Some(content) = opened.strip_prefix('{')
            && let Some(end) = closing(content)
        {
            let taken = command.len() - content.len() + end + 1;
            // A space before the brace is part of the accent's name.
            let name = &command[..command.len() - content.len() - 1];
            return Some((
                Some(Token::Accent(name.to_owned(), content[..end].to_owned())),
                taken + 1,
            ));
        }
        return None;
    }
    Some((Some(Token::Command(name.to_owned())), length + 1))
}

/// Finds the first closing brace that is not written `\}`.
fn closing(content: &str) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in content.char_indices() {
        if c == '}' && !escaped {
            return Some(i);
        }
        escaped = c == '\\';
    }
    content.find('}')
}

fn matrix_token(begins: bool, after: &str, length: usize) -> Option<(Option<Token>, usize)> {
    let content = after.strip_prefix('{')?;
    let end = content.find('}')?;
    let kind = &content[..end];
    let mut taken = 1 + length + end + 2;
    match kind {
        "matrix" | "pmatrix" | "bmatrix" => Some((Some(Token::Matrix(begins, "matrix".to_owned())), taken)),
        "vmatrix" => Some((Some(Token::Matrix(begins, kind.to_owned())), taken)),
        "array" => {
            if begins {
                let columns = content[end + 1..].strip_prefix('{')?;
                let close = columns.find('}')?;
                columns[..close]
                    .bytes()
                    .all(|byte| matches!(byte, b'c' | b'l' | b'r'))
                    .then_some(())?;
                taken += close + 2;
            }
            Some((Some(Token::Matrix(begins, kind.to_owned())), taken))
        }
        _ => None,
    }
}

fn number_token(rest: &str) -> (Option<Token>, usize) {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(rest);
    if let Some(after) = rest[length..].strip_prefix('.') {
        let decimals = digits(after);
        length += if decimals > 0 { decimals + 1 } else { 0 };
    }
    // A number may be in E-notation; a percent sign may follow after one space.
    if let Some(after) = rest[length..].strip_prefix('E') {
        let unsigned = after.strip_prefix(['+', '-']).unwrap_or(after);
        if digits(unsigned) > 0 {
            let taken = length + 1 + (after.len() - unsigned.len()) + digits(unsigned);
            return (Some(Token::Number(rest[..taken].to_owned())), taken);
        }
    }
    let after = &rest[length..];
    let spaced = after.strip_prefix([' ', '\t', '\r', '\n']).unwrap_or(after);
    let percent = if spaced.starts_with("\\%") {
        2
    } else {
        usize::from(spaced.starts_with('%'))
    };
    if percent > 0 {
        return (
            Some(Token::Percent(rest[..length].to_owned())),
            length + (after.len() - spaced.len()) + percent,
        );
    }
    (Some(Token::Number(rest[..length].to_owned())), length)
}

fn letter_token(rest: &str, c: char) -> (Option<Token>, usize) {
    let reserved = RESERVED
        .iter()
        .filter(|word| rest.starts_with(**word))
        .map(|word| word.len())
        .max();
    let differential = differential(rest);
    match (reserved, differential) {
        (Some(length), None) => (Some(Token::Reserved(rest[..length].to_owned())), length),
        (Some(length), Some((_, other))) if length >= other => {
            (Some(Token::Reserved(rest[..length].to_owned())), length)
        }
        (_, Some((name, length))) => (Some(Token::Differential(name)), length),
        (None, None) => (Some(Token::Letter(c)), 1),
    }
}
