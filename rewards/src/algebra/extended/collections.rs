//! Parsing of elements, sets, intervals and tuples.

use super::super::expr::{Expr, Named, RelationKind};
use super::super::probe::value_of;
use super::super::tokens::Token;
use super::Parser;
use super::expressions::relation;
use super::symbols::number;

impl Parser<'_> {
    /// Parses `x = 1, 2` or `x \in …`: a name, then elements without relations.
    pub(super) fn named_elements(&mut self) -> Option<Expr> {
        let name = self.names()?;
        let is_named = self.take("=") || self.take_command(&["in"]);
        is_named.then_some(())?;
        let elements = self.semicolons(false)?;
        Some(relation(RelationKind::Equal, name, collected(elements)))
    }

    pub(super) fn elements(&mut self, text: &str) -> Option<Expr> {
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

    pub(super) fn names(&mut self) -> Option<Expr> {
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

    pub(super) fn semicolons(&mut self, with_relations: bool) -> Option<Vec<Vec<Expr>>> {
        let mut groups = vec![self.commas(with_relations)?];
        while self.take(";") {
            groups.push(self.commas(with_relations)?);
        }
        Some(groups)
    }

    pub(super) fn commas(&mut self, with_relations: bool) -> Option<Vec<Expr>> {
        let mut elements = self.element(with_relations)?;
        while self.take(",") {
            elements.extend(self.element(with_relations)?);
        }
        Some(elements)
    }

    /// Parses an element: two values with ±, a set, or an expression. The first reading that ends where an element can
    /// end is taken.
    pub(super) fn element(&mut self, with_relations: bool) -> Option<Vec<Expr>> {
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

    pub(super) fn ends_element(&self) -> bool {
        match self.peek() {
            None => true,
            Some(Token::Sign(sign)) => matches!(*sign, "," | ";" | ")" | "}" | "]" | "\\}" | "\\)"),
            Some(Token::Command(name)) => matches!(name.as_str(), "rbrace" | "rbrack" | "rgroup"),
            _ => false,
        }
    }

    pub(super) fn plus_minus(&mut self) -> Option<Vec<Expr>> {
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

    pub(super) fn set_relation(&mut self) -> Option<Expr> {
        let named = self.attempt(|parser| {
            let name = parser.names()?;
            let is_named = parser.take("=") || parser.take_command(&["in"]);
            is_named.then_some(())?;
            let set = parser.set_relation()?;
            Some(relation(RelationKind::Equal, name, set))
        });
        named.or_else(|| self.difference())
    }

    pub(super) fn difference(&mut self) -> Option<Expr> {
        let mut set = self.union()?;
        while self.take_command(&["setminus"]) {
            set = Expr::Complement(Box::new(set), Box::new(self.union()?));
        }
        Some(set)
    }

    pub(super) fn union(&mut self) -> Option<Expr> {
        let mut set = self.intersection()?;
        while self.take_command(&["cup"]) {
            set = Expr::Union(Box::new(as_set(set)), Box::new(as_set(self.intersection()?)));
        }
        Some(set)
    }

    pub(super) fn intersection(&mut self) -> Option<Expr> {
        let mut set = self.set_group()?;
        while self.take_command(&["cap"]) {
            set = Expr::Intersection(Box::new(as_set(set)), Box::new(as_set(self.set_group()?)));
        }
        Some(set)
    }

    pub(super) fn set_group(&mut self) -> Option<Expr> {
        let group = self.attempt(|parser| {
            parser.need("(")?;
            let set = parser.difference()?;
            parser.need(")")?;
            Some(set)
        });
        group.or_else(|| self.attempt(Self::set_atom))
    }

    pub(super) fn set_atom(&mut self) -> Option<Expr> {
        self.attempt(Self::interval)
            .or_else(|| self.attempt(Self::literal_set))
            .or_else(|| self.attempt(Self::tuple))
            .or_else(|| self.attempt(Self::finite_set))
    }

    pub(super) fn interval(&mut self) -> Option<Expr> {
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

    pub(super) fn literal_set(&mut self) -> Option<Expr> {
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
        // `\{\}` is one token. With a space between, the official grammar does not know it.
        (is_empty || self.take("\\{\\}")).then_some(Expr::Named(Named::Empty))
    }

    pub(super) fn tuple(&mut self) -> Option<Expr> {
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

    pub(super) fn finite_set(&mut self) -> Option<Expr> {
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
}

/// Combines elements as the official helper does: a single one alone, several as a set, groups separated by semicolons
/// as a set of tuples.
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

/// Makes an interval; a tuple where the interval would be empty, or sympy's immediate simplification.
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
    // sympy makes no interval whose ends are not known to be real.
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
