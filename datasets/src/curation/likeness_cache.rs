//! The likenesses of pictures, remembered from run to run: a picture is decoded and looked at once, as long as its file is the same.
//!
//! A file is known by its path, size, time and inode, a place in a table by those of the table and the place, other pictures by their
//! bytes. The cache is one file; what is in it may be lost without harm, and a file that cannot be read is an empty cache.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::curation::likeness::Likeness;
use crate::formats::Encoded;

/// The first line: how likenesses are made. Another way has another number.
const HEAD: &str = "demask likenesses 1";
/// Likenesses that are kept at most, some 70 bytes each; those that were asked for last stay.
const MOST: usize = 400_000;
/// Digits of a key.
const KEY: usize = 32;
/// Digits of a likeness.
const HASHES: usize = 32;

/// A picture without a likeness: it is blank, or cannot be read.
type Found = Option<Likeness>;

/// Likenesses by what their pictures are known by.
#[derive(Debug, Default)]
pub struct LikenessCache {
    path: Option<PathBuf>,
    known: HashMap<u128, Found>,
    /// Those that were asked for.
    asked: HashSet<u128>,
    /// Whether there are any that the file has not.
    is_new: bool,
    computed: u64,
}

impl LikenessCache {
    /// The cache in a file, which need not be there yet.
    #[must_use]
    pub fn open(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut lines = text.lines();
        let known = match lines.next() {
            Some(HEAD) => lines.take(MOST).filter_map(read_line).collect(),
            _ => HashMap::new(),
        };
        Self {
            path: Some(path),
            known,
            ..Self::default()
        }
    }

    /// The likenesses of pictures, without those that are blank or cannot be read, in no order, each once. What is not
    /// known is looked at by all processors.
    pub fn of(&mut self, pictures: &[&Encoded]) -> Vec<Likeness> {
        let mut files = HashMap::new();
        let keyed: Vec<(u128, &Encoded)> = pictures
            .iter()
            .filter_map(|picture| Some((key(picture, &mut files)?, *picture)))
            .collect();
        let mut unknown: HashMap<u128, &Encoded> = HashMap::new();
        for (key, picture) in &keyed {
            if !self.known.contains_key(key) {
                unknown.entry(*key).or_insert(picture);
            }
        }
        // In the order in which they were given: a table is read through once.
        let open: Vec<(u128, &Encoded)> = keyed
            .iter()
            .filter_map(|(key, _)| unknown.remove_entry(key))
            .collect();
        self.is_new |= !open.is_empty();
        self.computed += open.len() as u64;
        self.known.extend(looked_at(&open));
        let mut seen = HashSet::new();
        let each = keyed.iter().filter(|(key, _)| seen.insert(*key));
        let found = each
            .filter_map(|(key, _)| self.known.get(key).copied().flatten())
            .collect();
        self.asked.extend(seen);
        found
    }

    /// How many pictures were looked at since it was opened.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// Writes what is known, where something is new: the old file stays until the new one is whole.
    ///
    /// # Errors
    /// The file system's.
    pub fn save(&mut self) -> std::io::Result<()> {
        let Some(path) = self.path.as_ref().filter(|_| self.is_new) else {
            return Ok(());
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        let mut text = format!("{HEAD}\n");
        let asked = self.known.iter().filter(|(key, _)| self.asked.contains(key));
        let others = self.known.iter().filter(|(key, _)| !self.asked.contains(key));
        for (key, found) in asked.chain(others).take(MOST) {
            let _ = match found {
                Some(likeness) => writeln!(text, "{key:0KEY$x} {:0HASHES$x}", likeness.bits()),
                None => writeln!(text, "{key:0KEY$x} -"),
            };
        }
        file.write_all(text.as_bytes())?;
        file.persist(path).map_err(|error| error.error)?;
        self.is_new = false;
        Ok(())
    }
}

/// A line of the file; none of one that is broken.
fn read_line(line: &str) -> Option<(u128, Found)> {
    let (key, found) = line.split_once(' ')?;
    let number = |digits: &str, length: usize| {
        let is_whole = digits.len() == length;
        is_whole.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
    };
    let found = match found {
        "-" => None,
        digits => Some(Likeness::from_bits(number(digits, HASHES)?)),
    };
    Some((number(key, KEY)?, found))
}

/// The likenesses of pictures, by all processors.
fn looked_at(open: &[(u128, &Encoded)]) -> Vec<(u128, Found)> {
    let each = |part: &[(u128, &Encoded)]| -> Vec<(u128, Found)> {
        let look = |(key, picture): &(u128, &Encoded)| (*key, picture.likeness().ok().flatten());
        part.iter().map(look).collect()
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let parts: Vec<_> = open
            .chunks(open.len().div_ceil(workers).max(1))
            .map(|part| (part, scope.spawn(move || each(part))))
            .collect();
        parts
            .into_iter()
            .flat_map(|(part, found)| {
                found
                    .join()
                    .unwrap_or_else(|_| part.iter().map(|one| (one.0, None)).collect())
            })
            .collect()
    })
}

/// What a picture is known by; none of a file that is not there.
fn key(picture: &Encoded, files: &mut HashMap<PathBuf, Option<String>>) -> Option<u128> {
    let named = match picture {
        Encoded::Bytes(bytes) => return Some(first(blake3::hash(bytes))),
        Encoded::File(path) => identity(path)?,
        Encoded::Stored(stored) => {
            let path = stored.file.to_path_buf();
            let table = files
                .entry(path)
                .or_insert_with(|| identity(&stored.file))
                .clone()?;
            let (group, row, column, at) = (stored.group, stored.row, stored.column, stored.at);
            format!("{table}\0{group}\0{row}\0{column}\0{at}")
        }
    };
    Some(first(blake3::hash(named.as_bytes())))
}

/// A file's path, size, time of change and inode.
fn identity(path: &Path) -> Option<String> {
    let about = std::fs::metadata(path).ok()?;
    let place = std::fs::canonicalize(path).ok()?;
    let (seconds, nanoseconds) = (about.mtime(), about.mtime_nsec());
    Some(format!(
        "{}\0{}\0{seconds}.{nanoseconds}\0{}",
        place.display(),
        about.len(),
        about.ino()
    ))
}

fn first(hash: blake3::Hash) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(bytes)
}
