//! What an expression is made of: groups, numbers, symbols and fractions.

use super::super::expr::{Expr, Named};
use super::super::tokens::Token;
use super::LatexParser;
use super::functions::{is_function, is_operator};

impl LatexParser<'_> {
    pub(super) fn primary(&mut self, with_functions: bool) -> Option<Expr> {
        match self.peek()? {
            Token::Sign("(") => self.closed(")"),
            Token::Sign("[") => self.closed("]"),
            Token::Sign("{") => self.closed("}"),
            Token::Sign("\\{") => self.closed("\\}"),
            Token::Sign("|") => self
                .closed("|")
                .map(|inside| Expr::Function("Abs".to_owned(), vec![inside])),
            Token::Command(name) if name == "lfloor" || name == "lceil" => {
                let (function, close) = if name == "lfloor" {
                    ("floor", "rfloor")
                } else {
                    ("ceiling", "rceil")
                };
                self.at += 1;
                let inside = self.expr()?;
                (self.command() == Some(close)).then_some(())?;
                self.at += 1;
                Some(Expr::Function(function.to_owned(), vec![inside]))
            }
            Token::Command(name) if is_function(name) => {
                let name = name.clone();
                if with_functions {
                    self.function(&name)
                } else {
                    None
                }
            }
            _ => self.applied(with_functions),
        }
    }

    pub(super) fn closed(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.need(close)?;
        Some(inside)
    }

    pub(super) fn braced(&mut self) -> Option<Expr> {
        if self.is("{") { self.closed("}") } else { None }
    }

    /// Parses an atom; a symbol before arguments in parentheses is a function.
    fn applied(&mut self, with_functions: bool) -> Option<Expr> {
        let start = self.at;
        let atom = self.atom()?;
        let Expr::Symbol(name, _) = &atom else {
            return Some(atom);
        };
        let is_letter = matches!(self.tokens[start], Token::Letter(_) | Token::Command(_));
        if with_functions && is_letter && self.is("(") {
            let after = self.at;
            if let Some(arguments) = self.arguments() {
                return Some(Expr::Function(format!("function {name}"), arguments));
            }
            self.at = after;
        }
        Some(atom)
    }

    fn arguments(&mut self) -> Option<Vec<Expr>> {
        self.need("(")?;
        let mut arguments = vec![self.expr()?];
        while self.take(",") {
            arguments.push(self.expr()?);
        }
        self.need(")")?;
        Some(arguments)
    }

    pub(super) fn atom(&mut self) -> Option<Expr> {
        let token = self.peek()?.clone();
        match token {
            Token::Number(_) => self.number(),
            Token::Letter(letter) => self.symbol(letter.to_string()),
            Token::Differential(name) => {
                self.at += 1;
                Some(Expr::Symbol(format!("d{name}"), false))
            }
            Token::Command(name) => match name.as_str() {
                "frac" | "dfrac" | "tfrac" => self.fraction(),
                "binom" | "dbinom" | "tbinom" => {
                    self.at += 1;
                    let upper = self.braced()?;
                    let lower = self.braced()?;
                    Some(Expr::Function("binomial".to_owned(), vec![upper, lower]))
                }
                "infty" => {
                    self.at += 1;
                    Some(Expr::Named(Named::Infinity))
                }
                name if is_function(name) || is_operator(name) || matches!(name, "langle" | "mathit") => None,
                _ => self.symbol(name),
            },
            _ => None,
        }
    }

    fn symbol(&mut self, mut name: String) -> Option<Expr> {
        self.at += 1;
        let mut quotes = String::new();
        while self.take("'") {
            quotes.push('\'');
        }
        if self.take("_") {
            let script = self.script()?;
            name = format!("{name}_{{{}}}", shown(&script));
        }
        while self.take("'") {
            quotes.push('\'');
        }
        Some(Expr::Symbol(name + &quotes, false))
    }

    /// Parses a number: digits, groups of three after commas, decimals. A digit must follow a point; if none does, the
    /// number ends after its first digit, as in the official parser.
    fn number(&mut self) -> Option<Expr> {
        let start = self.at;
        let mut text = self.digits();
        // The official parser relies on Python, which rejects integers with a leading zero.
        let has_leading_zero =
            text.len() > 1 && text.starts_with('0') && text.bytes().any(|digit| digit != b'0');
        while self.is(",") && self.digits_follow() {
            self.at += 1;
            for _ in 0..3 {
                if let Some(Token::Number(digit)) = self.peek() {
                    text.push_str(digit);
                }
                self.at += 1;
            }
        }
        if self.take(".") {
            let mut decimals = self.digits();
            // Before another point, the last decimal begins the next number.
            if self.is(".") && decimals.len() > 1 {
                decimals.pop();
                self.at -= 1;
            }
            if decimals.is_empty() {
                (text.len() > 1).then_some(())?;
                self.at = start + 1;
                return Expr::number(&text[..1]);
            }
            text = format!("{text}.{decimals}");
        } else if has_leading_zero {
            return None;
        }
        Expr::number(&text)
    }

    /// Whether three digits follow the token here. Looking at them, the official parser meets what it cannot read.
    fn digits_follow(&self) -> bool {
        (1..=3).all(|i| {
            let token = self.tokens.get(self.at + i);
            if token == Some(&Token::Broken) {
                self.met_broken.set(true);
            }
            matches!(token, Some(Token::Number(_)))
        })
    }

    fn digits(&mut self) -> String {
        let mut text = String::new();
        while let Some(Token::Number(digit)) = self.peek() {
            text.push_str(digit);
            self.at += 1;
        }
        text
    }

    fn fraction(&mut self) -> Option<Expr> {
        self.at += 1;
        let upper = self.part()?;
        let lower = self.part()?;
        let inverse = lower.power(Expr::int(-1));
        Some(if upper == Expr::int(1) {
            inverse
        } else {
            upper.times(inverse)
        })
    }

    /// Parses the numerator or denominator of a fraction: one digit, or an expression in braces.
    fn part(&mut self) -> Option<Expr> {
        if let Some(Token::Number(digit)) = self.peek() {
            let value = Expr::number(digit);
            self.at += 1;
            return value;
        }
        self.braced()
    }
}

/// Formats a subscript as text. It only has to be equal for equal subscripts.
fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Rational(value) => value.to_string(),
        Expr::Symbol(name, _) => name.clone(),
        other => format!("{other:?}"),
    }
}
