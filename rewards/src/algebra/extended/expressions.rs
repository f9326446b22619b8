//! Parsing of relations, sums, products and powers.

use num_traits::Signed;

use super::super::expr::{Expr, Named, RelationKind};
use super::super::tokens::Token;
use super::functions::{is_function, is_operator};
use super::{DEEPEST, Parser, is_only_symbols};

/// The most absolute-value bars that are disambiguated; each may open or close.
const MOST_BARS: usize = 10;

impl Parser<'_> {
    /// Parses a chain of relations as their conjunction.
    pub(super) fn relations(&mut self) -> Option<Expr> {
        let mut left = self.expr()?;
        while let Some(kind) = self.relation_sign() {
            self.at += 1;
            let right = self.expr()?;
            left = match kind {
                Some(kind) => chained(kind, left, right),
                // An approximation sign names its left side, or is read as that side.
                None if is_only_symbols(&left) => right,
                None => left,
            };
        }
        Some(left)
    }

    pub(super) fn relation_sign(&self) -> Option<Option<RelationKind>> {
        Some(Some(match self.peek()? {
            Token::Sign("=" | "==") => RelationKind::Equal,
            Token::Sign("<") => RelationKind::Less,
            Token::Sign("<=") => RelationKind::LessOrEqual,
            Token::Sign(">") => RelationKind::Greater,
            Token::Sign(">=") => RelationKind::GreaterOrEqual,
            Token::Sign("!=") => RelationKind::Unequal,
            Token::Command(name) => match name.as_str() {
                "equiv" => RelationKind::Equal,
                "lt" => RelationKind::Less,
                "le" | "leq" | "leqslant" => RelationKind::LessOrEqual,
                "gt" => RelationKind::Greater,
                "ge" | "geq" | "geqslant" => RelationKind::GreaterOrEqual,
                "ne" | "neq" => RelationKind::Unequal,
                "approx" => return Some(None),
                _ => return None,
            },
            _ => return None,
        }))
    }

    pub(super) fn expr(&mut self) -> Option<Expr> {
        self.step()?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return None;
        }
        let mut sum = self.product(true)?;
        loop {
            if self.take("+") {
                sum = sum.plus(self.product(true)?);
            } else if self.take("-") {
                let term = self.product(true)?;
                sum = sum.plus(term.negated());
            } else {
                self.depth -= 1;
                return Some(sum);
            }
        }
    }

    pub(super) fn product(&mut self, with_functions: bool) -> Option<Expr> {
        let mut product = self.unary(with_functions)?;
        loop {
            let is_times = self.take("*") || self.take_command(&["times", "cdot"]);
            if is_times {
                product = product.times(self.unary(with_functions)?);
            } else if self.take("/") || self.take(":") || self.take_command(&["div", "over"]) {
                product = product.over(self.unary(with_functions)?);
            } else if self.take_command(&["mod"]) {
                product = Expr::Function("Mod".to_owned(), vec![product, self.unary(with_functions)?]);
            } else {
                return Some(product);
            }
        }
    }

    pub(super) fn unary(&mut self, with_functions: bool) -> Option<Expr> {
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

    /// Parses adjacent factors, combined from the right; an integer before a positive fraction is a mixed number.
    pub(super) fn factors(&mut self, with_functions: bool) -> Option<Expr> {
        let mut factors = vec![self.postfix(true)?];
        while self.begins_factor(with_functions) {
            let at = self.at;
            match self.postfix(with_functions) {
                Some(factor) => factors.push(factor),
                None => {
                    self.at = at;
                    break;
                }
            }
        }
        let last = factors.pop()?;
        Some(
            factors
                .into_iter()
                .rev()
                .fold(last, |right, left| match (&left, &right) {
                    (Expr::Rational(whole), Expr::Rational(part))
                        if whole.is_integer() && part.is_positive() =>
                    {
                        Expr::Rational(if whole.is_negative() {
                            whole - part
                        } else {
                            whole + part
                        })
                    }
                    _ => left.times(right),
                }),
        )
    }

    pub(super) fn begins_factor(&self, with_functions: bool) -> bool {
        match self.peek() {
            Some(
                Token::Number(_)
                | Token::Percent(_)
                | Token::Letter(_)
                | Token::Differential(_)
                | Token::Accent(..)
                | Token::Matrix(true, _),
            ) => true,
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

    pub(super) fn bar_begins(&self) -> bool {
        let mut parser = Parser {
            tokens: &self.tokens[self.at + 1..],
            at: 0,
            depth: self.depth + 1,
            is_real: self.is_real,
            steps: self.steps,
        };
        let bars = parser
            .tokens
            .iter()
            .filter(|token| **token == Token::Sign("|"))
            .count();
        bars <= MOST_BARS && parser.expr().is_some() && parser.is("|")
    }

    pub(super) fn postfix(&mut self, with_functions: bool) -> Option<Expr> {
        let mut value = self.primary(with_functions)?;
        loop {
            if self.take("!") {
                value = Expr::Function("factorial".to_owned(), vec![value]);
            } else if self.take("^degree") {
                // Degree signs are ignored.
            } else if self.take("'") || self.take("^T") {
                value = transposed(value);
            } else if self.take("^") {
                let exponent = self.script()?;
                value = value.power(exponent);
                if self.take("_") {
                    self.script()?;
                }
            } else {
                return Some(value);
            }
        }
    }

    pub(super) fn script(&mut self) -> Option<Expr> {
        if self.take("{") {
            let inside = self.expr()?;
            self.need("}")?;
            return Some(inside);
        }
        self.atom()
    }

    pub(super) fn closed(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.need(close)?;
        Some(inside)
    }

    pub(super) fn closed_command(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.take_command(&[close]).then_some(inside)
    }

    /// Parses an operand: an expression in brackets, a command with its arguments, Euler's number, or a function
    /// application or atom.
    pub(super) fn primary(&mut self, with_functions: bool) -> Option<Expr> {
        let absolute = |inside: Expr| Expr::Function("Abs".to_owned(), vec![inside]);
        match self.peek()?.clone() {
            Token::Sign("(") => self.closed(")"),
            Token::Sign("[") => self.closed("]"),
            Token::Sign("{") => self.choose().or_else(|| self.closed("}")),
            Token::Sign("\\{") => self.closed("\\}"),
            Token::Sign("|") => self.closed("|").map(absolute),
            Token::Matrix(true, kind) => self.matrix(&kind),
            Token::Command(name) => match name.as_str() {
                "lvert" => self.closed_command("rvert").map(absolute),
                "vert" => self.closed_command("vert").map(absolute),
                "lbrace" => self.closed_command("rbrace"),
                "lbrack" => self.closed_command("rbrack"),
                "lgroup" => self.closed_command("rgroup"),
                "lfloor" => self
                    .closed_command("rfloor")
                    .map(|inside| Expr::Function("floor".to_owned(), vec![inside])),
                "lceil" => self
                    .closed_command("rceil")
                    .map(|inside| Expr::Function("ceiling".to_owned(), vec![inside])),
                "boxed" | "phantom" => {
                    self.at += 1;
                    self.braced()
                }
                "frac" | "dfrac" | "tfrac" | "cfrac" => {
                    self.at += 1;
                    let upper = self.braced()?;
                    let lower = self.braced()?;
                    Some(upper.over(lower))
                }
                "binom" | "tbinom" | "dbinom" => {
                    self.at += 1;
                    let upper = self.braced()?;
                    let lower = self.braced()?;
                    Some(Expr::Function("binomial".to_owned(), vec![upper, lower]))
                }
                name if is_function(name) => {
                    if with_functions {
                        self.function(name)
                    } else {
                        None
                    }
                }
                _ => self.applied(with_functions),
            },
            Token::Letter('e') => {
                self.at += 1;
                if self.take("^") {
                    self.script().map(|exponent| {
                        if exponent == Expr::int(1) {
                            Expr::Named(Named::E)
                        } else {
                            Expr::Named(Named::E).power(exponent)
                        }
                    })
                } else {
                    Some(Expr::Named(Named::E))
                }
            }
            _ => self.applied(with_functions),
        }
    }

    pub(super) fn choose(&mut self) -> Option<Expr> {
        self.attempt(|parser| {
            parser.need("{")?;
            let upper = parser.expr()?;
            parser.take_command(&["choose"]).then_some(())?;
            let lower = parser.expr()?;
            parser.need("}")?;
            Some(Expr::Function("binomial".to_owned(), vec![upper, lower]))
        })
    }

    pub(super) fn braced(&mut self) -> Option<Expr> {
        if self.is("{") { self.closed("}") } else { None }
    }
}

pub(super) fn relation(kind: RelationKind, left: Expr, right: Expr) -> Expr {
    Expr::Relation(kind, Box::new(left), Box::new(right))
}

fn chained(kind: RelationKind, left: Expr, right: Expr) -> Expr {
    let last = |expr: &Expr| {
        if let Expr::Relation(_, _, right) = expr {
            Some((**right).clone())
        } else {
            None
        }
    };
    match left {
        Expr::And(mut parts) => {
            let middle = parts.last().and_then(last).unwrap_or_else(|| right.clone());
            parts.push(relation(kind, middle, right));
            Expr::And(parts)
        }
        Expr::Relation(before, a, middle) => {
            let next = relation(kind, (*middle).clone(), right);
            Expr::And(vec![Expr::Relation(before, a, middle), next])
        }
        left => relation(kind, left, right),
    }
}

fn transposed(expr: Expr) -> Expr {
    match expr {
        Expr::Matrix(rows) => {
            let columns = rows.first().map_or(0, Vec::len);
            Expr::Matrix(
                (0..columns)
                    .map(|column| rows.iter().map(|row| row[column].clone()).collect())
                    .collect(),
            )
        }
        other => Expr::Function("function transpose".to_owned(), vec![other]),
    }
}
