//! A reimplementation of `latex2sympy2_extended` 1.10.2, which reads LaTeX with sets, tuples, intervals, matrices,
//! relations and text.
//!
//! The grammar's alternatives are tried in its order: a name with elements, elements, a relation of sets. The first
//! that consumes the whole text is taken. Letters become lower-case symbols, `e` is the constant, `i` is a symbol; an
//! integer before a fraction makes a mixed number.

use std::cell::Cell;

use super::expr::Expr;
use super::tokens::{MOST_STEPS, Token, step};
use lexer::tokens;

mod collections;
mod expressions;
mod functions;
mod lexer;
mod symbols;
mod vocabulary;

/// The deepest nesting of groups and the longest text that are parsed.
const DEEPEST: usize = 120;
const LONGEST: usize = 20_000;

/// Parses a text; `None` where the official parser raises. `is_real` says whether symbols are assumed to be real.
pub fn parse(text: &str, is_real: bool) -> Option<Expr> {
    if text.len() > LONGEST {
        return None;
    }
    let tokens = tokens(text)?;
    let steps = Cell::new(MOST_STEPS);
    let whole = |read: &dyn Fn(&mut Parser<'_>) -> Option<Expr>| {
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
            is_real,
            steps: &steps,
        };
        read(&mut parser).filter(|_| parser.at == tokens.len())
    };
    whole(&|parser| parser.named_elements())
        .or_else(|| whole(&|parser| parser.elements(text)))
        .or_else(|| whole(&|parser| parser.set_relation()))
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    is_real: bool,
    /// The steps that are left, of all readings of the text together.
    steps: &'a Cell<usize>,
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Some(Token::Sign(it)) if *it == sign)
    }

    fn is_command(&self, names: &[&str]) -> bool {
        matches!(self.peek(), Some(Token::Command(name)) if names.contains(&name.as_str()))
    }

    fn take(&mut self, sign: &str) -> bool {
        let is = self.is(sign);
        self.at += usize::from(is);
        is
    }

    fn take_command(&mut self, names: &[&str]) -> bool {
        let is = self.is_command(names);
        self.at += usize::from(is);
        is
    }

    fn need(&mut self, sign: &str) -> Option<()> {
        self.take(sign).then_some(())
    }

    /// Takes a step; `None` when none is left.
    fn step(&self) -> Option<()> {
        step(self.steps)
    }

    /// Tries a reading and restores the position if it fails.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (at, depth) = (self.at, self.depth);
        self.depth += 1;
        let value = match self.step() {
            Some(()) if self.depth <= DEEPEST => read(self),
            _ => None,
        };
        self.depth = depth;
        if value.is_none() {
            self.at = at;
        }
        value
    }

    // --- collections ---
}

/// Whether an expression consists of symbols and their inverses only.
pub fn is_only_symbols(expr: &Expr) -> bool {
    match expr {
        Expr::Symbol(..) => true,
        Expr::Pow(base, exponent) if **exponent == Expr::int(-1) => is_only_symbols(base),
        other => {
            let parts = other.parts();
            !parts.is_empty() && parts.into_iter().all(is_only_symbols)
        }
    }
}
