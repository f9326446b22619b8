//! A profile as the person wrote it: the line to blame, and values put in place by flags.

use super::ProfileError;

pub(super) fn located(
    origin: &str,
    text: &str,
    span: Option<std::ops::Range<usize>>,
    message: &str,
) -> ProfileError {
    let line = span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    ProfileError {
        origin: origin.to_owned(),
        line,
        message: message.trim().replace('\n', " "),
    }
}

/// The line that assigns a key the value that the message complains of, in an inline table too; else the last that assigns
/// the key. Of a name that is there "again" the second is to blame. The values were read without their places.
pub(super) fn line_of_key(text: &str, key: &str, message: &str) -> Option<usize> {
    let number: Option<f64> = message
        .strip_prefix("is ")
        .and_then(|rest| rest.split(';').next()?.parse().ok());
    let named = message
        .split_once("names ")
        .and_then(|(_, rest)| rest.split(';').next());
    let again = named.and_then(|name| name.strip_suffix(" again"));
    let named = again.or(named);
    let blamed = |value: &str| {
        let said = value.split([',', '}', ' ']).next().unwrap_or(value);
        let same = number.is_some_and(|number| said.replace('_', "").parse() == Ok(number));
        same || named.is_some_and(|name| value.contains(&format!("\"{name}\"")))
    };
    let assigned: Vec<(usize, &str)> = text
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| Some((number, assigned(line, key)?)))
        .collect();
    let mut guilty = assigned.iter().filter(|(_, value)| blamed(value));
    let guilty = guilty.nth(usize::from(again.is_some()));
    guilty.or(assigned.last()).map(|(number, _)| *number)
}

/// What a line assigns to a key, if it does.
fn assigned<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let code = line.split('#').next().unwrap_or(line);
    code.match_indices(key).find_map(|(at, _)| {
        let before = code[..at].chars().next_back();
        let inside = before.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
        let after = code[at + key.len()..].trim_start().strip_prefix('=')?;
        (!inside).then(|| after.trim())
    })
}

pub(super) fn place(table: &mut toml_edit::Table, key: &str, value: toml_edit::Value) -> Result<(), String> {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Some(rest) = rest else {
        table.insert(first, toml_edit::Item::Value(value));
        return Ok(());
    };
    let item = table.entry(first).or_insert_with(toml_edit::table);
    if let Some(list) = item.as_array_of_tables_mut() {
        let (number, rest) = rest
            .split_once('.')
            .ok_or_else(|| format!("{first} is a list: {first}.NUMBER.KEY"))?;
        let count = list.len();
        let named =
            |table: &toml_edit::Table| table.get("name").and_then(toml_edit::Item::as_str) == Some(number);
        let at = number.parse().ok().or_else(|| list.iter().position(named));
        let table = at.and_then(|at: usize| list.get_mut(at));
        return place(
            table.ok_or_else(|| format!("there is no {first}.{number}; there are {count}"))?,
            rest,
            value,
        );
    }
    place(
        item.as_table_mut()
            .ok_or_else(|| format!("{first} is not a table"))?,
        rest,
        value,
    )
}
