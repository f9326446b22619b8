//! LaTeX as `latex2sympy2_extended` 1.10.2 reads it: sets, tuples, intervals, matrices, relations, texts.
//!
//! Its grammar is tried in its order: a name with elements, elements, a relation of sets; the first that takes the whole text
//! is meant. Letters are lower-cased symbols, `e` is the constant, `i` a symbol; a whole number before a fraction is a mixed one.

use super::expr::Expr;
use super::tokens::Token;
use lexer::tokens;

mod collections;
mod expressions;
mod functions;
mod lexer;
mod symbols;

/// The depth of groups and the length of texts that are parsed.
const DEEPEST: usize = 120;
const LONGEST: usize = 20_000;

/// The expression that a text is; `None` where the official parser raises. Symbols are real or not, by the caller's guess.
pub fn parse(text: &str, is_real: bool) -> Option<Expr> {
    if text.len() > LONGEST {
        return None;
    }
    let tokens = tokens(text)?;
    let whole = |read: &dyn Fn(&mut Parser<'_>) -> Option<Expr>| {
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
            is_real,
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

    /// Tries a reading; the place is as before where it fails.
    fn attempt<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let (at, depth) = (self.at, self.depth);
        self.depth += 1;
        let value = if self.depth > DEEPEST { None } else { read(self) };
        self.depth = depth;
        if value.is_none() {
            self.at = at;
        }
        value
    }

    // --- collections ---
}

/// Whether an expression holds nothing but symbols, or their inverses.
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
