//! Functions with their scripts and arguments, roots, and sums and products over a variable.

use super::super::expr::Expr;
use super::super::tokens::Token;
use super::LatexParser;

impl LatexParser<'_> {
    /// Parses a function with its subscript, its superscript and its argument.
    pub(super) fn function(&mut self, name: &str) -> Option<Expr> {
        self.at += 1;
        match name {
            "sqrt" => {
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
            "overline" => {
                return self
                    .braced()
                    .map(|inside| Expr::Function("conjugate".to_owned(), vec![inside]));
            }
            "sum" | "prod" => return self.series(if name == "sum" { "sum" } else { "product" }),
            "int" | "lim" => return None,
            _ => {}
        }
        let (mut base, mut power) = (None, None);
        for _ in 0..2 {
            if base.is_none() && self.take("_") {
                base = Some(self.function_script()?);
            } else if power.is_none() && self.take("^") {
                power = Some(self.function_script()?);
            }
        }
        let argument = if self.is("(") {
            self.closed(")")?
        } else {
            self.product(false)?
        };
        // A power of -1 means the inverse function, not the reciprocal. Other powers apply to the value.
        let is_inverse = power == Some(Expr::int(-1));
        let value = match name {
            "log" | "ln" => Expr::Function("log".to_owned(), std::iter::once(argument).chain(base).collect()),
            "lg" => Expr::Function(
                "log".to_owned(),
                vec![argument, base.unwrap_or_else(|| Expr::int(10))],
            ),
            name => {
                let name = name
                    .strip_prefix("arc")
                    .or_else(|| name.strip_prefix("ar"))
                    .map_or_else(|| name.to_owned(), |rest| format!("a{rest}"));
                if is_inverse && !name.starts_with('a') && name != "exp" {
                    return Some(Expr::Function(format!("a{name}"), vec![argument]));
                }
                Expr::Function(name, vec![argument])
            }
        };
        Some(match power {
            Some(power) => value.power(power),
            None => value,
        })
    }

    /// Parses a function's script. Of bare digits, the last one becomes the argument if no other follows.
    fn function_script(&mut self) -> Option<Expr> {
        let start = self.at;
        let script = self.script()?;
        let is_bare = matches!(self.tokens[start], Token::Number(_)) && self.at > start + 1;
        if !is_bare
            || self.begins_factor(false)
            || self.is("^")
            || self.is("_")
            || self.is("-")
            || self.is("+")
        {
            return Some(script);
        }
        self.at -= 1;
        let digits: String = self.tokens[start..self.at]
            .iter()
            .filter_map(|token| {
                if let Token::Number(digit) = token {
                    Some(digit.as_str())
                } else {
                    None
                }
            })
            .collect();
        Expr::number(&digits)
    }

    /// Parses a sum or product: `_{k=1}^{n}` in either order, then a product.
    fn series(&mut self, name: &str) -> Option<Expr> {
        let (mut start, mut end) = (None, None);
        for _ in 0..2 {
            if self.take("_") {
                self.need("{")?;
                let variable = self.expr()?;
                self.need("=")?;
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

/// Returns whether a command is a function.
pub(super) fn is_function(name: &str) -> bool {
    const FUNCTIONS: [&str; 28] = [
        "exp", "log", "lg", "ln", "sin", "cos", "tan", "csc", "sec", "cot", "arcsin", "arccos", "arctan",
        "arccsc", "arcsec", "arccot", "sinh", "cosh", "tanh", "arsinh", "arcosh", "artanh", "sqrt",
        "overline", "int", "sum", "prod", "lim",
    ];
    FUNCTIONS.contains(&name)
}

/// Returns whether a command is an operator, a relation, an arrow or a closing bracket.
pub(super) fn is_operator(name: &str) -> bool {
    const OPERATORS: [&str; 20] = [
        "times",
        "cdot",
        "div",
        "le",
        "leq",
        "leqq",
        "leqslant",
        "ge",
        "geq",
        "geqq",
        "geqslant",
        "neq",
        "rfloor",
        "rceil",
        "rangle",
        "to",
        "rightarrow",
        "Rightarrow",
        "longrightarrow",
        "Longrightarrow",
    ];
    OPERATORS.contains(&name)
}
