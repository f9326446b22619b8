//! LaTeX as `latex2sympy2_extended` 1.10.2 reads it: sets, tuples, intervals, matrices, relations, texts.
//!
//! Its grammar is tried in its order: a name with elements, elements, a relation of sets; the first that takes the whole text
//! is meant. Letters are lower-cased symbols, `e` is the constant, `i` a symbol; a whole number before a fraction is a mixed one.

use num_rational::BigRational;
use num_traits::{Signed, Zero};

use super::expr::{Expr, Named, Relation};
use super::probe::value_of;
use super::tokens::Token;
use lexer::tokens;

mod lexer;

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

    /// `x = 1, 2` or `x \in …`: a name, then elements without relations.
    fn named_elements(&mut self) -> Option<Expr> {
        let name = self.names()?;
        let is_named = self.take("=") || self.take_command(&["in"]);
        is_named.then_some(())?;
        let elements = self.semicolons(false)?;
        Some(relation(Relation::Equal, name, collected(elements)))
    }

    fn elements(&mut self, text: &str) -> Option<Expr> {
        let elements = self.semicolons(true)?;
        if self.at == self.tokens.len()
            && elements.len() == 1
            && elements[0].len() > 1
            && is_grouped_number(text)
        {
            return grouped_number(text);
        }
        Some(collected(elements))
    }

    fn names(&mut self) -> Option<Expr> {
        self.attempt(|parser| {
            parser.need("(")?;
            let mut names = vec![parser.name()?];
            while parser.take(",") {
                names.push(parser.name()?);
            }
            parser.need(")")?;
            Some(if names.len() == 1 {
                names.remove(0)
            } else {
                Expr::Tuple(names)
            })
        })
        .or_else(|| self.attempt(Self::name))
    }

    fn semicolons(&mut self, with_relations: bool) -> Option<Vec<Vec<Expr>>> {
        let mut groups = vec![self.commas(with_relations)?];
        while self.take(";") {
            groups.push(self.commas(with_relations)?);
        }
        Some(groups)
    }

    fn commas(&mut self, with_relations: bool) -> Option<Vec<Expr>> {
        let mut elements = self.element(with_relations)?;
        while self.take(",") {
            elements.extend(self.element(with_relations)?);
        }
        Some(elements)
    }

    /// An element: two with ±, a set, or an expression. Whatever reading ends where an element can end.
    fn element(&mut self, with_relations: bool) -> Option<Vec<Expr>> {
        self.attempt(|parser| parser.plus_minus().filter(|_| parser.ends_element()))
            .or_else(|| {
                self.attempt(|parser| {
                    parser
                        .set_atom()
                        .map(|set| vec![set])
                        .filter(|_| parser.ends_element())
                })
            })
            .or_else(|| {
                let value = if with_relations {
                    self.attempt(Self::relations)
                } else {
                    self.attempt(Self::expr)
                };
                value.map(|value| vec![value])
            })
    }

    fn ends_element(&self) -> bool {
        match self.peek() {
            None => true,
            Some(Token::Sign(sign)) => matches!(*sign, "," | ";" | ")" | "}" | "]" | "\\}" | "\\)"),
            Some(Token::Command(name)) => matches!(name.as_str(), "rbrace" | "rbrack" | "rgroup"),
            _ => false,
        }
    }

    fn plus_minus(&mut self) -> Option<Vec<Expr>> {
        const SIGNS: [&str; 2] = ["pm", "mp"];
        if self.take_command(&SIGNS) {
            let value = self.expr()?;
            return Some(vec![value.clone().negated(), value]);
        }
        let left = self.expr()?;
        self.take_command(&SIGNS).then_some(())?;
        let right = self.expr()?;
        Some(vec![
            Expr::Add(vec![left.clone(), right.clone()]),
            Expr::Add(vec![left, right.negated()]),
        ])
    }

    fn set_relation(&mut self) -> Option<Expr> {
        let named = self.attempt(|parser| {
            let name = parser.names()?;
            let is_named = parser.take("=") || parser.take_command(&["in"]);
            is_named.then_some(())?;
            let set = parser.set_relation()?;
            Some(relation(Relation::Equal, name, set))
        });
        named.or_else(|| self.difference())
    }

    fn difference(&mut self) -> Option<Expr> {
        let mut set = self.union()?;
        while self.take_command(&["setminus"]) {
            set = Expr::Complement(Box::new(set), Box::new(self.union()?));
        }
        Some(set)
    }

    fn union(&mut self) -> Option<Expr> {
        let mut set = self.intersection()?;
        while self.take_command(&["cup"]) {
            set = Expr::Union(Box::new(as_set(set)), Box::new(as_set(self.intersection()?)));
        }
        Some(set)
    }

    fn intersection(&mut self) -> Option<Expr> {
        let mut set = self.set_group()?;
        while self.take_command(&["cap"]) {
            set = Expr::Intersection(Box::new(as_set(set)), Box::new(as_set(self.set_group()?)));
        }
        Some(set)
    }

    fn set_group(&mut self) -> Option<Expr> {
        let group = self.attempt(|parser| {
            parser.need("(")?;
            let set = parser.difference()?;
            parser.need(")")?;
            Some(set)
        });
        group.or_else(|| self.attempt(Self::set_atom))
    }

    fn set_atom(&mut self) -> Option<Expr> {
        self.attempt(Self::interval)
            .or_else(|| self.attempt(Self::literal_set))
            .or_else(|| self.attempt(Self::tuple))
            .or_else(|| self.attempt(Self::finite_set))
    }

    fn interval(&mut self) -> Option<Expr> {
        let left_open = if self.take("(") || self.take("\\(") || self.take_command(&["lgroup"]) {
            true
        } else if self.take("[") || self.take_command(&["lbrack"]) {
            false
        } else {
            return None;
        };
        let from = self.expr()?;
        self.need(",")?;
        let to = self.expr()?;
        let right_open = if self.take(")") || self.take("\\)") || self.take_command(&["rgroup"]) {
            true
        } else if self.take("]") || self.take_command(&["rbrack"]) {
            false
        } else {
            return None;
        };
        interval(from, to, left_open, right_open)
    }

    fn literal_set(&mut self) -> Option<Expr> {
        if let Some(Token::Accent(command, text)) = self.peek()
            && command == "mathbb"
            && let Some(letter) = ["N", "Z", "Q", "R", "C"]
                .into_iter()
                .find(|letter| letter == text)
                .and_then(|letter| letter.chars().next())
        {
            self.at += 1;
            return Some(Expr::Named(Named::Numbers(letter)));
        }
        if self.take_command(&["emptyset"]) {
            return Some(Expr::Named(Named::Empty));
        }
        let is_empty = self
            .attempt(|parser| (parser.take("{") && parser.take("}")).then_some(()))
            .is_some();
        let is_empty = is_empty
            || self
                .attempt(|parser| (parser.take("\\{") && parser.take("\\}")).then_some(()))
                .is_some();
        is_empty.then_some(Expr::Named(Named::Empty))
    }

    fn tuple(&mut self) -> Option<Expr> {
        let close = if self.take("(") {
            ")"
        } else if self.take("[") {
            "]"
        } else if self.take("\\(") {
            "\\)"
        } else {
            return None;
        };
        let mut elements = self.semicolons(true)?;
        self.need(close)?;
        if elements.len() == 1 && elements[0].len() == 1 {
            return elements[0].pop();
        }
        Some(Expr::Tuple(elements.into_iter().flatten().collect()))
    }

    fn finite_set(&mut self) -> Option<Expr> {
        let is_boxed = self.take_command(&["boxed"]);
        let close = if is_boxed || self.is("{") {
            self.need("{")?;
            "}"
        } else {
            self.need("\\{")?;
            "\\}"
        };
        let elements = self.semicolons(true)?;
        self.need(close)?;
        Some(if is_boxed {
            collected(elements)
        } else {
            Expr::Set(elements.into_iter().flatten().collect())
        })
    }

    // --- relations and expressions ---

    /// A chain of relations holds together.
    fn relations(&mut self) -> Option<Expr> {
        let mut left = self.expr()?;
        while let Some(kind) = self.relation_sign() {
            self.at += 1;
            let right = self.expr()?;
            left = match kind {
                Some(kind) => chained(kind, left, right),
                // An approximation names its left side, or stands for it.
                None if is_only_symbols(&left) => right,
                None => left,
            };
        }
        Some(left)
    }

    fn relation_sign(&self) -> Option<Option<Relation>> {
        Some(Some(match self.peek()? {
            Token::Sign("=" | "==") => Relation::Equal,
            Token::Sign("<") => Relation::Less,
            Token::Sign("<=") => Relation::LessOrEqual,
            Token::Sign(">") => Relation::Greater,
            Token::Sign(">=") => Relation::GreaterOrEqual,
            Token::Sign("!=") => Relation::Unequal,
            Token::Command(name) => match name.as_str() {
                "equiv" => Relation::Equal,
                "lt" => Relation::Less,
                "le" | "leq" | "leqslant" => Relation::LessOrEqual,
                "gt" => Relation::Greater,
                "ge" | "geq" | "geqslant" => Relation::GreaterOrEqual,
                "ne" | "neq" => Relation::Unequal,
                "approx" => return Some(None),
                _ => return None,
            },
            _ => return None,
        }))
    }

    fn expr(&mut self) -> Option<Expr> {
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

    fn product(&mut self, with_functions: bool) -> Option<Expr> {
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

    /// Factors side by side, from the right; a whole number before a positive fraction is a mixed number.
    fn factors(&mut self, with_functions: bool) -> Option<Expr> {
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

    fn begins_factor(&self, with_functions: bool) -> bool {
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

    fn bar_begins(&self) -> bool {
        let mut parser = Parser {
            tokens: &self.tokens[self.at + 1..],
            at: 0,
            depth: self.depth + 1,
            is_real: self.is_real,
        };
        self.depth < 40 && parser.expr().is_some() && parser.is("|")
    }

    fn postfix(&mut self, with_functions: bool) -> Option<Expr> {
        let mut value = self.primary(with_functions)?;
        loop {
            if self.take("!") {
                value = Expr::Function("factorial".to_owned(), vec![value]);
            } else if self.take("^degree") {
                // Degrees are read over.
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

    fn script(&mut self) -> Option<Expr> {
        if self.take("{") {
            let inside = self.expr()?;
            self.need("}")?;
            return Some(inside);
        }
        self.atom()
    }

    fn closed(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.need(close)?;
        Some(inside)
    }

    fn closed_command(&mut self, close: &str) -> Option<Expr> {
        self.at += 1;
        let inside = self.expr()?;
        self.take_command(&[close]).then_some(inside)
    }

    fn primary(&mut self, with_functions: bool) -> Option<Expr> {
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
                    self.script()
                        .map(|exponent| Expr::Named(Named::E).power(exponent))
                } else {
                    Some(Expr::Named(Named::E))
                }
            }
            _ => self.applied(with_functions),
        }
    }

    fn choose(&mut self) -> Option<Expr> {
        self.attempt(|parser| {
            parser.need("{")?;
            let upper = parser.expr()?;
            parser.take_command(&["choose"]).then_some(())?;
            let lower = parser.expr()?;
            parser.need("}")?;
            Some(Expr::Function("binomial".to_owned(), vec![upper, lower]))
        })
    }

    fn braced(&mut self) -> Option<Expr> {
        if self.is("{") { self.closed("}") } else { None }
    }

    fn matrix(&mut self, kind: &str) -> Option<Expr> {
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

    /// A symbol before one atom in parentheses, or before several arguments, is a function.
    fn applied(&mut self, with_functions: bool) -> Option<Expr> {
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

    fn atom(&mut self) -> Option<Expr> {
        match self.peek()?.clone() {
            Token::Number(digits) => {
                self.at += 1;
                if self.take("_") {
                    // A base is read over.
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

    /// A symbol with its subscript and superscript.
    fn name(&mut self) -> Option<Expr> {
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

    fn symbol(&mut self) -> Option<Expr> {
        let symbol = self.bare_symbol()?;
        if self.take("_") {
            let script = self.subscript()?;
            if let Expr::Symbol(name, real) = symbol {
                return Some(Expr::Symbol(format!("{name}{script}"), real));
            }
        }
        Some(symbol)
    }

    fn bare_symbol(&mut self) -> Option<Expr> {
        let symbol = match self.peek()? {
            Token::Letter('e' | 'E') => None,
            Token::Letter('I') => Some(Expr::Named(Named::I)),
            Token::Letter(letter) => Some(Expr::Symbol(
                letter.to_ascii_lowercase().to_string(),
                self.is_real,
            )),
            Token::Command(name) if name == "pi" => Some(Expr::Named(Named::Pi)),
            // Lower-casing makes Π the constant as well.
            Token::Command(name) if name == "Pi" => Some(Expr::Named(Named::Pi)),
            Token::Command(name) if lexer::is_symbol(name) => {
                Some(Expr::Symbol(name.to_lowercase(), self.is_real))
            }
            Token::Accent(command, text) => Some(Expr::Symbol(accented(command, text), self.is_real)),
            _ => None,
        }?;
        self.at += 1;
        Some(symbol)
    }

    /// A subscript as text.
    fn subscript(&mut self) -> Option<String> {
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

    /// A sum or product: `_{k=1}^{n}` in either order, then a product.
    fn series(&mut self, name: &str) -> Option<Expr> {
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

    fn function(&mut self, name: &str) -> Option<Expr> {
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
}

fn relation(kind: Relation, left: Expr, right: Expr) -> Expr {
    Expr::Relation(kind, Box::new(left), Box::new(right))
}

fn chained(kind: Relation, left: Expr, right: Expr) -> Expr {
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

/// Elements as the official helper makes them: one alone, a set, or a set of tuples where semicolons part them.
fn collected(mut elements: Vec<Vec<Expr>>) -> Expr {
    if elements.len() == 1 {
        let mut only = elements.remove(0);
        return if only.len() == 1 {
            only.remove(0)
        } else {
            Expr::Set(only)
        };
    }
    if elements.iter().all(|group| group.len() == 1) {
        return Expr::Set(elements.into_iter().flatten().collect());
    }
    Expr::Set(elements.into_iter().map(Expr::Tuple).collect())
}

fn as_set(expr: Expr) -> Expr {
    match expr {
        Expr::Tuple(elements) => Expr::Set(elements),
        other => other,
    }
}

/// An interval, a tuple where it would be empty, or what sympy makes of it at once.
fn interval(from: Expr, to: Expr, left_open: bool, right_open: bool) -> Option<Expr> {
    let real = |expr: &Expr| match expr {
        Expr::Named(Named::Infinity) => Some(f64::INFINITY),
        other if *other == Expr::Named(Named::Infinity).negated() => Some(f64::NEG_INFINITY),
        other => value_of(other).and_then(|value| value.real()),
    };
    if let (Some(a), Some(b)) = (real(&from), real(&to)) {
        if (left_open && right_open && b <= a) || (!left_open && !right_open && b < a) {
            return Some(Expr::Tuple(vec![from, to]));
        }
        if b < a || (a == b && (left_open || right_open)) {
            return Some(Expr::Named(Named::Empty));
        }
        if a == b {
            return Some(Expr::Set(vec![from]));
        }
    }
    // sympy makes no interval of numbers that are not known to be real.
    let is_unreal =
        |expr: &Expr| matches!(expr, Expr::Symbol(_, false)) || matches!(expr, Expr::Named(Named::I));
    if is_unreal(&from) || is_unreal(&to) {
        return None;
    }
    Some(Expr::Interval(
        Box::new(from),
        Box::new(to),
        left_open,
        right_open,
    ))
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

/// `^\s*-?\d{1,3}(,\d{3})+(\.\d+)?\s*$`
fn is_grouped_number(text: &str) -> bool {
    let digits = text.trim();
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let (whole, fraction) = digits
        .split_once('.')
        .map_or((digits, None), |(whole, fraction)| (whole, Some(fraction)));
    let groups: Vec<&str> = whole.split(',').collect();
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    groups.len() > 1
        && is_digits(groups[0])
        && groups[0].len() <= 3
        && groups[1..]
            .iter()
            .all(|group| group.len() == 3 && is_digits(group))
        && fraction.is_none_or(is_digits)
}

fn grouped_number(text: &str) -> Option<Expr> {
    let text = text.trim();
    let text = if text.starts_with('0') {
        text.replace(',', ".")
    } else {
        text.replace(',', "")
    };
    number(text.trim_start_matches('0'))
}

fn number(digits: &str) -> Option<Expr> {
    match digits {
        "" => Some(Expr::Rational(BigRational::zero())),
        digits => Expr::number(digits),
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

fn is_function(name: &str) -> bool {
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

fn is_operator(name: &str) -> bool {
    const FACTORS: [&str; 19] = [
        "lvert", "lbrace", "lbrack", "lgroup", "lfloor", "lceil", "boxed", "phantom", "frac", "dfrac",
        "tfrac", "cfrac", "binom", "tbinom", "dbinom", "infty", "vert", "pi", "Pi",
    ];
    !is_function(name) && !FACTORS.contains(&name) && !lexer::is_symbol(name)
}
