//! The fields of a row by name, independent of the file format: values as JSON, pictures as files or stored bytes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::encoded::Encoded;
use super::stored_picture::StoredPicture;

/// A row's fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields {
    /// Text, numbers, lists and structs.
    pub values: Map<String, Value>,
    /// Pictures and lists of pictures.
    pub pictures: BTreeMap<String, Vec<Encoded>>,
}

impl Fields {
    /// Whether the field `name` exists and is not null.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.pictures.contains_key(name) || self.values.get(name).is_some_and(|value| !value.is_null())
    }

    /// Returns the names of all fields, for messages.
    #[must_use]
    pub fn names(&self) -> String {
        let names: Vec<&str> = self
            .values
            .keys()
            .chain(self.pictures.keys())
            .map(String::as_str)
            .collect();
        match names.is_empty() {
            true => "nothing".to_owned(),
            false => names.join(", "),
        }
    }

    /// Counts the row's values and pictures. Long ones count once more for each KiB of their text or bytes.
    #[must_use]
    pub fn count(&self) -> usize {
        let bytes = |picture: &Encoded| match picture {
            Encoded::Bytes(bytes) => bytes.len(),
            Encoded::File(_) | Encoded::Stored(_) => 0,
        };
        let pictures = self.pictures.values().flatten();
        let pictures: usize = pictures.map(|picture| 1 + bytes(picture) / 1024).sum();
        pictures + self.values.values().map(count).sum::<usize>()
    }

    /// Renames fields to the names that readers know. `known` maps each such name to the row's own name.
    pub fn rename(&mut self, known: &BTreeMap<String, String>) {
        let mut renamed = Self::default();
        for (name, own) in known {
            if let Some(value) = self.values.remove(own) {
                renamed.values.insert(name.clone(), value);
            }
            if let Some(pictures) = self.pictures.remove(own) {
                renamed.pictures.insert(name.clone(), pictures);
            }
        }
        self.values.extend(renamed.values);
        self.pictures.extend(renamed.pictures);
    }

    /// Returns the text of a field without surrounding white space; a number is returned as written.
    ///
    /// # Errors
    /// A message if the field is missing, empty or neither text nor a number.
    pub fn word(&self, name: &str) -> Result<String, String> {
        match self.values.get(name) {
            Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::String(_)) => Err(format!("`{name}` is empty")),
            Some(other) => Err(format!("`{name}`: text was expected, found {}", kind_of(other))),
            None => Err(format!("`{name}` is missing")),
        }
    }
}

fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(count).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 1024,
        _ => 1,
    }
}

/// Names a JSON value's type in words.
#[must_use]
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

impl Fields {
    /// Serialises the row, for the spool file from which it is read again and for a process that reads on behalf of
    /// another, both on this machine.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let values = serde_json::to_vec(&self.values).unwrap_or_default();
        let mut bytes = Vec::new();
        let mut part = |kind: u8, part: &[u8]| {
            bytes.push(kind);
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        };
        part(VALUES, &values);
        for (name, pictures) in &self.pictures {
            part(NAME, name.as_bytes());
            for picture in pictures {
                match picture {
                    Encoded::Bytes(bytes) => part(PICTURE, bytes),
                    Encoded::File(path) => part(FILE, path.as_os_str().as_encoded_bytes()),
                    Encoded::Stored(stored) => part(STORED, &stored.to_bytes()),
                }
            }
        }
        bytes
    }

    /// Reads a row that [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// A message if the bytes are cut off or are not such a row.
    pub fn from_bytes(mut bytes: &[u8]) -> Result<Self, String> {
        let broken = || "the copy of the row is damaged".to_owned();
        let (mut fields, mut name) = (Self::default(), String::new());
        while let Some((&kind, rest)) = bytes.split_first() {
            let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(broken)?;
            let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| broken())?;
            let (part, rest) = rest.split_at_checked(length).ok_or_else(broken)?;
            bytes = rest;
            let text = || String::from_utf8_lossy(part).into_owned();
            let picture = match kind {
                VALUES => {
                    fields.values = serde_json::from_slice(part).map_err(|error| error.to_string())?;
                    continue;
                }
                NAME => {
                    name = text();
                    fields.pictures.entry(name.clone()).or_default();
                    continue;
                }
                PICTURE => Encoded::Bytes(part.into()),
                FILE => Encoded::File(PathBuf::from(text())),
                STORED => Encoded::Stored(StoredPicture::from_bytes(part).ok_or_else(broken)?),
                _ => return Err(broken()),
            };
            fields.pictures.entry(name.clone()).or_default().push(picture);
        }
        Ok(fields)
    }
}

/// Part tag: the values as JSON.
const VALUES: u8 = 1;
/// Part tag: the name of the pictures that follow.
const NAME: u8 = 2;
/// Part tag: a picture's bytes.
const PICTURE: u8 = 3;
/// Part tag: a picture's path.
const FILE: u8 = 4;
/// Part tag: a picture's place in a Parquet file.
const STORED: u8 = 5;
