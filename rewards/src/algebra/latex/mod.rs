//! A reimplementation of `sympy.parsing.latex.parse_latex` (1.13.3, ANTLR backend).
//!
//! Its grammar does not require the end of the text: what follows a complete expression is not read. Each letter is a
//! symbol, `\pi` is a symbol like any other, and unknown commands are symbols.

use std::cell::Cell;

use super::expr::{Expr, RelationKind};
use super::tokens::{SPACES, Token, differential, sign};

/// The deepest nesting of groups and the longest text that are parsed.
const DEEPEST: usize = 200;
const LONGEST: usize = 20_000;
/// The most absolute-value bars that are disambiguated; each may open or close.
const MOST_BARS: usize = 10;

/// Parses the expression with which a text begins; `None` where the official parser raises.
pub fn parse_latex(text: &str) -> Option<Expr> {
    let text = text.trim();
    if text.len() > LONGEST {
        return None;
    }
    let tokens = tokens(text);
    let mut parser = LatexParser {
        tokens: &tokens,
        at: 0,
        depth: 0,
        met_broken: Cell::new(false),
    };
    let expr = parser.relation()?;
    // The official lexer raises as soon as the parser asks for an unknown token.
    (!parser.met_broken.get()).then_some(expr)
}

/// Splits a text into tokens and drops spaces. A character that the grammar does not know becomes [`Token::Broken`],
/// because the official lexer raises only when the parser reaches it.
fn tokens(text: &str) -> Vec<Token> {
    const SIGNS: [&str; 23] = [
        "+", "-", "*", "/", "(", ")", "{", "}", "\\{", "\\}", "[", "]", "|", "_", "^", ":", "!", "=", "<",
        ">", ",", ".", "'",
    ];
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (token, length) = if c.is_ascii_whitespace() {
            (None, 1)
        } else if let Some(command) = rest
            .strip_prefix('\\')
            .filter(|command| command.starts_with(|c: char| c.is_ascii_alphabetic()))
        {
            let length = command.bytes().take_while(u8::is_ascii_alphabetic).count();
            let name = &command[..length];
            let is_space = SPACES.contains(&name) || matches!(name, "left" | "right" | "hfil");
            ((!is_space).then(|| Token::Command(name.to_owned())), length + 1)
        } else if [
            "\\,", "\\:", "\\;", "\\!", "\\*", "\\-", "\\.", "\\/", "\\\"", "\\(", "\\=",
        ]
        .iter()
        .any(|space| rest.starts_with(space))
        {
            (None, 2)
        } else if let Some((name, length)) = differential(rest) {
            (Some(Token::Differential(name)), length)
        } else if c.is_ascii_alphabetic() {
            (Some(Token::Letter(c)), 1)
        } else if c.is_ascii_digit() {
            (Some(Token::Number(c.to_string())), 1)
        } else if let Some(sign) = sign(rest, &SIGNS) {
            (Some(Token::Sign(sign)), sign.len())
        } else {
            (Some(Token::Broken), c.len_utf8())
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    tokens
}

struct LatexParser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    met_broken: Cell<bool>,
}

impl LatexParser<'_> {
    fn peek(&self) -> Option<&Token> {
        let token = self.tokens.get(self.at);
        if token == Some(&Token::Broken) {
            self.met_broken.set(true);
        }
        token
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

    fn relation(&mut self) -> Option<Expr> {
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

    fn expr(&mut self) -> Option<Expr> {
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

    fn product(&mut self, with_functions: bool) -> Option<Expr> {
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

    fn begins_factor(&self, with_functions: bool) -> bool {
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
    fn script(&mut self) -> Option<Expr> {
        if self.take("{") {
            let inside = self.expr()?;
            self.need("}")?;
            return Some(inside);
        }
        self.atom()
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

    fn closed(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.need(close)?;
        Some(inside)
    }

    fn primary(&mut self, with_functions: bool) -> Option<Expr> {
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

    fn atom(&mut self) -> Option<Expr> {
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
                    Some(Expr::Named(super::expr::Named::Infinity))
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

    /// Parses a number: digits, groups of three after commas, decimals. A digit must follow a point.
    fn number(&mut self) -> Option<Expr> {
        let mut text = self.digits();
        // The official parser relies on Python, which rejects integers with a leading zero.
        let has_leading_zero =
            text.len() > 1 && text.starts_with('0') && text.bytes().any(|digit| digit != b'0');
        while self.is(",") && (1..=3).all(|i| matches!(self.tokens.get(self.at + i), Some(Token::Number(_))))
        {
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
                return None;
            }
            text = format!("{text}.{decimals}");
        } else if has_leading_zero {
            return None;
        }
        Expr::number(&text)
    }

    fn digits(&mut self) -> String {
        let mut text = String::new();
        while let Some(Token::Number(digit)) = self.peek() {
            text.push_str(digit);
            self.at += 1;
        }
        text
    }

    fn braced(&mut self) -> Option<Expr> {
        if self.is("{") { self.closed("}") } else { None }
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

    /// Parses a function with its subscript, its superscript and its argument.
    fn function(&mut self, name: &str) -> Option<Expr> {
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
}

fn is_function(name: &str) -> bool {
    const FUNCTIONS: [&str; 28] = [
        "exp", "log", "lg", "ln", "sin", "cos", "tan", "csc", "sec", "cot", "arcsin", "arccos", "arctan",
        "arccsc", "arcsec", "arccot", "sinh", "cosh", "tanh", "arsinh", "arcosh", "artanh", "sqrt",
        "overline", "int", "sum", "prod", "lim",
    ];
    FUNCTIONS.contains(&name)
}

fn is_operator(name: &str) -> bool {
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

/// Formats a subscript as text. It only has to be equal for equal subscripts.
fn shown(expr: &Expr) -> String {
    match expr {
        Expr::Rational(value) => value.to_string(),
        Expr::Symbol(name, _) => name.clone(),
        other => format!("{other:?}"),
    }
}
