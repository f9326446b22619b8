//! Resolves a path to files: a file, the files of a folder, a pattern (`train-*.parquet`), or numbered shards
//! (`{0000..0012}.tar`).
//!
//! Of a folder, including a pulled hub data set, the files with the format's endings are taken. If paths name splits
//! (`train-00000.parquet`, `test/…`), only files of the wanted split are taken.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::row::{ReadError, RowPlace};
use crate::example::Split;

/// The deepest nesting of folders that is searched (law L9).
const DEPTH: usize = 16;
/// The most files of a folder or pattern, of all splits, that are looked at (law L9).
const MOST_NAMES: usize = 16 * RowPlace::MOST_FILES;

/// The most ways over links to a folder (law L9). Where each of a dozen folders has links to all others, there are
/// millions.
const MOST_WAYS: usize = 100;

/// The words in a path that name a split.
const WORDS: [(&str, Split); 7] = [
    ("train", Split::Train),
    ("training", Split::Train),
    ("validation", Split::Validation),
    ("valid", Split::Validation),
    ("dev", Split::Validation),
    ("test", Split::Test),
    ("testing", Split::Test),
];

/// Returns the files that a path means, in order; `endings` are the format's file endings.
///
/// # Errors
/// An error if there is no file, if a folder cannot be listed, if something found is not a regular file, or if there
/// are more files than a source may have.
pub fn files(path: &Path, endings: &[&str], split: Split) -> Result<Vec<PathBuf>, ReadError> {
    let (mut found, mut other) = (Vec::new(), None);
    for one in expanded(path)? {
        if one.is_dir() {
            let mut all = Vec::new();
            list(&one, endings, DEPTH, &mut Descent::default(), &mut all)?;
            all.sort();
            other = other.or_else(|| all.first().cloned());
            found.extend(of_split(&one, all, split));
        } else {
            found.push(one);
        }
    }
    if found.is_empty() {
        let message = match other {
            Some(other) => format!(
                "a folder with files of the split {} was expected; found only files of other splits, such as {}",
                split.name(),
                other.display()
            ),
            None => format!(
                "a file was expected, or a folder with files that end in {}; found a folder without such files",
                endings.join(", ")
            ),
        };
        return Err(ReadError::format(path, message));
    }
    // L10: opening a FIFO blocks until a process writes to it, and the run could not be stopped meanwhile.
    let is_other = |path: &&PathBuf| path.metadata().is_ok_and(|about| !about.is_file());
    if let Some(other) = found.iter().find(is_other) {
        let message = "a regular file was expected; found a pipe, a socket or a device".to_owned();
        return Err(ReadError::format(other, message));
    }
    if found.len() > RowPlace::MOST_FILES {
        let (count, most) = (found.len(), RowPlace::MOST_FILES);
        return Err(ReadError::format(
            path,
            format!("found {count} files, expected at most {most}"),
        ));
    }
    Ok(found)
}

/// Whether a path exists or its pattern matches something.
#[must_use]
pub fn is_there(path: &Path) -> bool {
    path.exists() || expanded(path).is_ok_and(|all| all.first().is_some_and(|first| first.exists()))
}

/// Whether a path contains pattern characters.
fn is_pattern(text: &str) -> bool {
    text.contains(['{', '*', '?', '['])
}

/// Expands the braces and wildcards of a path. A path that exists or has none is returned as it is.
fn expanded(path: &Path) -> Result<Vec<PathBuf>, ReadError> {
    let text = path.to_string_lossy();
    if path.exists() || !is_pattern(&text) {
        return Ok(vec![path.to_owned()]);
    }
    let mut all = Vec::new();
    for name in braces(&text).map_err(|message| ReadError::format(path, message))? {
        if !name.contains(['*', '?', '[']) {
            all.push(PathBuf::from(name));
            continue;
        }
        let matches = glob::glob(&name).map_err(|error| ReadError::format(path, error.to_string()))?;
        let before = all.len();
        all.extend(matches.flatten().take((MOST_NAMES + 1).saturating_sub(before)));
        if all.len() > MOST_NAMES {
            return Err(too_many(path));
        }
        if all.len() == before {
            return Err(ReadError::format(path, format!("there is no file {name}")));
        }
    }
    Ok(all)
}

/// Expands `a{1..3}b{x,y}` as a shell does; numbers keep their written width.
fn braces(text: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = text.split_once('{') else {
        return Ok(vec![text.to_owned()]);
    };
    let Some((inside, after)) = rest.split_once('}') else {
        return Err("a { without its }".to_owned());
    };
    let here: Vec<String> = match inside.split_once("..") {
        Some((first, last)) => numbers(first, last)?,
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let after = braces(after)?;
    if here.len() * after.len() > RowPlace::MOST_FILES {
        return Err(format!(
            "{{{inside}}} stands for too many files; expected at most {}",
            RowPlace::MOST_FILES
        ));
    }
    let joined = here
        .iter()
        .flat_map(|here| after.iter().map(move |after| format!("{before}{here}{after}")));
    Ok(joined.collect())
}

fn numbers(first: &str, last: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let parsed = text.parse::<u64>();
        parsed.map_err(|_| format!("{{{first}..{last}}}: two numbers were expected, found {text:?}"))
    };
    let (low, high) = (number(first)?, number(last)?);
    if low > high || high - low >= RowPlace::MOST_FILES as u64 {
        let most = RowPlace::MOST_FILES;
        return Err(format!(
            "{{{first}..{last}}}: from low to high, at most {most} numbers, was expected"
        ));
    }
    let wide = first.len();
    Ok((low..=high).map(|number| format!("{number:0wide$}")).collect())
}

/// The way from a folder down to the one that is listed, over folders and links to folders. A link to a folder on the
/// way leads nowhere new and is passed over.
#[derive(Debug, Default)]
pub(super) struct Descent {
    /// Device and number of the folders on the way.
    above: Vec<(u64, u64)>,
    /// The number of ways on which a folder was listed.
    ways: HashMap<(u64, u64), usize>,
}

impl Descent {
    /// Goes down to a folder, and returns whether it is to be listed; if so, [`Self::leave`] goes up again.
    ///
    /// # Errors
    /// An error if the folder cannot be looked at, or if more than [`MOST_WAYS`] ways lead to it.
    pub(super) fn enter(&mut self, folder: &Path) -> Result<bool, ReadError> {
        let about = folder.metadata().map_err(|error| ReadError::io(folder, error))?;
        let id = (about.dev(), about.ino());
        if self.above.contains(&id) {
            return Ok(false);
        }
        let ways = self.ways.entry(id).or_default();
        *ways += 1;
        if *ways > MOST_WAYS {
            return Err(ReadError::format(
                folder,
                format!(
                    "links lead to this folder on more than {MOST_WAYS} ways; expected at most that many"
                ),
            ));
        }
        self.above.push(id);
        Ok(true)
    }

    /// Goes up to the folder before.
    pub(super) fn leave(&mut self) {
        self.above.pop();
    }
}

fn list(
    folder: &Path,
    endings: &[&str],
    depth: usize,
    descent: &mut Descent,
    found: &mut Vec<PathBuf>,
) -> Result<(), ReadError> {
    if !descent.enter(folder)? {
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).map_err(|error| ReadError::io(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| ReadError::io(folder, error))?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_lowercase();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            if depth > 0 {
                list(&path, endings, depth - 1, descent, found)?;
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            if found.len() >= MOST_NAMES {
                return Err(too_many(folder));
            }
            found.push(path);
        }
    }
    descent.leave();
    Ok(())
}

fn too_many(path: &Path) -> ReadError {
    ReadError::format(
        path,
        format!("found more than {MOST_NAMES} files, expected at most that many"),
    )
}

/// Selects the files of a split; if none names that split, those that name no split.
fn of_split(root: &Path, all: Vec<PathBuf>, wanted: Split) -> Vec<PathBuf> {
    let splits: Vec<Option<Split>> = all
        .iter()
        .map(|path| split(path.strip_prefix(root).unwrap_or(path)))
        .collect();
    let named = splits.contains(&Some(wanted)).then_some(wanted);
    let kept = all.into_iter().zip(splits).filter(|(_, split)| *split == named);
    kept.map(|(path, _)| path).collect()
}

/// Returns the split that the last split word of a path names.
fn split(path: &Path) -> Option<Split> {
    let text = path.to_string_lossy().to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphabetic());
    let known = |word: &str| {
        WORDS
            .iter()
            .find(|(known, _)| *known == word)
            .map(|(_, split)| *split)
    };
    words.filter_map(known).next_back()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    #[test]
    fn l10_a_queue_is_no_file_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        let queue = folder.path().join("rows.jsonl");
        let made = std::process::Command::new("mkfifo").arg(&queue).status().unwrap();
        assert!(made.success());
        for path in [folder.path(), &queue] {
            let refused = files(path, &[".jsonl"], Split::Train).unwrap_err().to_string();
            assert!(
                refused.contains("rows.jsonl") && refused.contains("a regular file was expected"),
                "{refused}"
            );
        }
    }

    #[test]
    fn braces_stand_for_what_a_shell_makes_of_them() {
        assert_eq!(
            braces("a-{08..10}.tar").unwrap(),
            ["a-08.tar", "a-09.tar", "a-10.tar"]
        );
        assert_eq!(braces("{a,b}{1..2}").unwrap(), ["a1", "a2", "b1", "b2"]);
        for wrong in [
            "{1..",
            "{3..1}",
            "{a..b}",
            "{0..99999999}",
            "{0..60000}{0..60000}",
        ] {
            assert!(braces(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn paths_say_their_split() {
        for (path, wanted) in [
            ("data/train-00000-of-00003.parquet", Some(Split::Train)),
            ("plain/test/0.parquet", Some(Split::Test)),
            ("dev.jsonl", Some(Split::Validation)),
            ("contest.jsonl", None),
        ] {
            assert_eq!(split(Path::new(path)), wanted, "{path}");
        }
    }
}
