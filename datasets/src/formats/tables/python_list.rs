//! Parses lists of strings as Python writes them into a cell: `['one', "it's"]`.
//!
//! MMMU's options and VLMEvalKit's tables contain them; there, `ast.literal_eval` reads them. This parser accepts both
//! kinds of quotes and the escapes of Python's `repr`; it rejects numbers, nested lists and anything else.

use std::iter::Peekable;
use std::str::Chars;

/// Returns the strings of a list; `None` if the cell is not a list of strings.
#[must_use]
pub fn strings(cell: &str) -> Option<Vec<String>> {
    let inside = cell.trim().strip_prefix('[')?.strip_suffix(']')?;
    let mut signs = inside.chars().peekable();
    let mut all = Vec::new();
    loop {
        skip_space(&mut signs);
        match signs.next() {
            None => return Some(all),
            Some(quote @ ('\'' | '"')) => all.push(quoted(&mut signs, quote)?),
            Some(_) => return None,
        }
        skip_space(&mut signs);
        match signs.next() {
            None => return Some(all),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

fn skip_space(signs: &mut Peekable<Chars<'_>>) {
    while signs.next_if(|sign| sign.is_whitespace()).is_some() {}
}

/// Reads up to the closing quote.
fn quoted(signs: &mut Peekable<Chars<'_>>, quote: char) -> Option<String> {
    let mut text = String::new();
    loop {
        match signs.next()? {
            sign if sign == quote => return Some(text),
            '\\' => match signs.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'x' => text.push(numbered(signs, 2)?),
                'u' => text.push(numbered(signs, 4)?),
                'U' => text.push(numbered(signs, 8)?),
                sign @ ('\\' | '\'' | '"') => text.push(sign),
                // Python keeps unknown escapes as they are.
                other => text.extend(['\\', other]),
            },
            sign => text.push(sign),
        }
    }
}

/// Reads a character code of `digits` hexadecimal digits.
fn numbered(signs: &mut Peekable<Chars<'_>>, digits: usize) -> Option<char> {
    let mut number = 0;
    for _ in 0..digits {
        number = number * 16 + signs.next()?.to_digit(16)?;
    }
    char::from_u32(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_python_writes_them() {
        let read = |cell: &str| strings(cell);
        let all = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>());
        assert_eq!(read("['red', 'blue']"), all(&["red", "blue"]));
        assert_eq!(
            read(r#"["it's", 'a "b"', 'x\'y\'']"#),
            all(&["it's", "a \"b\"", "x'y'"])
        );
        assert_eq!(
            read(r"['$\\frac{1}{2}$', 'a\nb', '\xe9']"),
            all(&["$\\frac{1}{2}$", "a\nb", "é"])
        );
        assert_eq!(read("[]"), all(&[]));
        assert_eq!(read("['one',]"), all(&["one"]));
        for none in ["red", "[1, 2]", "['open]", "['a' 'b']", "["] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
