//! JSON as Python reads it. It takes more than JSON: `NaN`, `Infinity`, integers of any length, floats beyond the largest
//! one (infinity), and halves of surrogate pairs.
//!
//! Source: `json.loads` of CPython 3.11. Of a value it keeps what a scorer needs: numbers, and the
//! fields of objects.

use std::collections::BTreeMap;

use num_bigint::BigInt;

/// The most digits of an integer that Python converts.
const MOST_DIGITS: usize = 4300;
/// The deepest nesting: Python allows a thousand calls, of which the script and `json` itself have used some.
const DEEPEST: usize = 993;

/// A value, as far as a scorer reads it.
#[derive(Debug, Clone, PartialEq)]
pub enum PythonValue {
    /// An integer.
    Int(BigInt),
    /// A float, which may be infinite or not a number.
    Float(f64),
    /// A boolean, which is an integer in Python.
    Bool(bool),
    /// A text, a list or null.
    Other,
    /// An object with its fields.
    Object(BTreeMap<String, PythonValue>),
}

/// Why Python does not read a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PythonFault {
    /// `JSONDecodeError`.
    NotJson,
    /// Another exception, by its name: the text is too deep or has too long an integer.
    Exception(&'static str),
}

/// What is read, or why Python does not read it.
type PythonRead<T> = Result<T, PythonFault>;

/// Reads a text that is one value.
///
/// # Errors
/// An error if Python raises an exception.
pub fn loads(text: &str) -> PythonRead<PythonValue> {
    let mut reader = PythonReader { rest: text };
    reader.skip_spaces();
    let value = reader.value(0)?;
    reader.skip_spaces();
    if reader.rest.is_empty() {
        Ok(value)
    } else {
        Err(PythonFault::NotJson)
    }
}

/// What is left of a text.
struct PythonReader<'a> {
    rest: &'a str,
}

impl<'a> PythonReader<'a> {
    fn skip_spaces(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    /// Whether the rest begins with a word, which is then passed.
    fn is_passed(&mut self, word: &str) -> bool {
        let rest = self.rest.strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn pass(&mut self, word: &str) -> PythonRead<()> {
        if self.is_passed(word) {
            Ok(())
        } else {
            Err(PythonFault::NotJson)
        }
    }

    /// Passes the first `length` bytes, and returns them.
    fn take(&mut self, length: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn value(&mut self, depth: usize) -> PythonRead<PythonValue> {
        match self.rest.as_bytes().first() {
            Some(b'"') => self.text().map(|_| PythonValue::Other),
            Some(b'{' | b'[') if depth == DEEPEST => Err(PythonFault::Exception("RecursionError")),
            Some(b'{') => self.object(depth + 1).map(PythonValue::Object),
            Some(b'[') => self.list(depth + 1).map(|()| PythonValue::Other),
            _ => self.word(),
        }
    }

    /// Reads a value of one word. It stays apart from [`Self::value`], so that a nested value takes little of the stack.
    #[inline(never)]
    fn word(&mut self) -> PythonRead<PythonValue> {
        if self.is_passed("null") {
            return Ok(PythonValue::Other);
        }
        for (word, yes) in [("true", true), ("false", false)] {
            if self.is_passed(word) {
                return Ok(PythonValue::Bool(yes));
            }
        }
        let words = [
            ("NaN", f64::NAN),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ];
        for (word, number) in words {
            if self.is_passed(word) {
                return Ok(PythonValue::Float(number));
            }
        }
        self.number()
    }

    fn object(&mut self, depth: usize) -> PythonRead<BTreeMap<String, PythonValue>> {
        let mut fields = BTreeMap::new();
        self.pass("{")?;
        self.skip_spaces();
        if self.is_passed("}") {
            return Ok(fields);
        }
        loop {
            let name = self.text()?;
            self.skip_spaces();
            self.pass(":")?;
            self.skip_spaces();
            // The last of equal names counts.
            let value = self.value(depth)?;
            fields.insert(name, value);
            self.skip_spaces();
            if self.is_passed("}") {
                return Ok(fields);
            }
            self.pass(",")?;
            self.skip_spaces();
        }
    }

    fn list(&mut self, depth: usize) -> PythonRead<()> {
        self.pass("[")?;
        self.skip_spaces();
        if self.is_passed("]") {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.skip_spaces();
            if self.is_passed("]") {
                return Ok(());
            }
            self.pass(",")?;
            self.skip_spaces();
        }
    }

    /// Reads a text. A surrogate becomes the replacement character, whether its other half is there or not.
    fn text(&mut self) -> PythonRead<String> {
        self.pass("\"")?;
        let mut text = String::new();
        loop {
            let end = self
                .rest
                .find(|sign: char| matches!(sign, '"' | '\\' | '\0'..='\x1f'));
            text.push_str(self.take(end.ok_or(PythonFault::NotJson)?));
            if self.is_passed("\"") {
                return Ok(text);
            }
            self.pass("\\")?;
            text.push(self.escaped()?);
        }
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> PythonRead<char> {
        let sign = self.rest.chars().next().ok_or(PythonFault::NotJson)?;
        self.take(sign.len_utf8());
        Ok(match sign {
            '"' | '\\' | '/' => sign,
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let digits = self.rest.get(..4).ok_or(PythonFault::NotJson)?;
                if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(PythonFault::NotJson);
                }
                self.take(4);
                let code = u32::from_str_radix(digits, 16).map_err(|_| PythonFault::NotJson)?;
                char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            _ => return Err(PythonFault::NotJson),
        })
    }

    fn number(&mut self) -> PythonRead<PythonValue> {
        let bytes = self.rest.as_bytes();
        let digits = |from: usize| {
            bytes[from..]
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let sign = usize::from(bytes.first() == Some(&b'-'));
        let whole = match bytes.get(sign) {
            Some(b'0') => 1,
            _ => digits(sign),
        };
        if whole == 0 {
            return Err(PythonFault::NotJson);
        }
        let mut end = sign + whole;
        if bytes.get(end) == Some(&b'.') {
            let places = digits(end + 1);
            end += if places > 0 { places + 1 } else { 0 };
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let from = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let places = digits(from);
            end = if places > 0 { from + places } else { end };
        }
        let text = self.take(end);
        if end > sign + whole {
            return text
                .parse()
                .map(PythonValue::Float)
                .map_err(|_| PythonFault::NotJson);
        }
        if whole > MOST_DIGITS {
            return Err(PythonFault::Exception("ValueError"));
        }
        text.parse()
            .map(PythonValue::Int)
            .map_err(|_| PythonFault::NotJson)
    }
}
