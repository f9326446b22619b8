//! Parsing of numbers, and of symbols with their subscripts and superscripts.

use num_rational::BigRational;
use num_traits::Zero;

use super::super::expr::{Expr, Named};
use super::super::tokens::Token;
use super::Parser;
use super::vocabulary::is_symbol;

impl Parser<'_> {
    pub(super) fn atom(&mut self) -> Option<Expr> {
        match self.peek()?.clone() {
            Token::Number(digits) => {
                self.at += 1;
                if self.take("_") {
                    // The base of a number is ignored.
                    self.subscript()?;
                }
                number(&digits)
            }
            Token::Percent(digits) => {
                self.at += 1;
                number(&digits).map(|number| Expr::Mul(vec![number, Expr::int(1).over(Expr::int(100))]))
            }
            Token::Differential(name) => {
                self.at += 1;
                Some(Expr::Symbol(format!("d{name}"), self.is_real))
            }
            Token::Letter('E') => {
                self.at += 1;
                Some(Expr::Symbol("e".to_owned(), self.is_real))
            }
            Token::Command(name) if name == "infty" => {
                self.at += 1;
                Some(Expr::Named(Named::Infinity))
            }
            _ => self.name(),
        }
    }

    /// Parses a symbol with its subscript and superscript.
    pub(super) fn name(&mut self) -> Option<Expr> {
        let power = |parser: &mut Self| {
            if parser.take("^") {
                parser.script().map(Some)
            } else {
                Some(None)
            }
        };
        let start = self.at;
        let mut symbol = self.bare_symbol()?;
        let mut exponent = None;
        if self.is("^") {
            exponent = power(self)?;
        }
        if self.is("_") {
            self.at += 1;
            let script = self.subscript()?;
            if let Expr::Symbol(name, real) = symbol {
                symbol = Expr::Symbol(format!("{name}{script}"), real);
            }
        }
        if exponent.is_none() {
            exponent = power(self)?;
        }
        debug_assert!(self.at > start);
        Some(match exponent {
            Some(exponent) => symbol.power(exponent),
            None => symbol,
        })
    }

    pub(super) fn symbol(&mut self) -> Option<Expr> {
        let symbol = self.bare_symbol()?;
        if self.take("_") {
            let script = self.subscript()?;
            if let Expr::Symbol(name, real) = symbol {
                return Some(Expr::Symbol(format!("{name}{script}"), real));
            }
        }
        Some(symbol)
    }

    pub(super) fn bare_symbol(&mut self) -> Option<Expr> {
        let symbol = match self.peek()? {
            Token::Letter('e' | 'E') => None,
            Token::Letter('I') => Some(Expr::Named(Named::I)),
            Token::Letter(letter) => Some(Expr::Symbol(
                letter.to_ascii_lowercase().to_string(),
                self.is_real,
            )),
            Token::Command(name) if name == "pi" => Some(Expr::Named(Named::Pi)),
            // Lower-casing makes Π the constant as well, as in the official parser.
            Token::Command(name) if name == "Pi" => Some(Expr::Named(Named::Pi)),
            Token::Command(name) if is_symbol(name) => Some(Expr::Symbol(name.to_lowercase(), self.is_real)),
            Token::Accent(command, text) => Some(Expr::Symbol(accented(command, text), self.is_real)),
            _ => None,
        }?;
        self.at += 1;
        Some(symbol)
    }

    /// Reads a subscript as text.
    pub(super) fn subscript(&mut self) -> Option<String> {
        let start = self.at;
        if self.take("{") {
            self.expr()?;
            while self.take(",") {
                self.expr()?;
            }
            self.need("}")?;
            let inside = shown(&self.tokens[start + 1..self.at - 1]);
            return Some(if inside.len() > 1 {
                format!("_{{{inside}}}")
            } else {
                format!("_{inside}")
            });
        }
        self.atom()?;
        let inside = shown(&self.tokens[start..self.at]);
        Some(if inside.len() > 1 {
            format!("_{{{inside}}}")
        } else {
            format!("_{inside}")
        })
    }
}

pub(super) fn number(digits: &str) -> Option<Expr> {
    match digits {
        "" => Some(Expr::Rational(BigRational::zero())),
        digits => Expr::number(digits),
    }
}

fn accented(command: &str, text: &str) -> String {
    let text = text.replace(' ', "");
    let name = match command {
        "bar" | "overline" => "bar",
        "vec" | "overrightarrow" => "vec",
        "tilde" | "widetilde" => "tilde",
        name if name.contains("text") || name.contains("mbox") => {
            return text.replace(['(', ')'], "").to_lowercase();
        }
        name if name.contains("math") => "math",
        name => name,
    };
    format!("{name}{{{text}}}").to_lowercase()
}

fn shown(tokens: &[Token]) -> String {
    tokens
        .iter()
        .map(|token| match token {
            Token::Number(text) | Token::Percent(text) | Token::Reserved(text) => text.clone(),
            Token::Letter(letter) => letter.to_string(),
            Token::Command(name) => format!("\\{name}"),
            Token::Differential(name) => format!("d{name}"),
            Token::Accent(command, text) => format!("\\{command}{{{text}}}"),
            Token::Matrix(..) | Token::Broken => String::new(),
            Token::Sign(sign) => (*sign).to_owned(),
        })
        .collect()
}
