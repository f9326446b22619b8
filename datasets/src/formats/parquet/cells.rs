//! The cells of a row as fields: pictures, and values as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parquet::record::Field;
use serde_json::{Map, Value};

use crate::formats::columns::encoded::Encoded;
use crate::formats::columns::fields::Fields;

/// Converts a row to fields. Pictures are kept apart, nulls are left out, class numbers become class names.
pub(in crate::formats) fn fields(
    row: Vec<(String, Field)>,
    classes: &BTreeMap<String, Vec<String>>,
) -> Fields {
    let mut fields = Fields::default();
    for (name, field) in row {
        if let Some(pictures) = pictures(&field) {
            fields.pictures.insert(name, pictures);
            continue;
        }
        let value = value(field);
        let class = classes.get(&name).zip(value.as_u64());
        let class = class.and_then(|(names, number)| names.get(usize::try_from(number).ok()?));
        match (class, value) {
            (Some(class), _) => fields.values.insert(name, Value::String(class.clone())),
            (None, Value::Null) => None,
            (None, value) => fields.values.insert(name, value),
        };
    }
    fields
}

/// Returns the pictures of a field: bytes, a struct with `bytes`, or a list of those. `None` for any other field.
fn pictures(field: &Field) -> Option<Vec<Encoded>> {
    match field {
        Field::Bytes(bytes) => Some(vec![Encoded::Bytes(bytes.data().into())]),
        Field::Group(row) => {
            let column = |wanted: &str| {
                row.get_column_iter()
                    .find(|(name, _)| *name == wanted)
                    .map(|(_, field)| field)
            };
            match (column("bytes")?, column("path")) {
                (Field::Bytes(bytes), _) => Some(vec![Encoded::Bytes(bytes.data().into())]),
                (Field::Null, Some(Field::Str(path))) => Some(vec![Encoded::File(PathBuf::from(path))]),
                _ => None,
            }
        }
        Field::ListInternal(list) if !list.elements().is_empty() => {
            let several: Option<Vec<_>> = list.elements().iter().map(pictures).collect();
            Some(several?.into_iter().flatten().collect())
        }
        _ => None,
    }
}

/// Converts a field to JSON; dates and decimals become their display text.
fn value(field: Field) -> Value {
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => value.into(),
        Field::Byte(value) => value.into(),
        Field::Short(value) => value.into(),
        Field::Int(value) => value.into(),
        Field::Long(value) => value.into(),
        Field::UByte(value) => value.into(),
        Field::UShort(value) => value.into(),
        Field::UInt(value) => value.into(),
        Field::ULong(value) => value.into(),
        Field::Float(value) => value.into(),
        Field::Double(value) => value.into(),
        Field::Str(value) => value.into(),
        Field::Bytes(value) => String::from_utf8_lossy(value.data()).into_owned().into(),
        Field::Group(row) => {
            let columns = row.into_columns().into_iter();
            Value::Object(
                columns
                    .map(|(name, field)| (name, value(field)))
                    .collect::<Map<_, _>>(),
            )
        }
        Field::ListInternal(list) => list.elements().iter().cloned().map(value).collect(),
        other => Value::String(other.to_string()),
    }
}
