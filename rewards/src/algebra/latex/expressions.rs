//! Relations, sums, products, adjacent factors and powers.

use std::cell::Cell;

use super::super::expr::{Expr, RelationKind};
use super::super::tokens::Token;
use super::functions::{is_function, is_operator};
use super::{DEEPEST, LatexParser};

/// The most absolute-value bars that are disambiguated; each may open or close.
const MOST_BARS: usize = 10;

impl LatexParser<'_> {
    pub(super) fn relation(&mut self) -> Option<Expr> {
        let mut left = self.expr()?;
        while let Some(relation) = self.relation_sign() {
            self.at += 1;
            let right = self.expr()?;
            left = Expr::Relation(relation, Box::new(left), Box::new(right));
        }
        self.peek();
        Some(left)
    }

    fn relation_sign(&self) -> Option<RelationKind> {
        match self.peek()? {
            Token::Sign("=") => Some(RelationKind::Equal),
            Token::Sign("<") => Some(RelationKind::Less),
            Token::Sign(">") => Some(RelationKind::Greater),
            Token::Command(name) => match name.as_str() {
                "le" | "leq" | "leqq" | "leqslant" => Some(RelationKind::LessOrEqual),
                "ge" | "geq" | "geqq" | "geqslant" => Some(RelationKind::GreaterOrEqual),
                "neq" => Some(RelationKind::Unequal),
                _ => None,
            },
            _ => None,
        }
    }

    pub(super) fn expr(&mut self) -> Option<Expr> {
        self.step()?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let mut sum = self.product(true)?;
        while let Some(term) = self.optional(|parser| {
            let is_less = parser.is("-");
            (parser.take("+") || parser.take("-")).then_some(())?;
            let term = parser.product(true)?;
            Some(if is_less { term.negated() } else { term })
        }) {
            sum = sum.plus(term);
        }
        self.depth -= 1;
        Some(sum)
    }

    pub(super) fn product(&mut self, with_functions: bool) -> Option<Expr> {
        let mut product = self.unary(with_functions)?;
        while let Some(factor) = self.optional(|parser| {
            let is_times = parser.is("*") || matches!(parser.command(), Some("times" | "cdot"));
            let is_over = parser.is("/") || parser.is(":") || parser.command() == Some("div");
            (is_times || is_over).then_some(())?;
            parser.at += 1;
            let factor = parser.unary(with_functions)?;
            Some(if is_times {
                factor
            } else {
                factor.power(Expr::int(-1))
            })
        }) {
            product = product.times(factor);
        }
        Some(product)
    }

    fn unary(&mut self, with_functions: bool) -> Option<Expr> {
        self.step()?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let value = if self.take("+") {
            self.unary(with_functions)
        } else if self.take("-") {
            self.unary(with_functions).map(Expr::negated)
        } else {
            self.factors(with_functions)
        };
        self.depth -= 1;
        value
    }

    /// Parses adjacent factors. A lone x between two factors without symbols is a multiplication sign.
    fn factors(&mut self, with_functions: bool) -> Option<Expr> {
        let mut factors = vec![self.postfix(true)?];
        while self.begins_factor(with_functions)
            && let Some(factor) = self.optional(|parser| parser.postfix(with_functions))
        {
            factors.push(factor);
        }
        let is_sign = |i: usize| {
            i > 0
                && i + 1 < factors.len()
                && factors[i] == Expr::Symbol("x".to_owned(), false)
                && factors[i - 1].symbols().is_empty()
                && factors[i + 1].symbols().is_empty()
        };
        let kept: Vec<Expr> = (0..factors.len())
            .filter(|i| !is_sign(*i))
            .map(|i| factors[i].clone())
            .collect();
        kept.into_iter().reduce(Expr::times)
    }

    pub(super) fn begins_factor(&self, with_functions: bool) -> bool {
        match self.peek() {
            Some(Token::Number(_) | Token::Letter(_) | Token::Differential(_)) => true,
            Some(Token::Sign(sign)) => {
                matches!(*sign, "(" | "[" | "{" | "\\{") || (*sign == "|" && self.bar_begins())
            }
            Some(Token::Command(name)) => {
                let is_function = is_function(name);
                !is_operator(name) && (with_functions || !is_function)
            }
            _ => false,
        }
    }

    /// Whether a bar opens an absolute value: an expression can follow and another bar closes it.
    fn bar_begins(&self) -> bool {
        let rest = &self.tokens[self.at + 1..];
        let mut parser = LatexParser {
            tokens: rest,
            at: 0,
            depth: self.depth + 1,
            met_broken: Cell::new(false),
            steps: self.steps,
        };
        let bars = rest.iter().filter(|token| **token == Token::Sign("|")).count();
        bars <= MOST_BARS && parser.expr().is_some() && parser.is("|")
    }

    fn postfix(&mut self, with_functions: bool) -> Option<Expr> {
        let mut value = self.primary(with_functions)?;
        while let Some(exponent) = self.optional(|parser| {
            parser.need("^")?;
            parser.script()
        }) {
            value = value.power(exponent);
            if self.take("_") {
                self.script()?;
            }
        }
        while self.take("!") {
            value = Expr::Function("factorial".to_owned(), vec![value]);
        }
        Some(value)
    }

    /// Parses the content of a superscript or subscript: an atom, or an expression in braces.
    pub(super) fn script(&mut self) -> Option<Expr> {
        if self.take("{") {
            let inside = self.expr()?;
            self.need("}")?;
            return Some(inside);
        }
        self.atom()
    }
}
