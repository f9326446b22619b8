//! Expressions in the form in which they were written.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Zero};

/// An expression, a relation or a collection. Building one evaluates nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// An integer or a fraction.
    Rational(BigRational),
    /// A number with a decimal point, stored exactly.
    Float(BigRational),
    /// A symbol by name, and whether it is known to be real; symbols that differ in either are different.
    Symbol(String, bool),
    /// A constant.
    Named(Named),
    /// A sum.
    Add(Vec<Expr>),
    /// A product.
    Mul(Vec<Expr>),
    /// A power.
    Pow(Box<Expr>, Box<Expr>),
    /// A function by name; unknown names are opaque functions.
    Function(String, Vec<Expr>),
    /// A relation.
    Relation(RelationKind, Box<Expr>, Box<Expr>),
    /// A conjunction of relations, in order.
    And(Vec<Expr>),
    /// A finite set, in written order.
    Set(Vec<Expr>),
    /// A tuple.
    Tuple(Vec<Expr>),
    /// An interval: its ends, and whether each end is open.
    Interval(Box<Expr>, Box<Expr>, bool, bool),
    /// A union of sets.
    Union(Box<Expr>, Box<Expr>),
    /// An intersection of sets.
    Intersection(Box<Expr>, Box<Expr>),
    /// A set difference.
    Complement(Box<Expr>, Box<Expr>),
    /// A matrix by rows.
    Matrix(Vec<Vec<Expr>>),
}

/// A constant or a set with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// π.
    Pi,
    /// e.
    E,
    /// The imaginary unit.
    I,
    /// Infinity.
    Infinity,
    /// ℕ, ℤ, ℚ, ℝ, ℂ.
    Numbers(char),
    /// The empty set.
    Empty,
}

/// A relation's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// =
    Equal,
    /// ≠
    Unequal,
    /// <
    Less,
    /// ≤
    LessOrEqual,
    /// >
    Greater,
    /// ≥
    GreaterOrEqual,
}

impl RelationKind {
    /// Returns the relation with its sides exchanged; `None` for ≠, as in the graders.
    pub fn flipped(self) -> Option<Self> {
        Some(match self {
            Self::Equal => Self::Equal,
            Self::Less => Self::Greater,
            Self::Greater => Self::Less,
            Self::LessOrEqual => Self::GreaterOrEqual,
            Self::GreaterOrEqual => Self::LessOrEqual,
            Self::Unequal => return None,
        })
    }
}

impl Expr {
    /// Makes an integer.
    pub fn int(value: i64) -> Self {
        Self::Rational(BigRational::from_integer(BigInt::from(value)))
    }

    /// Parses a decimal number: an integer without a point, else a float.
    pub fn number(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.split_once(['e', 'E']) {
            Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: BigInt = format!("{whole}{fraction}").parse().ok()?;
        let shift = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        if shift.unsigned_abs() > 5000 {
            return None;
        }
        let ten = BigInt::from(10).pow(shift.unsigned_abs());
        let value = if shift < 0 {
            BigRational::new(digits, ten)
        } else {
            BigRational::from_integer(digits * ten)
        };
        Some(if text.contains(['.', 'e', 'E']) {
            Self::Float(value)
        } else {
            Self::Rational(value)
        })
    }

    /// Negates the expression, in the form of the graders' parsers.
    pub fn negated(self) -> Self {
        match self {
            Self::Rational(value) => Self::Rational(-value),
            Self::Float(value) => Self::Float(-value),
            other => Self::int(-1).times(other),
        }
    }

    /// Makes a flat product.
    pub fn times(self, other: Self) -> Self {
        let mut factors = match self {
            Self::Mul(factors) => factors,
            one => vec![one],
        };
        match other {
            Self::Mul(more) => factors.extend(more),
            one => factors.push(one),
        }
        Self::Mul(factors)
    }

    /// Makes a flat sum.
    pub fn plus(self, other: Self) -> Self {
        let mut terms = match self {
            Self::Add(terms) => terms,
            one => vec![one],
        };
        match other {
            Self::Add(more) => terms.extend(more),
            one => terms.push(one),
        }
        Self::Add(terms)
    }

    /// Makes a difference.
    pub fn minus(self, other: Self) -> Self {
        Self::Add(vec![self, Self::Mul(vec![Self::int(-1), other])])
    }

    /// Makes a power.
    pub fn power(self, exponent: Self) -> Self {
        Self::Pow(Box::new(self), Box::new(exponent))
    }

    /// Makes a quotient: a fraction of two integers directly, else a product with a power.
    pub fn over(self, other: Self) -> Self {
        match (self, other) {
            (Self::Rational(a), Self::Rational(b)) if a.is_integer() && b.is_integer() && !b.is_zero() => {
                Self::Rational(a / b)
            }
            (a, b) => Self::Mul(vec![a, b.power(Self::int(-1))]),
        }
    }

    /// Whether this is an integer.
    pub fn is_integer(&self) -> bool {
        matches!(self, Self::Rational(value) if value.is_integer())
    }

    /// Whether this is exactly one hundredth.
    pub fn is_hundredth(&self) -> bool {
        matches!(self, Self::Rational(value) if value.numer().is_one() && *value.denom() == BigInt::from(100))
    }

    /// Whether this is a set of some kind.
    pub fn is_set(&self) -> bool {
        matches!(
            self,
            Self::Set(_)
                | Self::Interval(..)
                | Self::Union(..)
                | Self::Intersection(..)
                | Self::Complement(..)
        ) || matches!(self, Self::Named(Named::Numbers(_) | Named::Empty))
    }

    /// Returns the direct subexpressions.
    pub fn parts(&self) -> Vec<&Self> {
        match self {
            Self::Rational(_) | Self::Float(_) | Self::Symbol(..) | Self::Named(_) => Vec::new(),
            Self::Add(parts)
            | Self::Mul(parts)
            | Self::Function(_, parts)
            | Self::And(parts)
            | Self::Set(parts)
            | Self::Tuple(parts) => parts.iter().collect(),
            Self::Pow(a, b)
            | Self::Relation(_, a, b)
            | Self::Interval(a, b, ..)
            | Self::Union(a, b)
            | Self::Intersection(a, b)
            | Self::Complement(a, b) => vec![a, b],
            Self::Matrix(rows) => rows.iter().flatten().collect(),
        }
    }

    /// Returns the distinct symbols, in the order of their appearance.
    pub fn symbols(&self) -> Vec<(String, bool)> {
        let mut found = Vec::new();
        self.gather(&mut found);
        found
    }

    fn gather(&self, found: &mut Vec<(String, bool)>) {
        if let Self::Symbol(name, real) = self {
            let symbol = (name.clone(), *real);
            if !found.contains(&symbol) {
                found.push(symbol);
            }
        }
        for part in self.parts() {
            part.gather(found);
        }
    }
}
