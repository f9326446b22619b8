//! What a profile names by paths of the person's working folder and environment, made to hold for the daemon, which has
//! others, and for the run when it goes on another day.

use std::path::{Path, PathBuf};

use demask_datasets::place;
use toml_edit::{DocumentMut, Value};

use super::check::{Wrong, wrong};
use super::text::{self, line_of};
use super::{Profile, ProfileError};

impl Profile {
    /// The profile's text with every path whole and the data's folder in it; what it names is there.
    ///
    /// # Errors
    /// A wrong profile; a file or folder that is missing, with the line that names it and what to do.
    pub fn anchored(text: &str, origin: &str, from_scratch: bool) -> Result<String, ProfileError> {
        let profile = Self::parse(text, origin)?;
        let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| {
            text::located(origin, text, error.span(), error.message())
        })?;
        for found in profile.paths(from_scratch) {
            let put = found.and_then(|(path, file)| {
                let value = Value::from(file.to_string_lossy().into_owned());
                text::place(document.as_table_mut(), &path, value).map_err(|why| (path, why))
            });
            put.map_err(|(path, message)| ProfileError {
                origin: origin.to_owned(),
                line: line_of(text, &path),
                message,
            })?;
        }
        Ok(document.to_string())
    }

    /// Each path to put in place: where in the profile, and whole.
    fn paths(&self, from_scratch: bool) -> Vec<Result<(String, PathBuf), Wrong>> {
        let data = self.data.clone().or_else(place::folder);
        let mut all: Vec<_> = data.iter().map(|folder| whole("data", folder)).collect();
        let reading = self
            .sources
            .iter()
            .enumerate()
            .filter(|(_, source)| source.kind.reads());
        for (number, source) in reading {
            let path = format!("source.{number}.path");
            let named = source.path.as_deref().unwrap_or(Path::new(""));
            all.push(given(&path, &source.name, named, data.as_deref()));
        }
        let folders = match from_scratch {
            true => (
                "image_tokenizer_from",
                self.image_tokenizer_from.as_ref(),
                "image_tokenizer/config.json",
            ),
            false => ("start_from", self.start_from.as_ref(), "manifest.json"),
        };
        let (path, named, holds) = folders;
        let named = named.filter(|named| named.as_os_str() != "shipped");
        all.extend(named.map(|named| checkpoint(path, named, holds)));
        all
    }
}

fn whole(path: &str, file: &Path) -> Result<(String, PathBuf), Wrong> {
    match std::path::absolute(file) {
        Ok(whole) => Ok((path.to_owned(), whole)),
        Err(error) => wrong(path, &format!("{path} {}: {error}", file.display())),
    }
}

/// A source's file or folder.
fn given(path: &str, source: &str, named: &Path, data: Option<&Path>) -> Result<(String, PathBuf), Wrong> {
    let below = data
        .map(|folder| folder.join(named))
        .filter(|below| below.exists());
    let found = if named.exists() {
        named.to_owned()
    } else {
        below.unwrap_or_else(|| place::find(named))
    };
    if found.exists() {
        return whole(path, &found);
    }
    let message = format!(
        "source {source}: there is no {}; name it whole, or the folder that holds it in {}",
        named.display(),
        place::VARIABLE
    );
    wrong(path, &message)
}

/// A checkpoint's folder.
fn checkpoint(path: &str, named: &Path, holds: &str) -> Result<(String, PathBuf), Wrong> {
    if named.join(holds).is_file() {
        return whole(path, named);
    }
    let message = format!(
        "{path} is {}; expected a checkpoint folder, found no {holds} in it",
        named.display()
    );
    wrong(path, &message)
}
