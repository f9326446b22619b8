//! JSON lines, streamed: one object a line, read by the fields that it has.
//!
//! - GSM8K: `question` and `answer`, whose last line is `#### N`; calculator notes `<<48/2=24>>` are dropped, lines become
//!   the reasoning;
//! - reasoning: `prompt`, `answer`, and maybe `reasoning`;
//! - a picture: `image` (a path beside the file) with `caption`, or with `question` and `answer`;
//! - instruction: `instruction` and `response`; plain text: `text`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, ErrorKind, Lines};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Reader, Rows};
use crate::example::{CAPTION_PROMPT, Check, Example, Kind};
use crate::formats::row::{BadRow, Origin, ReadError, Row, placed};
use crate::pictures::file as picture_file;

/// The reader of the format `jsonl`.
#[derive(Clone, Copy, Debug)]
pub struct JsonLinesReader;

impl Reader for JsonLinesReader {
    fn name(&self) -> &'static str {
        "jsonl"
    }

    fn about(&self) -> &'static str {
        "a file of JSON lines: problems, questions, captioned pictures, instructions, plain text"
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(JsonLines::open(path, origin)?))
    }
}

/// The rows of a file, one at a time.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    lines: Lines<BufReader<File>>,
    line: u64,
    ended: bool,
    origin: Origin,
}

impl JsonLines {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened, or is a folder.
    pub fn open(path: &Path, origin: Origin) -> Result<Self, ReadError> {
        if path.is_dir() {
            return Err(ReadError::format(
                path,
                "a file of JSON lines was expected, found a folder",
            ));
        }
        let file = File::open(path).map_err(|error| ReadError::io(path, error))?;
        Ok(Self {
            path: path.to_owned(),
            lines: BufReader::new(file).lines(),
            line: 0,
            ended: false,
            origin,
        })
    }
}

impl Iterator for JsonLines {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        loop {
            if self.ended {
                return None;
            }
            let text = self.lines.next()?;
            self.line += 1;
            let read = match text {
                Ok(text) if text.trim().is_empty() => continue,
                Ok(text) => example(text.trim_start_matches('\u{feff}'), &self.path, &self.origin),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    Err(format!("not UTF-8 text: {error}"))
                }
                // A file that cannot be read on would give the same error for ever.
                Err(error) => {
                    self.ended = true;
                    Err(format!("the file cannot be read on from here: {error}"))
                }
            };
            let bad = |reason| BadRow {
                file: self.path.clone(),
                line: self.line,
                reason,
            };
            let placed = |example| placed(vec![example], &self.path, self.line);
            return Some(read.map(placed).map_err(bad));
        }
    }
}

fn example(text: &str, path: &Path, origin: &Origin) -> Result<Example, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(row) = value else {
        return Err("an object in braces was expected".into());
    };
    let has = |key: &str| row.contains_key(key);
    let mut example = blank(origin);
    if has("image") {
        let file = path.parent().unwrap_or(Path::new(".")).join(word(&row, "image")?);
        example.picture = Some(picture_file::read(&file, origin.pixels)?);
        if has("caption") {
            example.kind = Kind::Caption;
            example.prompt = CAPTION_PROMPT.to_owned();
            example.answer = Some(word(&row, "caption")?);
        } else {
            example.kind = Kind::Question;
            example.prompt = word(&row, "question")?;
            answered(&mut example, word(&row, "answer")?);
        }
    } else if has("question") {
        example.kind = Kind::WordProblem;
        example.prompt = word(&row, "question")?;
        worked(&mut example, &word(&row, "answer")?)?;
    } else if has("prompt") {
        example.kind = Kind::WordProblem;
        example.prompt = word(&row, "prompt")?;
        example.reasoning = has("reasoning").then(|| word(&row, "reasoning")).transpose()?;
        answered(&mut example, word(&row, "answer")?);
    } else if has("instruction") {
        example.kind = Kind::Instruction;
        example.prompt = word(&row, "instruction")?;
        example.answer = Some(word(&row, "response")?);
    } else if has("text") {
        example.kind = Kind::Text;
        example.answer = Some(word(&row, "text")?);
    } else {
        let keys: Vec<&str> = row.keys().map(String::as_str).collect();
        return Err(format!(
            "question, prompt, image, instruction or text was expected, found {}",
            if keys.is_empty() {
                "nothing".to_owned()
            } else {
                keys.join(", ")
            }
        ));
    }
    Ok(example.with_id())
}

fn blank(origin: &Origin) -> Example {
    Example {
        id: String::new(),
        source: origin.source.clone(),
        place: String::new(),
        licence: origin.licence.clone(),
        split: origin.split,
        kind: Kind::Text,
        category: String::new(),
        held_out: false,
        prompt: String::new(),
        picture: None,
        reasoning: None,
        answer: None,
        check: Check::None,
    }
}

fn word(row: &Map<String, Value>, key: &str) -> Result<String, String> {
    match row.get(key) {
        Some(Value::String(text)) if !text.trim().is_empty() => Ok(text.trim().to_owned()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(_)) => Err(format!("`{key}` is empty")),
        Some(other) => Err(format!("`{key}`: text was expected, found {}", kind_word(other))),
        None => Err(format!("`{key}` is missing")),
    }
}

fn kind_word(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// An answer that is a number is compared by value, another word for word.
fn answered(example: &mut Example, answer: String) {
    let number = answer
        .trim_start_matches(['$', '-'])
        .starts_with(|c: char| c.is_ascii_digit());
    example.check = if number {
        Check::Number {
            answer: answer.clone(),
        }
    } else {
        Check::Exact {
            answer: answer.clone(),
        }
    };
    example.answer = Some(answer);
}

/// GSM8K's `answer`: worked lines, then `#### N`. Without the mark all of it is the answer.
fn worked(example: &mut Example, text: &str) -> Result<(), String> {
    let Some((lines, result)) = text.rsplit_once("####") else {
        answered(example, text.to_owned());
        return Ok(());
    };
    let result = result.trim().replace(',', "");
    if result.is_empty() {
        return Err("`answer`: a number was expected after ####, found nothing".into());
    }
    let lines: Vec<&str> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    example.reasoning = (!lines.is_empty()).then(|| without_notes(&lines.join(" ")));
    answered(example, result);
    Ok(())
}

/// Drops `<<48/2=24>>`.
fn without_notes(text: &str) -> String {
    let mut rest = text;
    let mut kept = String::with_capacity(text.len());
    while let Some(start) = rest.find("<<") {
        let Some(end) = rest[start..].find(">>") else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + end + 2..];
    }
    kept.push_str(rest);
    kept
}
