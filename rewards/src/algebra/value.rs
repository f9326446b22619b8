//! Numeric values: exact fractions as long as possible, then doubles, then complex doubles.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// A numeric value.
#[derive(Debug, Clone)]
pub enum Value {
    /// An exact fraction.
    Rational(BigRational),
    /// A double that was written with a decimal point or computed from one; its arithmetic rounds as in the graders.
    Float(f64),
    /// The real and imaginary part.
    Complex(f64, f64),
}

/// The most bits of an exact power.
const LARGEST: u64 = 200_000;

impl Value {
    /// Makes an integer.
    pub fn int(value: i64) -> Self {
        Self::Rational(BigRational::from_integer(BigInt::from(value)))
    }

    /// Returns the real and imaginary part as floats.
    pub fn parts(&self) -> (f64, f64) {
        match self {
            Self::Rational(value) => (float(value), 0.0),
            Self::Float(value) => (*value, 0.0),
            Self::Complex(re, im) => (*re, *im),
        }
    }

    /// Returns the real part if the imaginary part is negligible.
    pub fn real(&self) -> Option<f64> {
        let (re, im) = self.parts();
        (im.abs() <= 1e-13 * re.abs().max(1.0)).then_some(re)
    }

    /// Returns the absolute value.
    pub fn size(&self) -> f64 {
        let (re, im) = self.parts();
        re.hypot(im)
    }

    /// Adds two values.
    pub fn add(&self, other: &Self) -> Self {
        if let (Self::Rational(a), Self::Rational(b)) = (self, other) {
            return Self::Rational(a + b);
        }
        if let Some((a, b)) = self.doubles(other) {
            return Self::Float(a + b);
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        Self::Complex(a + c, b + d)
    }

    /// Multiplies two values.
    pub fn mul(&self, other: &Self) -> Self {
        if let (Self::Rational(a), Self::Rational(b)) = (self, other) {
            return Self::Rational(a * b);
        }
        if let Some((a, b)) = self.doubles(other) {
            return Self::Float(a * b);
        }
        let ((a, b), (c, d)) = (self.parts(), other.parts());
        Self::Complex(a * c - b * d, a * d + b * c)
    }

    /// Returns both as doubles, if one is a double and neither is complex.
    fn doubles(&self, other: &Self) -> Option<(f64, f64)> {
        match (self, other) {
            (Self::Complex(..), _) | (_, Self::Complex(..)) | (Self::Rational(_), Self::Rational(_)) => None,
            (a, b) => Some((a.parts().0, b.parts().0)),
        }
    }

    /// Computes a power; `None` if it is undefined or too large.
    pub fn pow(&self, exponent: &Self) -> Option<Self> {
        if let (Self::Rational(base), Self::Rational(exponent)) = (self, exponent) {
            if exponent.is_integer() {
                return whole_power(base, exponent);
            }
            if let Some(root) = exact_root(base, exponent) {
                return Some(Self::Rational(root));
            }
        }
        if let Some((base, exponent)) = self.doubles(exponent)
            && (base > 0.0 || exponent.fract() == 0.0)
        {
            let power = base.powf(exponent);
            return power.is_finite().then_some(Self::Float(power));
        }
        let (re, im) = self.parts();
        if re == 0.0 && im == 0.0 {
            return (exponent.real()? > 0.0).then(|| Self::int(0));
        }
        if let Self::Rational(whole) = exponent
            && whole.is_integer()
            && let Some(n) = whole.to_integer().to_i32().filter(|n| n.abs() <= 64)
        {
            return Some(repeated(self, n));
        }
        exponent.mul(&self.ln()?).exp()
    }

    /// Computes the principal natural logarithm.
    pub fn ln(&self) -> Option<Self> {
        if let Self::Rational(value) = self {
            if value.is_one() {
                return Some(Self::int(0));
            }
            if value.is_positive() {
                return Some(Self::Complex(
                    logarithm(value.numer()) - logarithm(value.denom()),
                    0.0,
                ));
            }
        }
        let (re, im) = self.parts();
        let size = re.hypot(im);
        (size > 0.0).then(|| Self::Complex(size.ln(), im.atan2(re)))
    }

    /// Computes the exponential.
    pub fn exp(&self) -> Option<Self> {
        if matches!(self, Self::Rational(value) if value.is_zero()) {
            return Some(Self::int(1));
        }
        let (re, im) = self.parts();
        let size = re.exp();
        let value = Self::Complex(size * im.cos(), size * im.sin());
        size.is_finite().then_some(value)
    }
}

/// Converts a fraction to a float, even if numerator and denominator exceed the range of floats.
pub fn float(value: &BigRational) -> f64 {
    value
        .to_f64()
        .filter(|float| float.is_finite() && (*float != 0.0 || value.is_zero()))
        .unwrap_or_else(|| {
            let size = (logarithm(&value.numer().abs()) - logarithm(value.denom())).exp();
            if value.is_negative() { -size } else { size }
        })
}

fn logarithm(value: &BigInt) -> f64 {
    let shift = value.bits().saturating_sub(1000);
    let head = (value >> shift).to_f64().unwrap_or(f64::MAX);
    head.ln() + shift as f64 * std::f64::consts::LN_2
}

fn whole_power(base: &BigRational, exponent: &BigRational) -> Option<Value> {
    let n = exponent.to_integer().to_i64()?;
    if base.is_zero() && n < 0 {
        return None;
    }
    if base.is_one() || n == 0 {
        return Some(Value::int(1));
    }
    let bits = base.numer().bits().max(base.denom().bits());
    if bits.checked_mul(n.unsigned_abs())? > LARGEST {
        return None;
    }
    Some(Value::Rational(base.pow(i32::try_from(n).ok()?)))
}

/// Computes a root that is a fraction itself; the base must not be negative.
fn exact_root(base: &BigRational, exponent: &BigRational) -> Option<BigRational> {
    let degree = exponent.denom().to_u32().filter(|degree| *degree <= 64)?;
    if base.is_negative() {
        return None;
    }
    let root = |value: &BigInt| {
        let root = value.nth_root(degree);
        (root.pow(degree) == *value).then_some(root)
    };
    let root = BigRational::new(root(base.numer())?, root(base.denom())?);
    match whole_power(&root, &BigRational::from_integer(exponent.numer().clone()))? {
        Value::Rational(value) => Some(value),
        Value::Float(_) | Value::Complex(..) => None,
    }
}

fn repeated(base: &Value, n: i32) -> Value {
    let mut value = Value::int(1);
    for _ in 0..n.unsigned_abs() {
        value = value.mul(base);
    }
    if n >= 0 {
        return value;
    }
    let (re, im) = value.parts();
    let square = re * re + im * im;
    Value::Complex(re / square, -im / square)
}
