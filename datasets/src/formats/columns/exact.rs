//! JSON values as bytes, from which the same values are read again: numbers to the last bit, which JSON text does not
//! promise, and keys in their order.

use serde_json::{Map, Number, Value};

/// The deepest nesting that is read, as of JSON text.
const DEEPEST: usize = 128;

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
/// A number without a sign, of eight bytes.
const UNSIGNED: u8 = 3;
/// A negative integer, of eight bytes.
const SIGNED: u8 = 4;
/// A floating-point number, of eight bytes.
const FLOAT: u8 = 5;
/// A text: its length of eight bytes, and its bytes.
const TEXT: u8 = 6;
/// A list: its length of eight bytes, and its values.
const LIST: u8 = 7;
/// An object: its length of eight bytes, and its keys and values in turn.
const OBJECT: u8 = 8;

/// Serialises an object's entries.
pub(super) fn to_bytes(values: &Map<String, Value>) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_entries(values, &mut bytes);
    bytes
}

/// Reads the entries that [`to_bytes`] wrote; `None` if the bytes are anything else.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Map<String, Value>> {
    let mut rest = bytes;
    let values = entries(&mut rest, 0)?;
    rest.is_empty().then_some(values)
}

fn put_entries(values: &Map<String, Value>, bytes: &mut Vec<u8>) {
    put_number(values.len() as u64, bytes);
    for (name, value) in values {
        put_text(name, bytes);
        put(value, bytes);
    }
}

fn put(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Null => bytes.push(NULL),
        Value::Bool(false) => bytes.push(FALSE),
        Value::Bool(true) => bytes.push(TRUE),
        Value::Number(number) => {
            let (kind, eight) = match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => (UNSIGNED, number),
                (None, Some(number)) => (SIGNED, number.cast_unsigned()),
                // Every number is one of the three.
                (None, None) => (FLOAT, number.as_f64().unwrap_or_default().to_bits()),
            };
            bytes.push(kind);
            put_number(eight, bytes);
        }
        Value::String(text) => {
            bytes.push(TEXT);
            put_text(text, bytes);
        }
        Value::Array(values) => {
            bytes.push(LIST);
            put_number(values.len() as u64, bytes);
            values.iter().for_each(|value| put(value, bytes));
        }
        Value::Object(values) => {
            bytes.push(OBJECT);
            put_entries(values, bytes);
        }
    }
}

fn put_number(number: u64, bytes: &mut Vec<u8>) {
    bytes.extend(number.to_le_bytes());
}

fn put_text(text: &str, bytes: &mut Vec<u8>) {
    put_number(text.len() as u64, bytes);
    bytes.extend(text.as_bytes());
}

fn entries(rest: &mut &[u8], depth: usize) -> Option<Map<String, Value>> {
    let count = number(rest)?;
    let each = (0..count).map(|_| Some((text(rest)?, value(rest, depth)?)));
    each.collect()
}

fn value(rest: &mut &[u8], depth: usize) -> Option<Value> {
    let (&kind, behind) = rest.split_first()?;
    *rest = behind;
    if depth > DEEPEST {
        return None;
    }
    Some(match kind {
        NULL => Value::Null,
        FALSE => false.into(),
        TRUE => true.into(),
        UNSIGNED => number(rest)?.into(),
        SIGNED => number(rest)?.cast_signed().into(),
        FLOAT => Value::Number(Number::from_f64(f64::from_bits(number(rest)?))?),
        TEXT => text(rest)?.into(),
        LIST => {
            let count = number(rest)?;
            let each = (0..count).map(|_| value(rest, depth + 1));
            Value::Array(each.collect::<Option<_>>()?)
        }
        OBJECT => Value::Object(entries(rest, depth + 1)?),
        _ => return None,
    })
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (eight, behind) = rest.split_first_chunk::<8>()?;
    *rest = behind;
    Some(u64::from_le_bytes(*eight))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    String::from_utf8(text.to_vec()).ok()
}
