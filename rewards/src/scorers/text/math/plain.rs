//! Python's arithmetic: `sympy.parse_expr(text, evaluate=False)` of digits, operators and parentheses.

use crate::algebra::Expr;

/// Parses an expression; `None` where Python's parser raises.
pub fn parse_plain(text: &str) -> Option<Expr> {
    let mut parser = PlainParser {
        rest: text.trim(),
        depth: 0,
    };
    let expr = parser.sum()?;
    parser.rest.is_empty().then_some(expr)
}

struct PlainParser<'a> {
    rest: &'a str,
    depth: usize,
}

impl PlainParser<'_> {
    fn take(&mut self, sign: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(sign) else {
            return false;
        };
        self.rest = rest.trim_start();
        true
    }

    fn sum(&mut self) -> Option<Expr> {
        let mut sum = self.product()?;
        loop {
            if self.take("+") {
                sum = sum.plus(self.product()?);
            } else if self.take("-") {
                sum = sum.plus(self.product()?.negated());
            } else {
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<Expr> {
        let mut product = self.signed()?;
        loop {
            if self.rest.starts_with("**") {
                return None;
            } else if self.take("//") {
                let floor = product.times(self.signed()?.power(Expr::int(-1)));
                product = Expr::Function("floor".to_owned(), vec![floor]);
            } else if self.take("*") {
                product = product.times(self.signed()?);
            } else if self.take("/") {
                product = product.times(self.signed()?.power(Expr::int(-1)));
            } else {
                return Some(product);
            }
        }
    }

    fn signed(&mut self) -> Option<Expr> {
        self.depth += 1;
        if self.depth > 200 {
            return None;
        }
        let value = if self.take("-") {
            self.signed().map(Expr::negated)
        } else if self.take("+") {
            self.signed()
        } else {
            self.power()
        };
        self.depth -= 1;
        value
    }

    fn power(&mut self) -> Option<Expr> {
        let base = self.atom()?;
        if self.take("**") {
            self.signed().map(|exponent| base.power(exponent))
        } else {
            Some(base)
        }
    }

    fn atom(&mut self) -> Option<Expr> {
        if self.take("(") {
            let inside = self.sum()?;
            return self.take(")").then_some(inside);
        }
        let length = self
            .rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let digits = &self.rest[..length];
        let has_leading_zero = length > 1
            && digits.starts_with('0')
            && !digits.contains('.')
            && digits.bytes().any(|digit| digit != b'0');
        if digits.matches('.').count() > 1 || digits == "." || has_leading_zero {
            return None;
        }
        let number = Expr::number(digits)?;
        self.rest = self.rest[length..].trim_start();
        Some(number)
    }
}
