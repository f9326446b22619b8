//! The meaning of a row by its columns, independent of the file format. The first form of this table that fits is
//! taken.
//!
//! | columns | meaning |
//! | --- | --- |
//! | `messages` or `conversations` | turns, an example for each of the assistant's (`conversation.rs`); a picture in `image` or `images` |
//! | `prompt`, `chosen`, `rejected` | refused: preferences are not trained on |
//! | `image` with `question` and `answer` | a question about a picture |
//! | `image` with `caption`, `text` or `label` | a picture to describe, and to draw |
//! | `question`, `answer` | a problem; GSM8K's `#### N` and calculator notes are read |
//! | `prompt`, `answer`, maybe `reasoning` | a problem |
//! | `prompt`, `completion` or `response` | an instruction, in text or in lists of messages |
//! | `instruction`, maybe `input`, `response` or `output` | an instruction |
//! | `text` or `content` | plain text |

mod conversation;
pub mod encoded;
pub mod fields;
mod forms;
pub mod stored_picture;
pub(in crate::formats) mod survived;

use std::path::Path;

use serde_json::{Map, Value};

use crate::example::Example;
use crate::formats::columns::encoded::Encoded;
use crate::formats::columns::fields::Fields;
use crate::formats::row::{KeptColumns, Origin};

/// Every known column; `[source.columns]` of a profile maps them to the row's own names.
pub const KNOWN: [&str; 17] = [
    "messages",
    "conversations",
    "image",
    "images",
    "caption",
    "label",
    "question",
    "prompt",
    "answer",
    "reasoning",
    "completion",
    "response",
    "instruction",
    "input",
    "output",
    "text",
    "content",
];

/// Returns the examples of a row. Picture paths are relative to `base`; `drawn` says whether a captioned picture also
/// yields a request to draw it.
///
/// # Errors
/// A message with what was expected and what was found.
pub(super) fn examples(
    mut fields: Fields,
    base: &Path,
    origin: &Origin,
    drawn: bool,
) -> Result<Vec<Example>, String> {
    let kept = kept(&fields, &origin.keep)?;
    fields.rename(&origin.columns);
    locate(&mut fields, base)?;
    if origin.keep == KeptColumns::Whole {
        return whole(fields, origin).map(|example| vec![example]);
    }
    let mut examples = understood(&fields, origin, drawn)?;
    for example in &mut examples {
        example.columns.clone_from(&kept);
    }
    Ok(examples)
}

/// Returns the columns to be kept, under the row's own names.
fn kept(fields: &Fields, keep: &KeptColumns) -> Result<Map<String, Value>, String> {
    let KeptColumns::Named(names) = keep else {
        return Ok(Map::new());
    };
    let one = |name: &String| match fields.values.get(name) {
        Some(value) => Ok((name.clone(), value.clone())),
        None => Err(format!(
            "column `{name}` should be kept, but the row does not have it; found {}",
            fields.names()
        )),
    };
    names.iter().map(one).collect()
}

/// Makes an example of a whole row: all its columns and its picture, uninterpreted.
fn whole(fields: Fields, origin: &Origin) -> Result<Example, String> {
    let picture = match given_pictures(&fields).as_slice() {
        [] => None,
        [one] => Some(one.decode(origin.pixels)?),
        several => {
            return Err(format!(
                "found {} pictures; a sequence has room for one",
                several.len()
            ));
        }
    };
    Ok(Example {
        picture,
        columns: fields.values,
        ..origin.blank()
    })
}

/// Interprets the row's columns as examples.
fn understood(fields: &Fields, origin: &Origin, drawn: bool) -> Result<Vec<Example>, String> {
    let found = |names: &'static [&'static str]| names.iter().copied().find(|name| fields.has(name));
    if let Some(name) = found(&["messages", "conversations"]) {
        return match fields.values.get(name) {
            Some(Value::Array(turns)) => conversation::examples(name, turns, fields, origin),
            _ => Err(format!("`{name}`: a list of turns was expected")),
        };
    }
    if fields.has("chosen") && fields.has("rejected") {
        return Err(
            "`chosen` and `rejected`: training on preference pairs is not supported; keep one answer, in a column `completion`"
                .into(),
        );
    }
    if let Some(completion) = found(&["completion", "response"])
        && fields.has("prompt")
    {
        return completed(completion, fields, origin);
    }
    let example = match given_pictures(fields).as_slice() {
        [] => forms::text(fields, origin)?,
        [picture] => return forms::picture(picture, fields, origin, drawn),
        several => {
            return Err(format!(
                "found {} pictures; a sequence has room for one",
                several.len()
            ));
        }
    };
    Ok(vec![example.with_id()])
}

/// Reads `prompt` and `completion`, each a text or a list of turns, as one conversation.
fn completed(completion: &str, fields: &Fields, origin: &Origin) -> Result<Vec<Example>, String> {
    let mut turns = Vec::new();
    for (name, role) in [("prompt", "user"), (completion, "assistant")] {
        match fields.values.get(name) {
            Some(Value::Array(several)) => turns.extend(several.clone()),
            _ => turns.push(serde_json::json!({ "role": role, "content": fields.word(name)? })),
        }
    }
    conversation::examples(completion, &turns, fields, origin)
}

/// Returns the row's pictures in the order in which the text refers to them.
fn given_pictures(fields: &Fields) -> Vec<&Encoded> {
    let named = ["image", "images"]
        .iter()
        .filter_map(|name| fields.pictures.get(*name));
    named.flatten().collect()
}

/// Replaces the paths in `image` and `images` by the pictures that they name, relative to `base`.
fn locate(fields: &mut Fields, base: &Path) -> Result<(), String> {
    // A Parquet row may have the path of a picture in place of its bytes.
    for picture in fields.pictures.values_mut().flatten() {
        if let Encoded::File(path) = picture {
            *path = base.join(&*path);
        }
    }
    for name in ["image", "images"] {
        if !fields.has(name) || fields.pictures.contains_key(name) {
            continue;
        }
        let value = fields.values.remove(name).unwrap_or_default();
        let several = match value {
            Value::Array(several) => several,
            one => vec![one],
        };
        let mut found = Vec::new();
        for value in several {
            let path = value["path"].as_str().or(value.as_str()).map(str::trim);
            match path {
                Some("") => return Err(format!("`{name}` is empty")),
                Some(path) => found.push(Encoded::File(base.join(path))),
                None => {
                    return Err(format!(
                        "`{name}`: the path of a picture was expected, found {value}"
                    ));
                }
            }
        }
        fields.pictures.insert(name.to_owned(), found);
    }
    Ok(())
}
