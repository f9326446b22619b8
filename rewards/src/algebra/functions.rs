//! The numeric functions: roots, logarithms, trigonometry, number theory.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

use super::value::Value;

/// The largest number whose factorial is computed.
const LARGEST: u64 = 3000;

/// Computes a function by name; `None` if it is undefined here or unknown.
pub fn value(name: &str, arguments: &[Value]) -> Option<Value> {
    match (name, arguments) {
        ("log", [x]) => x.ln(),
        ("log", [x, base]) => quotient(&x.ln()?, &base.ln()?),
        ("exp", [x]) => x.exp(),
        ("Abs", [Value::Rational(x)]) => Some(Value::Rational(x.abs())),
        ("Abs", [x]) => Some(Value::Complex(x.size(), 0.0)),
        ("conjugate", [Value::Complex(re, im)]) => Some(Value::Complex(*re, -im)),
        ("conjugate", [x]) => Some(x.clone()),
        ("floor", [x]) => whole(x, f64::floor, BigRational::floor),
        ("ceiling", [x]) => whole(x, f64::ceil, BigRational::ceil),
        ("factorial", [x]) => factorial(x),
        ("binomial", [n, k]) => binomial(n, k),
        ("Mod", [Value::Rational(a), Value::Rational(b)]) if !b.is_zero() => {
            Some(Value::Rational(a - b * (a / b).floor()))
        }
        ("gcd" | "lcm", numbers) => common(name, numbers),
        ("Max", numbers) => numbers
            .iter()
            .filter(|x| x.real().is_some())
            .reduce(|a, b| if less(a, b) { b } else { a })
            .cloned(),
        ("Min", numbers) => numbers
            .iter()
            .filter(|x| x.real().is_some())
            .reduce(|a, b| if less(b, a) { b } else { a })
            .cloned(),
        (name, [x]) => trigonometric(name, x),
        _ => None,
    }
}

fn less(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Rational(a), Value::Rational(b)) => a < b,
        (a, b) => a.parts().0 < b.parts().0,
    }
}

fn quotient(a: &Value, b: &Value) -> Option<Value> {
    Some(a.mul(&b.pow(&Value::int(-1))?))
}

fn whole(x: &Value, float: fn(f64) -> f64, exact: fn(&BigRational) -> BigRational) -> Option<Value> {
    match x {
        Value::Rational(value) => Some(Value::Rational(exact(value))),
        other => Some(Value::Complex(float(other.real()?), 0.0)),
    }
}

/// Computes n!, or Γ(x + 1) if x is not a natural number.
fn factorial(x: &Value) -> Option<Value> {
    let Some(n) = natural(x) else {
        let x = x.real().filter(|x| x.fract() != 0.0 && x.abs() < 150.0)?;
        return Some(Value::Complex(gamma(x + 1.0), 0.0));
    };
    let product = (1..=n).fold(BigInt::one(), |product, factor| product * factor);
    Some(Value::Rational(BigRational::from_integer(product)))
}

/// Computes Γ by Lanczos' sum of nine terms (g = 7), accurate to about fourteen digits.
fn gamma(x: f64) -> f64 {
    use std::f64::consts::PI;
    #[rustfmt::skip]
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9, 676.520_368_121_885_1, -1_259.139_216_722_402_8, 771.323_428_777_653_1, -176.615_029_162_140_6, 12.507_343_278_686_905,
        -0.138_571_095_265_720_12, 9.984_369_578_019_572e-6, 1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return PI / ((PI * x).sin() * gamma(1.0 - x));
    }
    let x = x - 1.0;
    let sum = TERMS
        .iter()
        .enumerate()
        .skip(1)
        .fold(TERMS[0], |sum, (i, term)| sum + term / (x + i as f64));
    let t = x + 7.5;
    (2.0 * PI).sqrt() * t.powf(x + 0.5) * (-t).exp() * sum
}

fn natural(x: &Value) -> Option<u64> {
    match x {
        Value::Rational(value) if value.is_integer() && !value.is_negative() => {
            value.to_integer().to_u64().filter(|n| *n <= LARGEST)
        }
        _ => None,
    }
}

fn binomial(n: &Value, k: &Value) -> Option<Value> {
    let Some(k) = natural(k) else {
        let below = factorial(k)?.mul(&factorial(&n.add(&k.mul(&Value::int(-1))))?);
        return quotient(&factorial(n)?, &below);
    };
    let mut result = Value::int(1);
    for i in 0..k {
        let factor = n.add(&Value::int(-i64::try_from(i).ok()?));
        result = quotient(&result.mul(&factor), &Value::int(i64::try_from(i + 1).ok()?))?;
    }
    Some(result)
}

fn common(name: &str, numbers: &[Value]) -> Option<Value> {
    let mut whole = numbers.iter().map(|number| match number {
        Value::Rational(value) if value.is_integer() => Some(value.to_integer()),
        _ => None,
    });
    let first = whole.next()??;
    let result = whole.try_fold(first, |a, b| {
        Some(if name == "gcd" { a.gcd(&b?) } else { a.lcm(&b?) })
    })?;
    Some(Value::Rational(BigRational::from_integer(result)))
}

/// Computes trigonometric and hyperbolic functions and their inverses. Sine, cosine and functions derived from them
/// accept complex arguments.
fn trigonometric(name: &str, x: &Value) -> Option<Value> {
    let (re, im) = x.parts();
    if matches!(x, Value::Rational(x) if x.is_zero()) {
        match name {
            "sin" | "tan" | "sinh" | "tanh" | "asin" | "atan" | "asinh" | "atanh" => {
                return Some(Value::int(0));
            }
            "cos" | "cosh" | "sec" => return Some(Value::int(1)),
            "cot" | "csc" | "acsc" | "asec" => return None,
            _ => {}
        }
    }
    let sine = Value::Complex(re.sin() * im.cosh(), re.cos() * im.sinh());
    let cosine = Value::Complex(re.cos() * im.cosh(), -re.sin() * im.sinh());
    let hyperbolic_sine = Value::Complex(re.sinh() * im.cos(), re.cosh() * im.sin());
    let hyperbolic_cosine = Value::Complex(re.cosh() * im.cos(), re.sinh() * im.sin());
    let inverse = |value: f64| value.is_finite().then_some(Value::Complex(value, 0.0));
    match name {
        "sin" => Some(sine),
        "cos" => Some(cosine),
        "tan" => divided(&sine, &cosine),
        "cot" => divided(&cosine, &sine),
        "sec" => divided(&Value::int(1), &cosine),
        "csc" => divided(&Value::int(1), &sine),
        "sinh" => Some(hyperbolic_sine),
        "cosh" => Some(hyperbolic_cosine),
        "tanh" => divided(&hyperbolic_sine, &hyperbolic_cosine),
        _ => {
            let x = x.real()?;
            match name {
                "asin" => inverse(x.asin()),
                "acos" => inverse(x.acos()),
                "atan" => inverse(x.atan()),
                "acot" => inverse((1.0 / x).atan()),
                "asec" => inverse((1.0 / x).acos()),
                "acsc" => inverse((1.0 / x).asin()),
                "asinh" => inverse(x.asinh()),
                "acosh" => inverse(x.acosh()),
                "atanh" => inverse(x.atanh()),
                _ => None,
            }
        }
    }
}

fn divided(a: &Value, b: &Value) -> Option<Value> {
    if b.size() < 1e-14 { None } else { quotient(a, b) }
}
