//! A small exact computer algebra: what the graders of mathematics need of one.
//!
//! Expressions keep the form in which they were written ([`Expr`]); two are the same if their difference is zero at rational
//! points, computed with whole fractions as long as nothing irrational takes part and with complex floats from there
//! ([`is_zero`]). For rational functions that is exact up to the chance of hitting a root at every one of several points.
//! Sets, intervals, tuples, matrices and relations are data; what makes them equal is decided by those who grade.
//! No crate of the registry does this under a free licence; numbers are `num-bigint`'s and `num-rational`'s.

mod expr;
mod functions;
mod latex;
mod probe;
mod tokens;
mod value;

pub mod extended;

pub use expr::{Expr, Named, RelationKind};
pub use latex::parse_latex;
pub use probe::{is_zero, value_of};
pub use value::Value;
