//! Python's operations on text and numbers, as far as the official scorers depend on them: CPython 3.11's `str`
//! methods, `float()` and `int()` of text, `round`, and the percent format.

/// Whether a character is white space as in `str.isspace`: Unicode's, and the four ASCII separators.
pub fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Implements Python's `str.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Implements Python's `str.lstrip()`.
pub fn strip_start(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

/// Implements Python's `str.split()`: returns the words between white space.
pub fn words(text: &str) -> Vec<&str> {
    text.split(is_space).filter(|word| !word.is_empty()).collect()
}

/// Returns the number of code points, as Python's `len(text)`.
pub fn length(text: &str) -> usize {
    text.chars().count()
}

/// The code point of the digit zero of every script (Unicode 14, as in CPython 3.11).
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50,
    0xed0, 0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40,
    0x1c50, 0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066,
    0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950,
    0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6,
    0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

/// The other characters that `str.isdigit` accepts: superscripts, circled digits and the like.
const OTHER_DIGITS: [(u32, u32); 20] = [
    (0xb2, 0xb3),
    (0xb9, 0xb9),
    (0x1369, 0x1371),
    (0x19da, 0x19da),
    (0x2070, 0x2070),
    (0x2074, 0x2079),
    (0x2080, 0x2089),
    (0x2460, 0x2468),
    (0x2474, 0x247c),
    (0x2488, 0x2490),
    (0x24ea, 0x24ea),
    (0x24f5, 0x24fd),
    (0x24ff, 0x24ff),
    (0x2776, 0x277e),
    (0x2780, 0x2788),
    (0x278a, 0x2792),
    (0x10a40, 0x10a43),
    (0x10e60, 0x10e68),
    (0x11052, 0x1105a),
    (0x1f100, 0x1f10a),
];

/// Returns the value of a decimal digit of any script.
pub fn decimal(c: char) -> Option<u32> {
    let code = c as u32;
    if code < 0x80 {
        return c.to_digit(10);
    }
    let after = ZEROS.partition_point(|zero| *zero <= code);
    let value = code - ZEROS.get(after.checked_sub(1)?)?;
    (value < 10).then_some(value)
}

/// Implements Python's `str.isdigit()`.
pub fn is_digits(text: &str) -> bool {
    let is_digit = |c: char| {
        decimal(c).is_some()
            || OTHER_DIGITS
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&(c as u32)))
    };
    !text.is_empty() && text.chars().all(is_digit)
}

/// Converts digits of any script to ASCII and drops single underscores between digits; `None` for an underscore
/// elsewhere.
fn plain_digits(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut before = None;
    let mut signs = text.chars().peekable();
    while let Some(c) = signs.next() {
        if c == '_' {
            let is_between = before.is_some_and(|b| decimal(b).is_some())
                && signs.peek().is_some_and(|n| decimal(*n).is_some());
            if !is_between {
                return None;
            }
        } else if let Some(value) = decimal(c) {
            plain.push(char::from(b'0' + value as u8));
        } else {
            plain.push(c);
        }
        before = Some(c);
    }
    Some(plain)
}

/// Implements Python's `float(text)`; `None` where it raises ValueError.
pub fn float(text: &str) -> Option<f64> {
    let plain = plain_digits(strip(text))?;
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let lower = unsigned.to_ascii_lowercase();
    let is_word = matches!(lower.as_str(), "inf" | "infinity" | "nan");
    let is_number = unsigned
        .bytes()
        .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && unsigned.bytes().any(|b| b.is_ascii_digit());
    if is_word || is_number {
        plain.parse().ok()
    } else {
        None
    }
}

/// Implements Python's `int(text)` and returns canonical decimal digits; `None` where it raises ValueError.
pub fn int(text: &str) -> Option<String> {
    let plain = plain_digits(strip(text))?;
    let (sign, digits) = match plain.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", plain.strip_prefix('+').unwrap_or(&plain)),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = digits.trim_start_matches('0');
    Some(if digits.is_empty() {
        "0".to_owned()
    } else {
        format!("{sign}{digits}")
    })
}

/// Implements Python's `round(value, places)`: half to even on the exact binary value.
pub fn round(value: f64, places: usize) -> f64 {
    if !value.is_finite() {
        return value;
    }
    format!("{value:.places$}").parse().unwrap_or(value)
}

/// Implements Python's `f"{value:.2%}"`.
pub fn percent(value: f64) -> String {
    format!("{:.2}%", value * 100.0)
}

/// Removes ASCII punctuation, Python's `string.punctuation`.
pub fn without_punctuation(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_punctuation()).collect()
}
