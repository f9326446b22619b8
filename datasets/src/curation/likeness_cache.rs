//! A cache of picture likenesses that persists between runs: a picture is decoded once, as long as its file stays the
//! same.
//!
//! A picture tells its own cache key ([`Lookable::identity`]). The cache is one file. Losing it costs only time, and a
//! file that cannot be read counts as an empty cache.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::curation::likeness::Likeness;

/// The first line of the file, with the version of the likeness algorithm.
const HEAD: &str = "demask likenesses 1";
/// The most likenesses that the file keeps, about 70 bytes each; those requested last stay.
const MOST: usize = 400_000;
/// Hex digits of a key.
const KEY: usize = 32;
/// Hex digits of a likeness.
const HASHES: usize = 32;

/// A picture whose likeness can be computed.
pub trait Lookable: Sync {
    /// Returns the cache key: a number that stays the same as long as the picture does. `None` if the picture does not
    /// exist.
    fn identity(&self) -> Option<u128>;

    /// Computes the likeness; `None` if the picture is blank.
    ///
    /// # Errors
    /// A message if the picture cannot be read or decoded.
    fn looked_at(&self) -> Result<Option<Likeness>, String>;
}

/// A likeness; `None` for a blank picture.
type Found = Option<Likeness>;

/// Likenesses by cache key.
#[derive(Debug, Default)]
pub struct LikenessCache {
    path: Option<PathBuf>,
    known: HashMap<u128, Found>,
    /// The keys that were requested since the cache was opened.
    asked: HashSet<u128>,
    /// Whether there are likenesses that the file does not have yet.
    is_new: bool,
    computed: u64,
    failed: u64,
}

impl LikenessCache {
    /// Opens the cache of a file, which need not exist.
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

    /// Returns the likenesses of pictures, each once and in no order, without the blank and unreadable ones. Unknown
    /// pictures are decoded on all processors.
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
        // Keeps the given order, so that a table of pictures is read through once.
        let open: Vec<(u128, &P)> = keyed
            .iter()
            .filter_map(|(key, _)| unknown.remove_entry(key))
            .collect();
        let found = looked_at(&open);
        self.is_new |= !found.is_empty();
        self.computed += open.len() as u64;
        // Failures are not cached: a picture that cannot be read now may be readable later.
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

    /// Returns how many pictures were decoded since the cache was opened.
    #[must_use]
    pub fn computed(&self) -> u64 {
        self.computed
    }

    /// Returns how many of those could not be read.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Writes the cache if it has new entries. The file is replaced at once, so the old one stays until the new one is
    /// complete.
    ///
    /// # Errors
    /// Any I/O error.
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

/// Parses a line of the file; `None` if it is broken.
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

/// Computes the likenesses of pictures on all processors, without those that cannot be read.
fn looked_at<P: Lookable>(open: &[(u128, &P)]) -> Vec<(u128, Found)> {
    // A panic of a decoder counts as a picture that cannot be read.
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
