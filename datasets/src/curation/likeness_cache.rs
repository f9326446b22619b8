//! The likenesses of pictures, remembered from run to run: a picture is decoded and looked at once, as long as its file is the same.
//!
//! What a picture is known by it says itself ([`Lookable`]). The cache is one file; what is in it may be lost without harm, and a file that cannot be read is an empty cache.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::curation::likeness::Likeness;

/// The first line: how likenesses are made. Another way has another number.
const HEAD: &str = "demask likenesses 1";
/// Likenesses that are kept at most, some 70 bytes each; those that were asked for last stay.
const MOST: usize = 400_000;
/// Digits of a key.
const KEY: usize = 32;
/// Digits of a likeness.
const HASHES: usize = 32;

/// A picture that may be looked at.
pub trait Lookable: Sync {
    /// What it is known by: the same number as long as it is the same picture. None where it is not there.
    fn identity(&self) -> Option<u128>;

    /// What it shows; none where it is blank.
    ///
    /// # Errors
    /// In words: it cannot be read, or is no picture.
    fn looked_at(&self) -> Result<Option<Likeness>, String>;
}

/// None of a picture that is blank.
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
    failed: u64,
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
    pub fn of<P: Lookable>(&mut self, pictures: &[&P]) -> Vec<Likeness> {
        let keyed: Vec<(u128, &P)> = pictures
            .iter()
            .filter_map(|picture| Some((picture.identity()?, *picture)))
            .collect();
        let mut unknown: HashMap<u128, &P> = HashMap::new();
        for (key, picture) in &keyed {
            if !self.known.contains_key(key) {
                unknown.entry(*key).or_insert(picture);
            }
        }
        // In the order in which they were given: a table is read through once.
        let open: Vec<(u128, &P)> = keyed
            .iter()
            .filter_map(|(key, _)| unknown.remove_entry(key))
            .collect();
        let found = looked_at(&open);
        self.is_new |= !found.is_empty();
        self.computed += open.len() as u64;
        // What could not be read today may be read tomorrow: it is not remembered.
        self.failed += (open.len() - found.len()) as u64;
        self.known.extend(found);
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

    /// How many of them could not be read.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
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

/// The likenesses of pictures, by all processors, without those that cannot be read.
fn looked_at<P: Lookable>(open: &[(u128, &P)]) -> Vec<(u128, Found)> {
    // A decoder that panics has not read it either.
    let one = |(key, picture): &(u128, &P)| {
        let found = catch_unwind(AssertUnwindSafe(|| picture.looked_at()));
        Some((*key, found.ok()?.ok()?))
    };
    let each = |part: &[(u128, &P)]| -> Vec<(u128, Found)> { part.iter().filter_map(one).collect() };
    let each = &each;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let parts: Vec<_> = open
            .chunks(open.len().div_ceil(workers).max(1))
            .map(|part| scope.spawn(move || each(part)))
            .collect();
        let found = parts.into_iter().filter_map(|part| part.join().ok());
        found.flatten().collect()
    })
}
