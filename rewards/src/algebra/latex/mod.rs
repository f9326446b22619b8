//! A reimplementation of `sympy.parsing.latex.parse_latex` (1.13.3, ANTLR backend).
//!
//! Its grammar does not require the end of the text: what follows a complete expression is not read. Each letter is a
//! symbol, `\pi` is a symbol like any other, and unknown commands are symbols.

mod atoms;
mod expressions;
mod functions;
mod lexer;

use std::cell::Cell;

use super::expr::Expr;
use super::tokens::{MOST_STEPS, Token, step};
use lexer::tokens;

/// The deepest nesting of groups and the longest text that are parsed.
const DEEPEST: usize = 200;
const LONGEST: usize = 20_000;

/// Parses the expression with which a text begins; `None` where the official parser raises.
pub fn parse_latex(text: &str) -> Option<Expr> {
    let text = text.trim();
    if text.len() > LONGEST {
        return None;
    }
    let (tokens, steps) = (tokens(text), Cell::new(MOST_STEPS));
    let mut parser = LatexParser {
        tokens: &tokens,
        at: 0,
        depth: 0,
        met_broken: Cell::new(false),
        steps: &steps,
    };
    let expr = parser.relation()?;
    // The official lexer raises as soon as the parser asks for an unknown token.
    (!parser.met_broken.get()).then_some(expr)
}

/// The tokens, and how far they have been read.
struct LatexParser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    met_broken: Cell<bool>,
    /// The steps that are left.
    steps: &'a Cell<usize>,
}

impl LatexParser<'_> {
    fn peek(&self) -> Option<&Token> {
        let token = self.tokens.get(self.at);
        if token == Some(&Token::Broken) {
            self.met_broken.set(true);
        }
        token
    }

    /// Takes a step; `None` when none is left.
    fn step(&self) -> Option<()> {
        step(self.steps)
    }

    /// Tries an optional part; if it fails, the expression ends before it.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (at, depth) = (self.at, self.depth);
        let value = read(self);
        if value.is_none() {
            (self.at, self.depth) = (at, depth);
        }
        value
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(Token::Sign(it)) if *it == sign)
    }

    fn command(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Command(name)) => Some(name),
            _ => None,
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        self.at += usize::from(is);
        is
    }

    fn need(&mut self, sign: &str) -> Option<()> {
        self.take(sign).then_some(())
    }
}
