//! The files of a benchmark's folder, and their rows as records.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use demask_api::bounded_file;
use demask_datasets::example::{Check, Example, Split, Turn};
use demask_datasets::formats::tables::{self, TableRow};
use demask_datasets::formats::{Encoded, Fields};
use serde_json::Value;

use super::Published;
use super::asked::Asked;
use crate::benchmarks::{Item, SuiteError};

/// The most files of a benchmark's folder (law L9); VQAv2 has 200,000 pictures.
const MOST_FILES: usize = 1_000_000;
/// The most bytes of a text that is read whole (law L9); Flickr30k's captions have 20 MB.
const LARGEST_TEXT: u64 = 256 << 20;
/// The deepest nesting of folders that is searched.
const DEEPEST: usize = 6;

/// The files of a folder.
pub(super) struct Files {
    root: PathBuf,
    /// Paths below the root, separated by `/`, sorted.
    names: Vec<String>,
    /// The indices of pictures by base name.
    pictures: HashMap<String, usize>,
}

impl Files {
    /// Lists the files of a benchmark's folder.
    ///
    /// # Errors
    /// An error if the folder cannot be read or has too many files.
    pub(super) fn of(benchmark: &str, root: PathBuf) -> Result<Self, SuiteError> {
        let mut names = Vec::new();
        walk(&root, "", 0, &mut names)
            .map_err(|why| SuiteError::Absent(format!("the data of benchmark {benchmark}: {why}")))?;
        names.sort();
        let base = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
        let pictures = names
            .iter()
            .enumerate()
            .map(|(at, name)| (base(name), at))
            .collect();
        Ok(Self {
            root,
            names,
            pictures,
        })
    }

    /// Returns the names of the files that match.
    pub(super) fn named(&self, is_meant: impl Fn(&str) -> bool) -> Vec<&str> {
        self.names
            .iter()
            .map(String::as_str)
            .filter(|name| is_meant(name))
            .collect()
    }

    /// Whether a file matches.
    pub(super) fn has(&self, is_meant: impl Fn(&str) -> bool) -> bool {
        self.names.iter().any(|name| is_meant(name))
    }

    /// Returns a file's path.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Reads a text.
    ///
    /// # Errors
    /// Those of [`bounded_file::read_text`].
    pub(super) fn text(&self, name: &str) -> std::io::Result<String> {
        bounded_file::read_text(&self.path(name), LARGEST_TEXT)
    }

    /// Finds a picture by its base name.
    ///
    /// # Errors
    /// A message if there is none.
    pub(super) fn picture(&self, name: &str) -> Result<Encoded, String> {
        let base = name.rsplit('/').next().unwrap_or(name);
        match self.pictures.get(base) {
            Some(at) => Ok(Encoded::File(self.path(&self.names[*at]))),
            None => Err(format!(
                "there is no picture {base} below {}",
                self.root.display()
            )),
        }
    }

    /// Reads the rows of the tables that match, in the order of their names, each with its file's name.
    ///
    /// # Errors
    /// An error if a file cannot be read.
    pub(super) fn rows(
        &self,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<Vec<(String, PublishedRecord)>, SuiteError> {
        let tables = |name: &str| {
            let lower = name.to_lowercase();
            tables::ENDINGS.iter().any(|end| lower.ends_with(end)) && is_meant(name)
        };
        let mut rows = Vec::new();
        for name in self.named(tables) {
            let read = tables::read(&self.path(name))?;
            rows.extend(read.into_iter().map(|row| {
                let record = match row {
                    Ok(row) => PublishedRecord::of(row),
                    Err(bad) => {
                        PublishedRecord::broken(format!("{}:{}", bad.file.display(), bad.line), bad.reason)
                    }
                };
                (name.to_owned(), record)
            }));
        }
        Ok(rows)
    }

    /// Reads a file that is one JSON value.
    ///
    /// # Errors
    /// An error if it cannot be read or is not JSON.
    pub(super) fn document(&self, name: &str) -> Result<Value, SuiteError> {
        Ok(tables::document(&self.path(name))?)
    }
}

fn walk(folder: &Path, below: &str, depth: usize, names: &mut Vec<String>) -> Result<(), String> {
    let broken = |error: std::io::Error| format!("{}: {error}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') {
            continue;
        }
        // The hub's cache holds links to files. Links to folders are not followed: they could form a cycle.
        let kind = entry.file_type().map_err(broken)?;
        let path = format!("{below}{name}");
        if kind.is_dir() {
            if depth < DEEPEST {
                walk(&entry.path(), &format!("{path}/"), depth + 1, names)?;
            }
        } else if !kind.is_file() && entry.path().metadata().is_ok_and(|about| !about.is_file()) {
            // Reading a pipe or a device may never end (law L10).
            continue;
        } else if names.len() < MOST_FILES {
            names.push(path);
        } else {
            return Err(format!("{} has more than {MOST_FILES} files", folder.display()));
        }
    }
    Ok(())
}

/// A row of a benchmark's files.
#[derive(Clone, Debug)]
pub(super) struct PublishedRecord {
    /// The file and row number.
    pub place: String,
    /// The row's columns.
    pub fields: Fields,
    /// The picture of the question.
    pub picture: Option<Encoded>,
    /// Whether the row is a question; else it is shown before questions as a shot.
    pub is_asked: bool,
    /// Why the row cannot be asked.
    pub broken: Option<String>,
}

impl PublishedRecord {
    /// Makes a question about the row's first picture.
    pub(super) fn of(row: TableRow) -> Self {
        let picture = row
            .fields
            .pictures
            .get("image")
            .and_then(|all| all.first())
            .cloned();
        Self {
            place: row.place,
            fields: row.fields,
            picture,
            is_asked: true,
            broken: None,
        }
    }

    /// Makes a row that cannot be read.
    pub(super) fn broken(place: String, why: String) -> Self {
        let row = TableRow {
            place,
            fields: Fields::default(),
        };
        Self {
            broken: Some(why),
            ..Self::of(row)
        }
    }

    /// Makes a row of an object's fields.
    pub(super) fn of_object(place: String, value: &Value) -> Self {
        match value {
            Value::Object(values) => Self::of(TableRow {
                place,
                fields: Fields {
                    values: values.clone(),
                    ..Fields::default()
                },
            }),
            _ => Self::broken(place, "an object was expected".to_owned()),
        }
    }

    /// Marks the row as a shot.
    pub(super) fn shown(self) -> Self {
        Self {
            is_asked: false,
            ..self
        }
    }

    /// Sets the picture; an error makes the row broken.
    pub(super) fn about(self, picture: Result<Encoded, String>) -> Self {
        match picture {
            Ok(picture) => Self {
                picture: Some(picture),
                ..self
            },
            Err(why) => Self {
                broken: self.broken.or(Some(why)),
                ..self
            },
        }
    }

    /// Describes where and why the row is broken.
    pub(super) fn complaint(&self) -> Option<String> {
        let why = self.broken.as_ref()?;
        Some(format!("{}: {why}", self.place))
    }

    /// Returns a column's value.
    pub(super) fn value(&self, name: &str) -> &Value {
        self.fields.values.get(name).unwrap_or(&Value::Null)
    }

    /// Returns a column's text as written.
    ///
    /// # Errors
    /// A message if it is missing or not a text.
    pub(super) fn text(&self, name: &str) -> Result<&str, String> {
        self.value(name)
            .as_str()
            .ok_or_else(|| format!("`{name}`: a text was expected; found {}", self.fields.names()))
    }

    /// Returns a column's text or number in words; empty if it is missing.
    pub(super) fn word(&self, name: &str) -> String {
        match self.value(name) {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// Returns a column's list of texts.
    ///
    /// # Errors
    /// A message if it is missing or not a list of texts.
    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, String> {
        texts(self.value(name)).ok_or_else(|| format!("`{name}`: a list of texts was expected"))
    }

    /// Returns the texts that must not be trained on, for benchmarks that do not state them: the captions; the question
    /// and its options; else the prompt.
    fn bare(&self, prompt: &str) -> Vec<String> {
        if let Ok(captions) = self.texts("captions") {
            return captions;
        }
        let Ok(question) = self.text("question") else {
            return vec![prompt.to_owned()];
        };
        let options = self
            .fields
            .values
            .iter()
            .filter(|(name, _)| matches!(name.as_bytes(), [b'A'..=b'Z']));
        let options = options.filter_map(|(_, text)| text.as_str());
        std::iter::once(question)
            .chain(options)
            .map(str::to_owned)
            .collect()
    }

    /// Whether the table names its picture's file, or the first of them, as PNG; without such a name, the file's own
    /// counts.
    fn is_png(&self) -> bool {
        let own = match &self.picture {
            Some(Encoded::File(path)) => path.to_string_lossy().into_owned(),
            _ => String::new(),
        };
        let named = Some(self.word("image_path")).filter(|name| !name.is_empty());
        let named = named.unwrap_or(own).to_lowercase();
        let first = named.split(',').next().unwrap_or_default();
        first.trim_end_matches([' ', ']', '\'', '"']).ends_with(".png")
    }

    /// Sets the id from the content and from the picture's name: the same question about another picture is another
    /// item, although its picture is not decoded before it is asked.
    fn named(&self, mut example: Example) -> Example {
        let Some(picture) = &self.picture else {
            return example.with_id();
        };
        example.turns.push(Turn {
            role: "picture".to_owned(),
            content: picture.name(),
        });
        let mut example = example.with_id();
        example.turns.pop();
        example
    }

    /// Makes the item of the row.
    pub(super) fn item(&self, of: &dyn Published, asked: Result<Asked, String>) -> Item {
        let broken = self.broken.clone().or_else(|| asked.as_ref().err().cloned());
        let asked = asked.unwrap_or_else(|_| Asked::text("", ""));
        let example = Example {
            id: String::new(),
            source: of.name().to_owned(),
            place: self.place.clone(),
            licence: of.description().source.licence.to_owned(),
            split: Split::Test,
            kind: asked.kind,
            category: asked.category,
            held_out: false,
            prompt: asked.prompt,
            turns: asked.turns,
            picture: None,
            reasoning: None,
            answer: Some(asked.reference.clone()).filter(|text| !text.is_empty()),
            check: match asked.reference.is_empty() {
                true => Check::None,
                false => Check::Exact {
                    answer: asked.reference,
                },
            },
            columns: asked.columns,
        };
        let bare = match asked.bare.is_empty() {
            true => self.bare(&example.prompt),
            false => asked.bare,
        };
        let mut item = Item::from(self.named(example));
        item.bare = bare;
        item.picture.clone_from(&self.picture);
        item.is_png = self.is_png();
        item.group = asked.group;
        item.is_secret = asked.is_secret;
        item.broken = broken.map(|why| format!("{}: {why}", self.place));
        item
    }
}

/// Converts a JSON list of texts.
pub(super) fn texts(value: &Value) -> Option<Vec<String>> {
    let all = value.as_array()?.iter();
    all.map(|one| one.as_str().map(str::to_owned)).collect()
}
