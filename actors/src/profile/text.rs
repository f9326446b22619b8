//! Operations on a profile's text: finding the line of a value for an error, and setting a value at a path.

use toml_edit::{Document, Item, TableLike, Value};

use super::ProfileError;

pub(super) fn located(
    origin: &str,
    text: &str,
    span: Option<std::ops::Range<usize>>,
    message: &str,
) -> ProfileError {
    ProfileError {
        origin: origin.to_owned(),
        line: span.map(|span| line_at(text, span.start)),
        message: message.trim().replace('\n', " "),
    }
}

fn line_at(text: &str, byte: usize) -> usize {
    text.as_bytes()[..byte.min(text.len())]
        .iter()
        .filter(|&&sign| sign == b'\n')
        .count()
        + 1
}

/// Returns the line of the value at a dotted path. If the value is not written, it is the line of the table that would
/// hold it.
pub(super) fn line_of(text: &str, path: &str) -> Option<usize> {
    let document = Document::parse(text).ok()?;
    let (mut item, mut start) = (document.as_item(), None);
    for part in path.split('.') {
        let (next, at) = match part.parse::<usize>() {
            Ok(number) if !item.is_table_like() => (item.get(number)?, None),
            _ => match item.as_table_like().and_then(|table| table.get_key_value(part)) {
                Some((key, next)) => (next, key.span()),
                None => break,
            },
        };
        start = at.or_else(|| next.span()).map(|span| span.start).or(start);
        item = next;
    }
    start.map(|byte| line_at(text, byte))
}

/// Sets a value at a dotted path. The path addresses an element of a list by its number or by its `name`.
///
/// # Errors
/// An error if the path leads nowhere. It says where the path ends.
pub(super) fn place(table: &mut dyn TableLike, key: &str, value: Value) -> Result<(), String> {
    let Some((first, rest)) = key.split_once('.') else {
        table.insert(key, Item::Value(value));
        return Ok(());
    };
    let item = table.entry(first).or_insert(toml_edit::table());
    if let Some(list) = item.as_array_of_tables_mut() {
        let (number, rest) = rest
            .split_once('.')
            .ok_or_else(|| format!("{first} is a list: {first}.NUMBER.KEY"))?;
        let count = list.len();
        let named = |table: &toml_edit::Table| table.get("name").and_then(Item::as_str) == Some(number);
        let at = number.parse().ok().or_else(|| list.iter().position(named));
        let table = at.and_then(|at: usize| list.get_mut(at));
        let table = table.ok_or_else(|| format!("there is no {first}.{number}; the profile has {count}"))?;
        return place(table, rest, value);
    }
    let inner = item
        .as_table_like_mut()
        .ok_or_else(|| format!("{first} is not a table"))?;
    place(inner, rest, value)
}
