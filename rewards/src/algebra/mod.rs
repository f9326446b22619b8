//! A small exact computer algebra, as far as the graders of mathematics need one.
//!
//! Expressions keep their written form ([`Expr`]). Two expressions are equal if their difference is zero at rational
//! points ([`is_zero`]). The values are exact fractions until something irrational takes part, then complex floats. For
//! rational functions, the test is exact up to the chance of hitting a root at every one of several points. Sets,
//! intervals, tuples, matrices and relations are data; the graders decide when they are equal. No crate offers this
//! under a free licence; numbers are `num-bigint`'s and `num-rational`'s.

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
