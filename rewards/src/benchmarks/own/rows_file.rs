//! A bare file of rows as a benchmark: only its name and a scorer are given.

use std::path::Path;

use demask_datasets::formats::reader_of;

use super::config::{OwnBenchmark, OwnKind, test};
use super::items;

/// The most characters of the benchmark's name.
const LONGEST: usize = 80;

impl OwnBenchmark {
    /// Whether the name of a file, folder or pattern tells that it holds rows.
    #[must_use]
    pub fn is_of_rows(file: &Path) -> bool {
        reader_of(file, test()).is_some()
    }

    /// Makes the benchmark of a file of rows. It is named after the file and is about pictures if the first row has
    /// one. Prompt and right answer come from the default columns.
    ///
    /// # Errors
    /// A message if the file cannot be read.
    pub fn of_rows(file: &Path, scorer: &str) -> Result<Self, String> {
        let stem = file.file_name().unwrap_or_default().to_string_lossy();
        let stem = stem.split('.').next().unwrap_or_default();
        let plain = |sign: char| {
            if sign.is_ascii_alphanumeric() || sign == '-' {
                sign
            } else {
                '_'
            }
        };
        let name: String = stem.chars().map(plain).take(LONGEST).collect();
        let mut own = Self {
            name: if name.is_empty() { "rows".to_owned() } else { name },
            about: format!("the rows of {}", file.display()),
            file: file.to_owned(),
            format: None,
            columns: Default::default(),
            kind: OwnKind::Text,
            prompt: None,
            reference: None,
            scorer: scorer.to_owned(),
            pattern: None,
            value: None,
            think: None,
            split: test(),
            limit: None,
            pixels: None,
            licence: String::new(),
        };
        if items::shows_a_picture(&own)? {
            own.kind = OwnKind::Question;
        }
        Ok(own)
    }
}
