//! The tokens of LaTeX as the official grammar's lexer splits it.

use super::super::tokens::{SPACES, Token, differential, sign};

/// Splits a text into tokens and drops spaces. A character that the grammar does not know becomes [`Token::Broken`],
/// because the official lexer raises only when the parser reaches it.
pub(super) fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 23] = [
        "+", "-", "*", "/", "(", ")", "{", "}", "\\{", "\\}", "[", "]", "|", "_", "^", ":", "!", "=", "<",
        ">", ",", ".", "'",
    ];
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (token, length) = if c.is_ascii_whitespace() {
            (None, 1)
        } else if let Some(command) = rest
            .strip_prefix('\\')
            .filter(|command| command.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            let length = command.bytes().take_while(u8::is_ascii_alphabetic).count();
            let name = &command[..length];
            let is_space = SPACES.contains(&name) || matches!(name, "left" | "right" | "hfil");
            ((!is_space).then(|| Token::Command(name.to_owned())), length + 1)
        } else if [
            "\\,", "\\:", "\\;", "\\!", "\\*", "\\-", "\\.", "\\/", "\\\"", "\\(", "\\=",
        ]
        .iter()
        .any(|space| rest.starts_with(space))
        {
            (None, 2)
        } else if let Some((name, length)) = differential(rest) {
            (Some(Token::Differential(name)), length)
        } else if c.is_ascii_alphabetic() {
            (Some(Token::Letter(c)), 1)
        } else if c.is_ascii_digit() {
            (Some(Token::Number(c.to_string())), 1)
        } else if let Some(sign) = sign(rest, &SIGNS) {
            (Some(Token::Sign(sign)), sign.len())
        } else {
            (Some(Token::Broken), c.len_utf8())
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}
