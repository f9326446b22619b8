//! A folder of pictures with captions.
//!
//! A caption comes from a list, `captions.jsonl` (`{"file": …, "caption": …}`) or `metadata.jsonl` (`{"file_name": …,
//! "text": …}`); else from a text file of the same name beside the picture; else from the name of the picture's folder
//! (`cats/1.png` is "cats").

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_api::bounded_file;

use super::{Reader, Rows};
use crate::example::{CAPTION_PROMPT, Example, Kind, Split};
use crate::formats::row::{BadRow, Origin, ReadError, Row, placed};
use crate::pictures::file as picture_file;

/// The names of caption lists; the first list that names a picture captions it.
pub const CAPTIONS: [&str; 2] = ["captions.jsonl", "metadata.jsonl"];

/// The file endings of pictures.
const ENDINGS: &[&str] = &[".png", ".jpg", ".jpeg"];
/// The most bytes of a picture's own text file, and of a caption list (law L9).
const LONGEST_CAPTION: u64 = 1 << 20;
const LONGEST_LIST: u64 = 1 << 30;
/// The deepest nesting of folders.
const DEEPEST: usize = 64;

/// The reader of the format `image_folder`.
#[derive(Clone, Copy, Debug)]
pub struct ImageFolderReader;

impl Reader for ImageFolderReader {
    fn name(&self) -> &'static str {
        "image_folder"
    }

    fn about(&self) -> &'static str {
        "a folder of pictures with captions"
    }

    fn has_columns(&self) -> bool {
        false
    }

    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    /// Lists every picture: file names do not tell a split.
    fn files(&self, path: &Path, _: Split) -> Result<Vec<PathBuf>, ReadError> {
        let mut files = Vec::new();
        list(path, DEEPEST, &mut files)?;
        Ok(files)
    }

    /// Whether a folder is an image folder: it has pictures at its top level, or a caption list and pictures
    /// anywhere. JSON lines and text files in it are then captions.
    fn is_certain_of(&self, folder: &Path) -> bool {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        if entries
            .map(|entry| entry.path())
            .any(|path| is_picture(&path) && !path.is_dir())
        {
            return true;
        }
        let has_captions = CAPTIONS.iter().any(|name| folder.join(name).is_file());
        has_captions
            && self
                .files(folder, Split::Train)
                .is_ok_and(|files| !files.is_empty())
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(ImageFolder::open(path, origin)?))
    }
}

/// The pictures of a folder in the order of their names, one at a time.
#[derive(Debug)]
pub struct ImageFolder {
    files: std::vec::IntoIter<PathBuf>,
    captions: BTreeMap<PathBuf, String>,
    bad: std::vec::IntoIter<BadRow>,
    root: PathBuf,
    number: u64,
    origin: Origin,
}

impl ImageFolder {
    /// Lists a folder recursively and reads its captions.
    ///
    /// # Errors
    /// An error if the folder cannot be listed or has no picture, or if a caption list cannot be read. A broken line of
    /// a caption list is a bad row instead.
    pub fn open(root: &Path, origin: Origin) -> Result<Self, ReadError> {
        let mut files = Vec::new();
        list(root, DEEPEST, &mut files)?;
        if files.is_empty() {
            return Err(ReadError::format(
                root,
                "a folder with .png or .jpg files was expected",
            ));
        }
        files.sort();
        let (mut listed, mut bad) = (BTreeMap::new(), Vec::new());
        for name in CAPTIONS {
            captions(root, name, &mut listed, &mut bad)?;
        }
        Ok(Self {
            captions: listed,
            bad: bad.into_iter(),
            files: files.into_iter(),
            root: root.to_owned(),
            number: 0,
            origin,
        })
    }

    fn words(&self, file: &Path) -> Result<String, String> {
        match self.captions.get(file) {
            Some(caption) if caption.is_empty() => return Err("the caption is empty".into()),
            Some(caption) => return Ok(caption.clone()),
            None => {}
        }
        let beside = file.with_extension("txt");
        match bounded_file::read_text(&beside, LONGEST_CAPTION) {
            Ok(text) => {
                let text = text.trim_start_matches('\u{feff}').trim();
                return if text.is_empty() {
                    Err(format!("{} is empty", beside.display()))
                } else {
                    Ok(text.to_owned())
                };
            }
            // Only without a text of its own has a picture the caption of its folder.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", beside.display())),
        }
        match file
            .parent()
            .filter(|parent| *parent != self.root)
            .and_then(Path::file_name)
        {
            Some(name) => Ok(name.to_string_lossy().replace(['_', '-'], " ")),
            None => Err(format!(
                "there is no caption, neither in {}, nor in {}, nor as the name of a folder",
                CAPTIONS.join(" or "),
                beside.display()
            )),
        }
    }

    fn row(&self, file: &Path) -> Result<Vec<Example>, String> {
        let words = self.words(file)?;
        let picture = picture_file::read(file, self.origin.pixels)?;
        let example = |kind, prompt: &str, answer: Option<String>| {
            Example {
                kind,
                prompt: prompt.to_owned(),
                picture: Some(picture.clone()),
                answer,
                ..self.origin.blank()
            }
            .with_id()
        };
        Ok(vec![
            example(Kind::TextToImage, &words, None),
            example(Kind::Caption, CAPTION_PROMPT, Some(words.clone())),
        ])
    }
}

impl Iterator for ImageFolder {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        if let Some(bad) = self.bad.next() {
            return Some(Err(bad));
        }
        let file = self.files.next()?;
        self.number += 1;
        let line = self.number;
        Some(match self.row(&file) {
            Ok(examples) => Ok(placed(examples, &file, line)),
            Err(reason) => Err(BadRow { file, line, reason }),
        })
    }
}

fn is_picture(path: &Path) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .to_lowercase();
    ENDINGS.iter().any(|ending| name.ends_with(ending))
}

fn list(folder: &Path, deeper: usize, files: &mut Vec<PathBuf>) -> Result<(), ReadError> {
    if deeper == 0 {
        return Err(ReadError::format(
            folder,
            format!("folders are nested more than {DEEPEST} deep, or links form a cycle"),
        ));
    }
    let entries = std::fs::read_dir(folder).map_err(|error| ReadError::io(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| ReadError::io(folder, error))?.path();
        if path.is_dir() {
            list(&path, deeper - 1, files)?;
        } else if is_picture(&path) {
            files.push(path);
        }
    }
    Ok(())
}

/// Reads a caption list, if it exists, into `listed` and its broken lines into `bad`.
fn captions(
    root: &Path,
    name: &str,
    listed: &mut BTreeMap<PathBuf, String>,
    bad: &mut Vec<BadRow>,
) -> Result<(), ReadError> {
    #[derive(serde::Deserialize)]
    struct MetadataLine {
        #[serde(alias = "file_name")]
        file: PathBuf,
        #[serde(alias = "text")]
        caption: String,
    }
    let path = root.join(name);
    let text = match bounded_file::read_text(&path, LONGEST_LIST) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ReadError::io(&path, error)),
    };
    for (number, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<MetadataLine>(line) {
            Ok(line) => {
                let caption = line.caption.trim().to_owned();
                listed.entry(root.join(line.file)).or_insert(caption);
            }
            Err(error) => bad.push(BadRow {
                file: path.clone(),
                line: number as u64 + 1,
                reason: format!("a picture's file and its caption were expected: {error}"),
            }),
        }
    }
    Ok(())
}
