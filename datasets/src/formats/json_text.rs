//! Splits a JSON text into its values: one per line, or the elements of one array.

use std::io::{self, BufRead};

/// The most bytes of a value (law L9).
const LONGEST: usize = 64 << 20;

/// How the values are separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One value a line.
    Lines,
    /// The elements of one array.
    Array,
}

/// The text of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueText {
    /// The offset of its first byte in the text.
    pub at: u64,
    /// The line or element number, from 1.
    pub number: u64,
    /// The bytes of the value; `None` if it is longer than the limit.
    pub bytes: Option<Vec<u8>>,
}

/// An iterator over the values of a text.
pub struct Pieces<R> {
    text: R,
    at: u64,
    number: u64,
    form: Option<Form>,
}

impl<R: BufRead> Pieces<R> {
    /// Starts at the beginning of a text.
    pub fn new(text: R) -> Self {
        Self {
            text,
            at: 0,
            number: 0,
            form: None,
        }
    }

    /// Starts at the beginning of a value.
    pub fn within(text: R, form: Form) -> Self {
        Self {
            form: Some(form),
            ..Self::new(text)
        }
    }

    /// Returns how the values are separated; [`Form::Lines`] before anything was read.
    pub fn form(&self) -> Form {
        self.form.unwrap_or(Form::Lines)
    }

    /// Returns the number of the last value read.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the next value. Blank lines yield no value, but are counted.
    ///
    /// # Errors
    /// Any I/O error; `UnexpectedEof` if the text ends within an array, and `InvalidData` if it goes on after it.
    pub fn next_piece(&mut self) -> io::Result<Option<ValueText>> {
        if self.form.is_none() {
            self.form = Some(self.find_form()?);
        }
        match self.form() {
            Form::Lines => self.line(),
            Form::Array => self.element(),
        }
    }

    /// Detects the form. An array begins with `[` and `{`, after white space or a byte order mark; anything else is
    /// lines.
    fn find_form(&mut self) -> io::Result<Form> {
        let seen = self.text.fill_buf()?;
        let start = seen.strip_prefix(b"\xef\xbb\xbf").unwrap_or(seen);
        let mut signs = start.iter().copied().filter(|sign| !sign.is_ascii_whitespace());
        match (signs.next(), signs.next()) {
            (Some(b'['), Some(b'{')) => {
                let bracket = seen.iter().position(|&sign| sign == b'[').unwrap_or(0) + 1;
                self.skip(bracket);
                Ok(Form::Array)
            }
            _ => Ok(Form::Lines),
        }
    }

    fn skip(&mut self, count: usize) {
        self.text.consume(count);
        self.at += count as u64;
    }

    fn line(&mut self) -> io::Result<Option<ValueText>> {
        loop {
            let (at, mut bytes, mut whole) = (self.at, Vec::new(), true);
            let ended = loop {
                let seen = self.text.fill_buf()?;
                if seen.is_empty() {
                    break true;
                }
                let end = seen.iter().position(|&sign| sign == b'\n');
                let part = &seen[..end.unwrap_or(seen.len())];
                whole &= bytes.len() + part.len() <= LONGEST;
                if whole {
                    bytes.extend_from_slice(part);
                }
                let count = end.map_or(seen.len(), |end| end + 1);
                self.skip(count);
                if end.is_some() {
                    break false;
                }
            };
            if ended && self.at == at {
                return Ok(None);
            }
            self.number += 1;
            if !whole || !bytes.iter().all(u8::is_ascii_whitespace) {
                return Ok(Some(self.piece(at, bytes, whole)));
            }
        }
    }

    fn element(&mut self) -> io::Result<Option<ValueText>> {
        // Skips the comma and white space between elements; a bracket ends the array.
        loop {
            let seen = self.text.fill_buf()?;
            match seen.first() {
                // The bracket is what tells a whole file from one that was cut off between two elements.
                None => {
                    let message = "the array does not end: the file may be incomplete";
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
                }
                Some(b']') => return self.end().map(|()| None),
                Some(sign) if sign.is_ascii_whitespace() || *sign == b',' => self.skip(1),
                Some(_) => break,
            }
        }
        self.number += 1;
        let (at, mut bytes, mut whole) = (self.at, Vec::new(), true);
        let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
        loop {
            let seen = self.text.fill_buf()?;
            if seen.is_empty() {
                return Ok(Some(self.piece(at, bytes, whole)));
            }
            let mut end = None;
            for (number, &sign) in seen.iter().enumerate() {
                match sign {
                    _ if escaped => escaped = false,
                    b'\\' if quoted => escaped = true,
                    b'"' => quoted = !quoted,
                    _ if quoted => {}
                    b'{' | b'[' => depth += 1,
                    b',' | b']' if depth == 0 => {
                        end = Some(number);
                        break;
                    }
                    b'}' | b']' => depth = depth.saturating_sub(1),
                    _ => {}
                }
            }
            let part = &seen[..end.unwrap_or(seen.len())];
            whole &= bytes.len() + part.len() <= LONGEST;
            if whole {
                bytes.extend_from_slice(part);
            }
            let count = part.len();
            self.skip(count);
            if end.is_some() {
                return Ok(Some(self.piece(at, bytes, whole)));
            }
        }
    }

    /// Reads the end of an array, after which only white space may follow.
    fn end(&mut self) -> io::Result<()> {
        self.skip(1);
        loop {
            let seen = self.text.fill_buf()?;
            if seen.is_empty() {
                return Ok(());
            }
            if !seen.iter().all(u8::is_ascii_whitespace) {
                let message =
                    "text follows the end of the array; expected one array of objects, or an object a line";
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            let count = seen.len();
            self.skip(count);
        }
    }

    fn piece(&self, at: u64, bytes: Vec<u8>, whole: bool) -> ValueText {
        ValueText {
            at,
            number: self.number,
            bytes: whole.then_some(bytes),
        }
    }
}
