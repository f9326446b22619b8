//! A folder of pictures with captions.
//!
//! A caption comes from a list, `captions.jsonl` (`{"file": …, "caption": …}`) or `metadata.jsonl` (`{"file_name": …,
//! "text": …}`); else from a text file of the same name beside the picture; else from the name of the picture's folder
//! (`cats/1.png` is "cats"). The names and captions are in memory; a picture is read when it is drawn.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use demask_api::bounded_file;

use super::shards::Descent;
use super::{RandomAccess, Reader, Rows};
use crate::example::{CAPTION_PROMPT, Example, Kind, Split};
use crate::formats::row::{BadRow, Origin, ReadError, Row, RowPlace, placed};
use crate::pictures::file as picture_file;

/// The names of caption lists; the first list that names a picture captions it.
pub const CAPTIONS: [&str; 2] = ["captions.jsonl", "metadata.jsonl"];

/// The file endings of pictures.
const ENDINGS: &[&str] = &[".png", ".jpg", ".jpeg"];
/// The most bytes of a picture's own text file, and of a caption list (law L9).
const LONGEST_CAPTION: u64 = 1 << 20;
const LONGEST_LIST: u64 = 256 << 20;
/// The most pictures of a folder, and lines of a caption list (law L9).
const MOST_PICTURES: usize = 1 << 22;
/// The most broken lines of a caption list.
const MOST_BAD: usize = 100_000;
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
        each(path, &mut |file| files.push(file))?;
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
        let has_pictures = || walk(folder, DEEPEST, &mut Descent::default(), &mut |_| false);
        has_captions && has_pictures().is_ok_and(|went_on| !went_on)
    }

    fn open(&self, path: &Path, origin: Origin) -> Result<Rows, ReadError> {
        Ok(Box::new(ImageFolder::open(path, origin)?))
    }

    fn open_again(
        &self,
        path: &Path,
        origin: Origin,
        _room: &Path,
    ) -> Result<Option<Box<dyn RandomAccess>>, ReadError> {
        Ok(Some(Box::new(ImageFolder::open(path, origin)?)))
    }
}

/// The pictures of a folder in the order of their names, one at a time.
#[derive(Debug)]
pub struct ImageFolder {
    /// The pictures' paths below the root.
    files: Vec<Box<Path>>,
    /// The index of the picture that is read next.
    next: usize,
    captions: BTreeMap<PathBuf, String>,
    bad: std::vec::IntoIter<BadRow>,
    root: PathBuf,
    origin: Origin,
}

impl ImageFolder {
    /// Lists a folder recursively and reads its captions.
    ///
    /// # Errors
    /// An error if the folder cannot be listed, has no picture or too many, or if a caption list cannot be read or is too
    /// long. A broken line of a caption list is a bad row instead.
    pub fn open(root: &Path, origin: Origin) -> Result<Self, ReadError> {
        let mut files: Vec<Box<Path>> = Vec::new();
        each(root, &mut |file| {
            files.push(file.strip_prefix(root).unwrap_or(&file).into());
        })?;
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
            files,
            next: 0,
            root: root.to_owned(),
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

impl RandomAccess for ImageFolder {
    fn next_row(&mut self) -> Option<(RowPlace, Row)> {
        if let Some(bad) = self.bad.next() {
            return Some((RowPlace::new(0, 0, bad.line), Err(bad)));
        }
        if self.next >= self.files.len() {
            return None;
        }
        let at = self.next as u64;
        self.next += 1;
        let place = RowPlace::new(0, at, at + 1);
        Some((place, self.read_again(place)))
    }

    fn read_again(&mut self, place: RowPlace) -> Row {
        let line = place.within() + 1;
        let name = usize::try_from(place.within())
            .ok()
            .and_then(|at| self.files.get(at));
        let (file, read) = match name.map(|name| self.root.join(name)) {
            Some(file) => {
                let read = self.row(&file);
                (file, read)
            }
            None => (self.root.clone(), Err("there is no such picture".to_owned())),
        };
        match read {
            Ok(examples) => Ok(placed(examples, &file, line)),
            Err(reason) => Err(BadRow { file, line, reason }),
        }
    }
}

impl Iterator for ImageFolder {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        self.next_row().map(|(_, row)| row)
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

/// Passes every picture below a folder on.
///
/// # Errors
/// An error if a folder cannot be listed, or if there are more than [`MOST_PICTURES`].
fn each(root: &Path, found: &mut dyn FnMut(PathBuf)) -> Result<(), ReadError> {
    let mut count = 0;
    let went_on = walk(root, DEEPEST, &mut Descent::default(), &mut |file| {
        count += 1;
        if count <= MOST_PICTURES {
            found(file);
        }
        count <= MOST_PICTURES
    })?;
    match went_on {
        true => Ok(()),
        false => Err(ReadError::format(
            root,
            format!(
                "found more than {MOST_PICTURES} pictures, the most of a folder; WebDataset's tar files may have more"
            ),
        )),
    }
}

/// Passes the pictures below a folder to `found` as long as that returns `true`. Returns whether it did to the end.
fn walk(
    folder: &Path,
    deeper: usize,
    descent: &mut Descent,
    found: &mut dyn FnMut(PathBuf) -> bool,
) -> Result<bool, ReadError> {
    if deeper == 0 {
        return Err(ReadError::format(
            folder,
            format!("folders are nested more than {DEEPEST} deep"),
        ));
    }
    if !descent.enter(folder)? {
        return Ok(true);
    }
    let entries = std::fs::read_dir(folder).map_err(|error| ReadError::io(folder, error))?;
    for entry in entries {
        let path = entry.map_err(|error| ReadError::io(folder, error))?.path();
        let goes_on = match path.is_dir() {
            true => walk(&path, deeper - 1, descent, found)?,
            false => !is_picture(&path) || found(path),
        };
        if !goes_on {
            return Ok(false);
        }
    }
    descent.leave();
    Ok(true)
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
    let file = match bounded_file::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ReadError::io(&path, error)),
    };
    let (mut text, mut line) = (BufReader::new(file).take(LONGEST_LIST + 1), String::new());
    for number in 1.. {
        line.clear();
        let taken = text.read_line(&mut line);
        if taken.map_err(|error| ReadError::io(&path, error))? == 0 {
            break;
        }
        if text.limit() == 0 || listed.len() >= MOST_PICTURES || bad.len() >= MOST_BAD {
            return Err(ReadError::format(
                &path,
                format!(
                    "a list of at most {LONGEST_LIST} bytes, {MOST_PICTURES} captions and {MOST_BAD} broken lines was \
                     expected"
                ),
            ));
        }
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<MetadataLine>(&line) {
            Ok(line) => {
                let caption = line.caption.trim().to_owned();
                listed.entry(root.join(line.file)).or_insert(caption);
            }
            Err(error) => bad.push(BadRow {
                file: path.clone(),
                line: number,
                reason: format!("a picture's file and its caption were expected: {error}"),
            }),
        }
    }
    Ok(())
}
