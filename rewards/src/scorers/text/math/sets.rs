//! Comparison of sets, intervals and tuples, and the solution sets of inequalities.

use crate::algebra::{Expr, Named, RelationKind, value_of};

/// The comparison of two elements. The verifier passes it in, because it in turn compares sets by this module.
pub type Same = fn(&Expr, &Expr) -> bool;

/// math-verify's `sympy_compare_sets`.
pub fn same_sets(gold: &Expr, prediction: &Expr, same: Same) -> bool {
    let as_collection = |expr: &Expr| {
        if expr.is_set() || matches!(expr, Expr::Tuple(_)) {
            expr.clone()
        } else {
            Expr::Set(vec![expr.clone()])
        }
    };
    let (gold, prediction) = (as_collection(gold), as_collection(prediction));
    if let (Expr::Interval(a, b, a_open, b_open), Expr::Interval(c, d, c_open, d_open)) = (&gold, &prediction)
    {
        return a_open == c_open && b_open == d_open && same(a, c) && same(b, d);
    }
    if gold == prediction {
        return true;
    }
    if gold.is_set()
        && prediction.is_set()
        && let (Some(a), Some(b)) = (pieces(&gold), pieces(&prediction))
        && a.len() == b.len()
        && a.iter().zip(&b).all(|(a, b)| a.is_near(b))
    {
        return true;
    }
    match (&gold, &prediction) {
        (Expr::Set(golds), Expr::Set(predictions)) => {
            unordered(&distinct(golds), &distinct(predictions), same)
        }
        (Expr::Tuple(golds), Expr::Set(predictions)) => {
            distinct(predictions).len() == predictions.len() && ordered(golds, predictions, same)
        }
        (Expr::Set(golds), Expr::Tuple(predictions)) => unordered(&distinct(golds), predictions, same),
        (Expr::Tuple(golds), Expr::Tuple(predictions)) => ordered(golds, predictions, same),
        // (1, 2) parses as an open interval, but may mean two numbers.
        (Expr::Interval(a, b, true, true), Expr::Set(others)) => {
            others.len() == 2 && ordered(&[(**a).clone(), (**b).clone()], others, same)
        }
        (Expr::Interval(a, b, true, true), Expr::Tuple(others)) => {
            ordered(&[(**a).clone(), (**b).clone()], others, same)
        }
        (Expr::Set(others), Expr::Interval(a, b, true, true)) => {
            others.len() == 2 && unordered(others, &[(**a).clone(), (**b).clone()], same)
        }
        (Expr::Tuple(others), Expr::Interval(a, b, true, true)) => {
            ordered(others, &[(**a).clone(), (**b).clone()], same)
        }
        (Expr::Union(a, b), Expr::Union(c, d)) | (Expr::Intersection(a, b), Expr::Intersection(c, d)) => {
            (same_sets(a, c, same) && same_sets(b, d, same))
                || (same_sets(a, d, same) && same_sets(b, c, same))
        }
        (Expr::Complement(a, b), Expr::Complement(c, d)) => same_sets(a, c, same) && same_sets(b, d, same),
        _ => false,
    }
}

/// Whether two expressions are identical as in sympy: sets in any order, everything else as written.
pub fn identical(a: &Expr, b: &Expr) -> bool {
    match (a, b) {
        (Expr::Set(a), Expr::Set(b)) => {
            let (a, b) = (distinct(a), distinct(b));
            a.len() == b.len()
                && a.iter()
                    .all(|element| b.iter().any(|other| identical(element, other)))
        }
        (Expr::Union(a, b), Expr::Union(c, d)) => {
            (identical(a, c) && identical(b, d)) || (identical(a, d) && identical(b, c))
        }
        (a, b) => a == b,
    }
}

fn ordered(golds: &[Expr], predictions: &[Expr], same: Same) -> bool {
    golds.len() == predictions.len()
        && golds
            .iter()
            .zip(predictions)
            .all(|(gold, prediction)| same(gold, prediction))
}

/// Whether every reference element matches a different predicted element.
fn unordered(golds: &[Expr], predictions: &[Expr], same: Same) -> bool {
    if golds.len() != predictions.len() {
        return false;
    }
    let mut left: Vec<&Expr> = predictions.iter().collect();
    golds.iter().all(|gold| {
        let place = left.iter().position(|prediction| same(gold, prediction));
        place.map(|place| left.swap_remove(place)).is_some()
    })
}

fn distinct(elements: &[Expr]) -> Vec<Expr> {
    let mut seen: Vec<Expr> = Vec::new();
    for element in elements {
        if !seen.contains(element) {
            seen.push(element.clone());
        }
    }
    seen
}

/// An interval of the number line: its ends, and whether they are open.
#[derive(Debug, Clone, Copy)]
struct NumberInterval {
    from: f64,
    to: f64,
    from_open: bool,
    to_open: bool,
}

impl NumberInterval {
    fn is_near(&self, other: &Self) -> bool {
        let near = |a: f64, b: f64| a == b || (a - b).abs() <= 1e-12 * a.abs().max(1.0);
        near(self.from, other.from)
            && near(self.to, other.to)
            && self.from_open == other.from_open
            && self.to_open == other.to_open
    }

    fn point(at: f64) -> Self {
        Self {
            from: at,
            to: at,
            from_open: false,
            to_open: false,
        }
    }
}

fn end(expr: &Expr) -> Option<f64> {
    match expr {
        Expr::Named(Named::Infinity) => Some(f64::INFINITY),
        Expr::Mul(parts) if parts.contains(&Expr::Named(Named::Infinity)) => {
            let others: Vec<f64> = parts
                .iter()
                .filter(|part| **part != Expr::Named(Named::Infinity))
                .map(|part| value_of(part)?.real())
                .collect::<Option<_>>()?;
            Some(f64::INFINITY * others.iter().product::<f64>())
        }
        other => value_of(other)?.real(),
    }
}

/// Returns a set of real numbers as disjoint intervals from left to right; `None` for other sets.
fn pieces(set: &Expr) -> Option<Vec<NumberInterval>> {
    let joined = match set {
        Expr::Interval(from, to, from_open, to_open) => {
            let (from, to) = (end(from)?, end(to)?);
            vec![NumberInterval {
                from,
                to,
                from_open: *from_open || from.is_infinite(),
                to_open: *to_open || to.is_infinite(),
            }]
        }
        Expr::Named(Named::Empty) => Vec::new(),
        Expr::Named(Named::Numbers('R')) => vec![NumberInterval {
            from: f64::NEG_INFINITY,
            to: f64::INFINITY,
            from_open: true,
            to_open: true,
        }],
        Expr::Set(elements) => elements
            .iter()
            .map(|element| Some(NumberInterval::point(end(element)?)))
            .collect::<Option<Vec<_>>>()?,
        Expr::Union(a, b) => pieces(a)?.into_iter().chain(pieces(b)?).collect(),
        Expr::Intersection(a, b) => complement(&merged(
            complement(&pieces(a)?)
                .into_iter()
                .chain(complement(&pieces(b)?))
                .collect(),
        )),
        Expr::Complement(a, b) => {
            let outside = complement(&pieces(b)?);
            let (a, outside) = (complement(&pieces(a)?), complement(&outside));
            complement(&merged(a.into_iter().chain(outside).collect()))
        }
        _ => return None,
    };
    Some(merged(joined))
}

fn merged(mut pieces: Vec<NumberInterval>) -> Vec<NumberInterval> {
    pieces.sort_by(|a, b| a.from.total_cmp(&b.from).then(a.from_open.cmp(&b.from_open)));
    let mut merged: Vec<NumberInterval> = Vec::new();
    for piece in pieces {
        match merged.last_mut() {
            Some(last)
                if piece.from < last.to || (piece.from == last.to && !(piece.from_open && last.to_open)) =>
            {
                if piece.to > last.to {
                    (last.to, last.to_open) = (piece.to, piece.to_open);
                } else if piece.to == last.to {
                    last.to_open &= piece.to_open;
                }
            }
            _ => merged.push(piece),
        }
    }
    merged
}

/// Returns the gaps between these intervals.
fn complement(pieces: &[NumberInterval]) -> Vec<NumberInterval> {
    let mut from = (f64::NEG_INFINITY, true);
    let mut gaps = Vec::new();
    for piece in pieces {
        if piece.from > from.0 || (piece.from == from.0 && !from.1 && piece.from_open) {
            gaps.push(NumberInterval {
                from: from.0,
                to: piece.from,
                from_open: from.1,
                to_open: !piece.from_open,
            });
        }
        from = (piece.to, !piece.to_open);
    }
    if from.0 < f64::INFINITY {
        gaps.push(NumberInterval {
            from: from.0,
            to: f64::INFINITY,
            from_open: from.1,
            to_open: true,
        });
    }
    gaps
}

/// Returns the solution set of inequalities between one symbol and numbers, such as `x < 3` or `1 \le x < 2`.
pub fn solutions(relation: &Expr) -> Option<Expr> {
    let infinity = || Expr::Named(Named::Infinity);
    match relation {
        Expr::And(parts) => {
            let mut sets = parts
                .iter()
                .map(solutions)
                .collect::<Option<Vec<_>>>()?
                .into_iter();
            let first = sets.next()?;
            Some(sets.fold(first, |set, other| {
                between(&set, &other)
                    .or_else(|| between(&other, &set))
                    .unwrap_or_else(|| Expr::Intersection(Box::new(set), Box::new(other)))
            }))
        }
        Expr::Relation(kind, left, right) => {
            let (kind, bound) = match (&**left, &**right) {
                (Expr::Symbol(..), bound) if bound.symbols().is_empty() => (*kind, bound.clone()),
                (bound, Expr::Symbol(..)) if bound.symbols().is_empty() => (kind.flipped()?, bound.clone()),
                _ => return None,
            };
            let below = |open: bool| {
                Expr::Interval(
                    Box::new(infinity().negated()),
                    Box::new(bound.clone()),
                    true,
                    open,
                )
            };
            let above =
                |open: bool| Expr::Interval(Box::new(bound.clone()), Box::new(infinity()), open, true);
            Some(match kind {
                RelationKind::Equal => Expr::Set(vec![bound]),
                RelationKind::Unequal => Expr::Union(Box::new(below(true)), Box::new(above(true))),
                RelationKind::Less => below(true),
                RelationKind::LessOrEqual => below(false),
                RelationKind::Greater => above(true),
                RelationKind::GreaterOrEqual => above(false),
            })
        }
        _ => None,
    }
}

/// Returns the interval that a half-line to the right and one to the left have in common.
fn between(above: &Expr, below: &Expr) -> Option<Expr> {
    let infinity = Expr::Named(Named::Infinity);
    match (above, below) {
        (Expr::Interval(from, right, from_open, _), Expr::Interval(left, to, _, to_open))
            if **right == infinity && **left == infinity.clone().negated() && end(from)? < end(to)? =>
        {
            Some(Expr::Interval(from.clone(), to.clone(), *from_open, *to_open))
        }
        _ => None,
    }
}
