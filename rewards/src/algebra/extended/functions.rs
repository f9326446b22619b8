//! Parsing of functions, of sums and products over a range, and of matrices.

use super::super::expr::{Expr, Named};
use super::super::tokens::Token;
use super::Parser;
use super::vocabulary::is_symbol;

impl Parser<'_> {
    pub(super) fn matrix(&mut self, kind: &str) -> Option<Expr> {
        self.at += 1;
        let mut rows = Vec::new();
        loop {
            let mut row = vec![self.expr()?];
            while self.take("&") {
                row.push(self.expr()?);
            }
            rows.push(row);
            let is_next = self.take("\\\\");
            if let Some(Token::Matrix(false, end)) = self.peek()
                && end == kind
            {
                self.at += 1;
                let is_even = rows.iter().all(|row: &Vec<Expr>| row.len() == rows[0].len());
                return (is_even && kind != "vmatrix").then_some(Expr::Matrix(rows));
            }
            is_next.then_some(())?;
        }
    }

    /// Parses a function application: a symbol before one atom in parentheses, or before several arguments.
    pub(super) fn applied(&mut self, with_functions: bool) -> Option<Expr> {
        let function = |parser: &mut Self| {
            let Expr::Symbol(name, _) = parser.symbol()? else {
                return None;
            };
            let power = if parser.take("^") {
                Some(parser.script()?)
            } else {
                None
            };
            let close = if parser.take("(") {
                ")"
            } else if parser.take("[") {
                "]"
            } else {
                return None;
            };
            let single = parser.attempt(|parser| parser.atom().filter(|_| parser.is(close)));
            let arguments = match single {
                Some(argument) => vec![argument],
                None => {
                    let mut arguments = vec![parser.expr()?];
                    parser.is(",").then_some(())?;
                    while parser.take(",") {
                        if !parser.is(close) {
                            arguments.push(parser.expr()?);
                        }
                    }
                    arguments
                }
            };
            parser.need(close)?;
            let value = Expr::Function(format!("function {name}"), arguments);
            Some(match power {
                Some(power) => value.power(power),
                None => value,
            })
        };
        with_functions
            .then(|| self.attempt(function))
            .flatten()
            .or_else(|| self.atom())
    }

    /// Parses a function with its subscript, its superscript and its arguments.
    pub(super) fn function(&mut self, name: &str) -> Option<Expr> {
        self.at += 1;
        if name == "sqrt" {
            let root = if self.is("[") {
                Some(self.closed("]")?)
            } else {
                None
            };
            let base = self.braced()?;
            let exponent =
                root.map_or_else(|| Expr::int(1).over(Expr::int(2)), |root| Expr::int(1).over(root));
            return Some(base.power(exponent));
        }
        if name == "sum" || name == "prod" {
            return self.series(if name == "sum" { "sum" } else { "product" });
        }
        let (mut base, mut power) = (None, None);
        for _ in 0..2 {
            if base.is_none() && self.take("_") {
                base = Some(self.script()?);
            } else if power.is_none() && self.take("^") {
                power = Some(self.script()?);
            }
        }
        let arguments = if matches!(name, "gcd" | "lcm" | "max" | "min") {
            self.need("(")?;
            let mut arguments = vec![self.expr()?];
            while self.take(",") {
                arguments.push(self.expr()?);
            }
            self.need(")")?;
            arguments
        } else {
            vec![if self.is("(") {
                self.closed(")")?
            } else {
                self.product(false)?
            }]
        };
        // A power of -1 means the inverse function, not the reciprocal. Other powers apply to the value.
        let is_inverse = power == Some(Expr::int(-1));
        let value = match name {
            "log" | "ln" => {
                let base = base.or_else(|| (name == "log").then(|| Expr::int(10)));
                Expr::Function("log".to_owned(), arguments.into_iter().chain(base).collect())
            }
            "exp" => Expr::Named(Named::E).power(arguments.into_iter().next()?),
            "max" => Expr::Function("Max".to_owned(), arguments),
            "min" => Expr::Function("Min".to_owned(), arguments),
            "floor" | "gcd" | "lcm" => Expr::Function(name.to_owned(), arguments),
            "ceil" => Expr::Function("ceiling".to_owned(), arguments),
            name => {
                let name = name
                    .strip_prefix("arc")
                    .or_else(|| name.strip_prefix("ar"))
                    .map_or_else(|| name.to_owned(), |rest| format!("a{rest}"));
                if is_inverse && !name.starts_with('a') {
                    return Some(Expr::Function(format!("a{name}"), arguments));
                }
                Expr::Function(name, arguments)
            }
        };
        Some(match power {
            Some(power) => value.power(power),
            None => value,
        })
    }

    /// Parses a sum or product: `_{k=1}^{n}` in either order, then a product.
    pub(super) fn series(&mut self, name: &str) -> Option<Expr> {
        let (mut start, mut end) = (None, None);
        for _ in 0..2 {
            if self.take("_") {
                self.need("{")?;
                let variable = self.expr()?;
                (self.take("=") || self.take("==")).then_some(())?;
                start = Some((variable, self.expr()?));
                self.need("}")?;
            } else if self.take("^") {
                end = Some(self.script()?);
            }
        }
        let body = self.product(true)?;
        let (variable, from) = start?;
        Some(Expr::Function(name.to_owned(), vec![body, variable, from, end?]))
    }
}

/// Returns whether a command is the name of a function.
pub(super) fn is_function(name: &str) -> bool {
    const FUNCTIONS: [&str; 37] = [
        "log",
        "ln",
        "exp",
        "sin",
        "cos",
        "tan",
        "csc",
        "sec",
        "cot",
        "arcsin",
        "arccos",
        "arctan",
        "arccsc",
        "arcsec",
        "arccot",
        "sinh",
        "cosh",
        "tanh",
        "arsinh",
        "arcosh",
        "artanh",
        "arcsinh",
        "arccosh",
        "arctanh",
        "floor",
        "ceil",
        "det",
        "gcd",
        "lcm",
        "max",
        "min",
        "sqrt",
        "int",
        "sum",
        "prod",
        "lim",
        "operatorname",
    ];
    FUNCTIONS.contains(&name)
}

pub(super) fn is_operator(name: &str) -> bool {
    const FACTORS: [&str; 19] = [
        "lvert", "lbrace", "lbrack", "lgroup", "lfloor", "lceil", "boxed", "phantom", "frac", "dfrac",
        "tfrac", "cfrac", "binom", "tbinom", "dbinom", "infty", "vert", "pi", "Pi",
    ];
    !is_function(name) && !FACTORS.contains(&name) && !is_symbol(name)
}
