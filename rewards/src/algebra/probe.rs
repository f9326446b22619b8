//! Zero testing: evaluates an expression at rational points, exactly where possible.

use std::collections::HashMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

use super::expr::{Expr, Named};
use super::functions;
use super::value::Value;

/// The number of points at which an expression with symbols is evaluated, and the number of tries if it is undefined at
/// some.
const POINTS: usize = 5;
const TRIES: usize = 24;

/// The tolerance of a float zero, relative to the size of the terms that cancelled.
const NEAR: f64 = 1e-12;

/// Whether an expression is zero everywhere; `None` if it has no value at any point that was tried.
pub fn is_zero(expr: &Expr) -> Option<bool> {
    let symbols = free_symbols(expr);
    let tries = if symbols.is_empty() { 1 } else { TRIES };
    let mut seen = 0;
    for attempt in 0..tries {
        let mut point = Point::new(&symbols, attempt);
        // A value beyond the range of floats says nothing.
        let Some((value, size)) = point.sum(expr).filter(|(value, size)| is_in_range(value, *size)) else {
            continue;
        };
        let is_zero = match &value {
            Value::Rational(value) => value.is_zero(),
            Value::Float(value) => *value == 0.0,
            float => float.size() <= NEAR * size.max(1e-9),
        };
        if !is_zero {
            return Some(false);
        }
        seen += 1;
        if symbols.is_empty() || seen == POINTS {
            return Some(true);
        }
    }
    (seen > 0).then_some(true)
}

fn is_in_range(value: &Value, size: f64) -> bool {
    match value {
        Value::Rational(_) => true,
        Value::Float(value) => value.is_finite(),
        Value::Complex(re, im) => re.is_finite() && im.is_finite() && size.is_finite(),
    }
}

/// Returns the free symbols; the index of a sum or product is not free.
fn free_symbols(expr: &Expr) -> Vec<(String, bool)> {
    if let Expr::Function(name, arguments) = expr
        && (name == "sum" || name == "product")
        && let [body, Expr::Symbol(variable, real), from, to] = &arguments[..]
    {
        let inside = free_symbols(body)
            .into_iter()
            .filter(|symbol| symbol.0 != *variable || symbol.1 != *real);
        return inside.chain(free_symbols(from)).chain(free_symbols(to)).collect();
    }
    match expr {
        Expr::Symbol(name, real) => vec![(name.clone(), *real)],
        other => other
            .parts()
            .into_iter()
            .flat_map(free_symbols)
            .fold(Vec::new(), |mut all, symbol| {
                if !all.contains(&symbol) {
                    all.push(symbol);
                }
                all
            }),
    }
}

/// Evaluates an expression without free symbols.
pub fn value_of(expr: &Expr) -> Option<Value> {
    free_symbols(expr)
        .is_empty()
        .then(|| Point::new(&[], 0).value(expr))
        .flatten()
}

/// Values of the symbols, and of unknown functions by their arguments.
struct Point {
    symbols: HashMap<(String, bool), Value>,
    unknown: HashMap<String, Value>,
    attempt: usize,
}

impl Point {
    fn new(symbols: &[(String, bool)], attempt: usize) -> Self {
        let symbols = symbols
            .iter()
            .map(|symbol| {
                let value = some_number(&symbol.0, attempt);
                // A symbol that is not known to be real is complex at every third point.
                let turn = if symbol.1 || attempt % 3 != 2 {
                    Value::int(1)
                } else {
                    Value::Complex(0.6, 0.8)
                };
                (symbol.clone(), value.mul(&turn))
            })
            .collect();
        Self {
            symbols,
            unknown: HashMap::new(),
            attempt,
        }
    }

    /// Evaluates a sum and the size of its terms; products of sums are expanded.
    fn sum(&mut self, expr: &Expr) -> Option<(Value, f64)> {
        match expr {
            Expr::Add(terms) => {
                let mut total = (Value::int(0), 0.0);
                for term in terms {
                    let (value, size) = self.sum(term)?;
                    total = (total.0.add(&value), total.1 + size);
                }
                Some(total)
            }
            Expr::Mul(factors) => {
                let mut total = (Value::int(1), 1.0);
                for factor in factors {
                    let (value, size) = self.sum(factor)?;
                    total = (total.0.mul(&value), total.1 * size);
                }
                Some(total)
            }
            other => {
                let value = self.value(other)?;
                let size = value.size();
                Some((value, size))
            }
        }
    }

    fn value(&mut self, expr: &Expr) -> Option<Value> {
        match expr {
            Expr::Rational(value) => Some(Value::Rational(value.clone())),
            // Beside symbols a float is a coefficient, and coefficients are collected exactly before they are compared.
            Expr::Float(value) if self.symbols.is_empty() => Some(double(value)),
            Expr::Float(value) => Some(Value::Rational(value.clone())),
            Expr::Symbol(name, real) => self.symbols.get(&(name.clone(), *real)).cloned(),
            Expr::Named(Named::Pi) => Some(Value::Complex(std::f64::consts::PI, 0.0)),
            Expr::Named(Named::E) => Some(Value::Complex(std::f64::consts::E, 0.0)),
            Expr::Named(Named::I) => Some(Value::Complex(0.0, 1.0)),
            Expr::Add(_) | Expr::Mul(_) => self.sum(expr).map(|sum| sum.0),
            Expr::Pow(base, exponent) => {
                let exponent = self.value(exponent)?;
                if matches!(**base, Expr::Named(Named::E)) {
                    return exponent.exp();
                }
                self.value(base)?.pow(&exponent)
            }
            Expr::Function(name, arguments) if name == "sum" || name == "product" => {
                self.series(name, arguments)
            }
            Expr::Function(name, arguments) => self.function(name, arguments),
            _ => None,
        }
    }

    /// Evaluates a sum or product over integers; the arguments are body, variable, from, to.
    fn series(&mut self, name: &str, arguments: &[Expr]) -> Option<Value> {
        let [body, Expr::Symbol(variable, real), from, to] = arguments else {
            return None;
        };
        let whole = |value: Value| {
            value
                .real()
                .filter(|value| value.fract() == 0.0)
                .map(|value| value as i64)
        };
        let (from, to) = (whole(self.value(from)?)?, whole(self.value(to)?)?);
        if to.checked_sub(from)? > 1000 {
            return None;
        }
        let key = (variable.clone(), *real);
        let outside = self.symbols.remove(&key);
        let mut total = Value::int(i64::from(name == "product"));
        for n in from..=to {
            self.symbols.insert(key.clone(), Value::int(n));
            let value = self.value(body)?;
            total = if name == "product" {
                total.mul(&value)
            } else {
                total.add(&value)
            };
        }
        self.symbols.remove(&key);
        self.symbols.extend(outside.map(|outside| (key, outside)));
        Some(total)
    }

    fn function(&mut self, name: &str, arguments: &[Expr]) -> Option<Value> {
        let values = arguments
            .iter()
            .map(|argument| self.value(argument))
            .collect::<Option<Vec<_>>>()?;
        if is_known(name) {
            return functions::value(name, &values);
        }
        // An unknown function has an arbitrary value, equal for equal arguments.
        let shown: Vec<String> = values
            .iter()
            .map(|value| {
                let (re, im) = value.parts();
                format!("{re:.9e},{im:.9e}")
            })
            .collect();
        let key = format!("{name}({})", shown.join(";"));
        let attempt = self.attempt;
        Some(
            self.unknown
                .entry(key.clone())
                .or_insert_with(|| some_number(&key, attempt))
                .clone(),
        )
    }
}

/// Converts a decimal number as the graders do: to a double, or exactly if it has more digits than a double.
fn double(value: &BigRational) -> Value {
    const DIGITS: u64 = 50;
    if value.numer().bits() > DIGITS {
        Value::Rational(value.clone())
    } else {
        Value::Float(super::value::float(value))
    }
}

fn is_known(name: &str) -> bool {
    const KNOWN: [&str; 31] = [
        "log",
        "exp",
        "Abs",
        "conjugate",
        "floor",
        "ceiling",
        "factorial",
        "binomial",
        "Mod",
        "gcd",
        "lcm",
        "Max",
        "Min",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "sinh",
        "cosh",
        "tanh",
        "asin",
        "acos",
        "atan",
        "acot",
        "asec",
        "acsc",
        "asinh",
        "acosh",
        "atanh",
    ];
    KNOWN.contains(&name)
}

/// Returns a pseudo-random fraction between −4 and 4 that depends only on name and attempt.
fn some_number(name: &str, attempt: usize) -> Value {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325 ^ (attempt as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for byte in name.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 31;
    state = state.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    state ^= state >> 29;
    let numerator = (state % 4001) as i64 - 2000;
    let numerator = if numerator == 0 { 613 } else { numerator };
    Value::Rational(BigRational::new(BigInt::from(numerator), BigInt::from(503)))
}
