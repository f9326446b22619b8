//! Equality of two answers, as decided by math-verify.
//!
//! Source: math-verify 0.8.0 `verify`, strict, floats to six places. The first argument is the reference; the relation
//! is not symmetric.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::extract::{ExtractedAnswer, answers};
use super::sets;
use crate::algebra::extended::is_only_symbols;
use crate::algebra::{Expr, Named, RelationKind, Value, is_zero, value_of};

/// Whether any answer extracted from the prediction equals any extracted from the reference.
pub fn verified(gold: &str, prediction: &str) -> bool {
    let (golds, predictions) = (answers(gold), answers(prediction));
    golds.iter().any(|gold| {
        predictions.iter().any(|prediction| match (gold, prediction) {
            (ExtractedAnswer::Expr(gold), ExtractedAnswer::Expr(prediction)) => same(gold, prediction),
            (ExtractedAnswer::Text(gold), ExtractedAnswer::Text(prediction)) => {
                !gold.trim().is_empty() && gold.trim() == prediction.trim()
            }
            _ => false,
        })
    })
}

/// math-verify's `sympy_expr_eq`.
pub fn same(gold: &Expr, prediction: &Expr) -> bool {
    let (gold_assigns, predicted_assigns) = (is_assignment(gold), is_assignment(prediction));
    let (gold_is_equation, predicted_is_equation) = (is_equation(gold), is_equation(prediction));
    let mut gold = if gold_assigns {
        shortened(gold)
    } else {
        gold.clone()
    };
    let mut prediction = if predicted_assigns {
        shortened(prediction)
    } else {
        prediction.clone()
    };
    if predicted_is_equation && !gold_is_equation {
        prediction = last_side(&prediction);
    } else if gold_assigns && !predicted_is_equation {
        gold = last_side(&gold);
    }
    if is_relation(&gold)
        && prediction.is_set()
        && let Some(set) = sets::solutions(&gold)
    {
        gold = set;
    }
    if is_undefined(&gold) {
        return false;
    }
    if gold == prediction {
        return true;
    }
    let is_collection = |expr: &Expr| expr.is_set() || matches!(expr, Expr::Tuple(_));
    if is_relation(&gold) && is_relation(&prediction) {
        return same_relation(&gold, &prediction);
    }
    if is_collection(&gold) || is_collection(&prediction) {
        return sets::same_sets(&gold, &prediction, same);
    }
    if matches!(gold, Expr::Symbol(..)) || matches!(prediction, Expr::Symbol(..)) {
        return same_symbols(&gold, &prediction);
    }
    same_numbers(&gold, &prediction)
}

fn is_relation(expr: &Expr) -> bool {
    matches!(expr, Expr::Relation(..) | Expr::And(_))
}

fn is_equation(expr: &Expr) -> bool {
    match expr {
        Expr::Relation(kind, ..) => *kind == RelationKind::Equal,
        Expr::And(parts) => parts.iter().all(is_equation),
        _ => false,
    }
}

fn is_assignment(expr: &Expr) -> bool {
    match expr {
        Expr::Relation(RelationKind::Equal, left, _) => is_only_symbols(left),
        Expr::And(parts) => is_equation(expr) && parts.first().is_some_and(is_assignment),
        _ => false,
    }
}

/// Reduces a chain of equations to its first left side and its last right side.
fn shortened(expr: &Expr) -> Expr {
    match expr {
        Expr::And(parts) => match (parts.first(), parts.last()) {
            (Some(Expr::Relation(_, left, _)), Some(Expr::Relation(_, _, right))) => {
                Expr::Relation(RelationKind::Equal, left.clone(), right.clone())
            }
            _ => expr.clone(),
        },
        other => other.clone(),
    }
}

fn last_side(expr: &Expr) -> Expr {
    match expr {
        Expr::Relation(_, _, right) => (**right).clone(),
        Expr::And(parts) => parts.last().map_or_else(|| expr.clone(), last_side),
        other => other.clone(),
    }
}

/// Whether sympy evaluates this to NaN or complex infinity when it builds it.
fn is_undefined(expr: &Expr) -> bool {
    match expr {
        Expr::Mul(parts) => parts.iter().any(|part| matches!(part, Expr::Pow(base, exponent) if **base == Expr::int(0) && **exponent == Expr::int(-1))),
        _ => false,
    }
}

fn same_relation(gold: &Expr, prediction: &Expr) -> bool {
    match (gold, prediction) {
        (Expr::And(golds), Expr::And(predictions)) => {
            golds.len() == predictions.len()
                && golds
                    .iter()
                    .zip(predictions)
                    .all(|(gold, prediction)| same_relation(gold, prediction))
        }
        (Expr::Relation(gold_kind, a, b), Expr::Relation(kind, c, d)) => {
            let difference = |a: &Expr, b: &Expr| a.clone().minus(b.clone());
            let is_plain = [a, b, c, d].iter().all(|side| {
                !side.is_set() && !matches!(***side, Expr::Tuple(_) | Expr::Relation(..) | Expr::And(_))
            });
            if !is_plain {
                return gold_kind == kind && a == c && sets::identical(b, d);
            }
            (gold_kind == kind && same(&difference(a, b), &difference(c, d)))
                || (gold_kind.flipped() == Some(*kind) && same(&difference(a, b), &difference(d, c)))
                || (*gold_kind == RelationKind::Equal
                    && *kind == RelationKind::Equal
                    && are_proportional(&difference(a, b), &difference(c, d)))
        }
        _ => false,
    }
}

/// Whether the two equations' differences of sides are constant multiples of each other, so that their solutions agree.
fn are_proportional(a: &Expr, b: &Expr) -> bool {
    let symbols = a.symbols();
    if symbols.is_empty() || symbols.len() != b.symbols().len() {
        return false;
    }
    [2, 3, 5, 7, 11].iter().any(|n| {
        let at =
            |expr: &Expr| value_of(&substituted(expr, &symbols, *n)).filter(|value| value.size() > 1e-12);
        let (Some(x), Some(y)) = (at(a), at(b)) else {
            return false;
        };
        let exact = |value: Value| match value {
            Value::Rational(value) => Some(value),
            Value::Float(value) => BigRational::from_float(value),
            Value::Complex(..) => None,
        };
        let (Some(x), Some(y)) = (exact(x), exact(y)) else {
            return false;
        };
        let left = Expr::Mul(vec![a.clone(), Expr::Rational(y)]);
        is_zero(&left.minus(Expr::Mul(vec![b.clone(), Expr::Rational(x)]))) == Some(true)
    })
}

fn substituted(expr: &Expr, symbols: &[(String, bool)], start: i64) -> Expr {
    let all = |parts: &[Expr]| {
        parts
            .iter()
            .map(|part| substituted(part, symbols, start))
            .collect()
    };
    match expr {
        Expr::Symbol(name, real) => {
            let place = symbols
                .iter()
                .position(|symbol| symbol.0 == *name && symbol.1 == *real);
            place.map_or_else(|| expr.clone(), |place| Expr::int(start + 13 * place as i64))
        }
        Expr::Add(parts) => Expr::Add(all(parts)),
        Expr::Mul(parts) => Expr::Mul(all(parts)),
        Expr::Function(name, parts) => Expr::Function(name.clone(), all(parts)),
        Expr::Pow(base, exponent) => {
            substituted(base, symbols, start).power(substituted(exponent, symbols, start))
        }
        other => other.clone(),
    }
}

/// Compares a symbol with e, with a product of symbols that spells it, or with a symbol.
fn same_symbols(gold: &Expr, prediction: &Expr) -> bool {
    let spelled = |parts: &[Expr]| {
        parts
            .iter()
            .map(|part| match part {
                Expr::Symbol(name, _) => Some(name.as_str()),
                Expr::Named(Named::E) => Some("e"),
                _ => None,
            })
            .collect::<Option<String>>()
    };
    match (gold, prediction) {
        (Expr::Symbol(name, _), Expr::Named(Named::E)) | (Expr::Named(Named::E), Expr::Symbol(name, _)) => {
            name.eq_ignore_ascii_case("e")
        }
        (Expr::Symbol(name, _), Expr::Mul(parts)) | (Expr::Mul(parts), Expr::Symbol(name, _)) => {
            spelled(parts).is_some_and(|spelled| spelled.to_lowercase() == name.to_lowercase())
        }
        // A number inside text is a symbol named by its digits; it is compared as printed.
        (Expr::Symbol(name, _), Expr::Rational(value)) | (Expr::Rational(value), Expr::Symbol(name, _)) => {
            *name == value.to_string()
        }
        (Expr::Symbol(a, _), Expr::Symbol(b, _)) => {
            let plain = |name: &str| {
                if name.chars().count() > 1 {
                    name.to_lowercase()
                } else {
                    name.to_owned()
                }
            };
            plain(a) == plain(b)
        }
        _ => false,
    }
}

/// Compares numbers, expressions and matrices: floats to six places, others exactly.
fn same_numbers(gold: &Expr, prediction: &Expr) -> bool {
    if let (Expr::Matrix(a), Expr::Matrix(b)) = (gold, prediction) {
        let is_shape_same = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.len() == b.len());
        return is_shape_same
            && a.iter()
                .flatten()
                .zip(b.iter().flatten())
                .all(|(a, b)| same_numbers(a, b));
    }
    if matches!(gold, Expr::Matrix(_)) || matches!(prediction, Expr::Matrix(_)) {
        return false;
    }
    let is_infinite = |expr: &Expr| {
        *expr == Expr::Named(Named::Infinity) || *expr == Expr::Named(Named::Infinity).negated()
    };
    if is_infinite(gold) || is_infinite(prediction) {
        return infinity(gold).is_some() && infinity(gold) == infinity(prediction);
    }
    if (is_float(gold) || is_float(prediction))
        && let (Some(a), Some(b)) = (value_of(gold), value_of(prediction))
        && is_whole(&a) == is_whole(&b)
        && rounded(&a) == rounded(&b)
    {
        return true;
    }
    is_zero(&gold.clone().minus(prediction.clone())) == Some(true)
}

/// Returns the sign of an expression that sympy evaluates to plus or minus infinity; `None` for any other.
fn infinity(expr: &Expr) -> Option<bool> {
    let number = |expr: &Expr| value_of(expr)?.real();
    match expr {
        Expr::Named(Named::Infinity) => Some(true),
        Expr::Add(terms) => {
            let signs: Vec<bool> = terms.iter().filter_map(infinity).collect();
            let is_rest_finite = terms
                .iter()
                .all(|term| infinity(term).is_some() || number(term).is_some());
            (is_rest_finite && signs.windows(2).all(|pair| pair[0] == pair[1]))
                .then(|| signs.first().copied())
                .flatten()
        }
        Expr::Mul(factors) => {
            let signs: Vec<bool> = factors.iter().filter_map(infinity).collect();
            let others = factors.iter().filter(|factor| infinity(factor).is_none());
            let product: f64 = others.map(number).collect::<Option<Vec<f64>>>()?.iter().product();
            let is_positive = signs.iter().filter(|sign| !**sign).count() % 2 == usize::from(product < 0.0);
            (!signs.is_empty() && product != 0.0).then_some(is_positive)
        }
        Expr::Pow(base, exponent) => (infinity(base)? && number(exponent)? > 0.0).then_some(true),
        _ => None,
    }
}

/// Whether this is a decimal number, alone or as a percentage.
fn is_float(expr: &Expr) -> bool {
    match expr {
        Expr::Float(_) => true,
        Expr::Mul(parts) => matches!(&parts[..], [Expr::Float(_), hundredth] if hundredth.is_hundredth()),
        _ => false,
    }
}

/// Whether this is an integer. Rounding keeps an integer, and in sympy no float equals it.
fn is_whole(value: &Value) -> bool {
    matches!(value, Value::Rational(value) if value.is_integer())
}

/// Rounds the real and imaginary part to six places; the result is in millionths.
fn rounded(value: &Value) -> (BigInt, BigInt) {
    let million = BigRational::from_integer(BigInt::from(1_000_000));
    let half_even = |value: BigRational| {
        let scaled = value * &million;
        let floor = scaled.floor();
        let rest = &scaled - &floor;
        let half = BigRational::new(BigInt::from(1), BigInt::from(2));
        let is_odd = floor.to_integer() % BigInt::from(2) != BigInt::from(0);
        let up = rest > half || (rest == half && is_odd);
        floor.to_integer() + BigInt::from(i32::from(up))
    };
    match value {
        Value::Rational(value) => (half_even(value.clone()), BigInt::from(0)),
        Value::Float(value) => (
            BigRational::from_float(*value).map_or_else(|| BigInt::from(0), half_even),
            BigInt::from(0),
        ),
        Value::Complex(re, im) => {
            let part = |float: f64| BigRational::from_float(float).map_or_else(|| BigInt::from(0), half_even);
            (part(*re), part(*im))
        }
    }
}
