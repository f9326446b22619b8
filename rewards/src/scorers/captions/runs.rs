//! N-grams of up to four words: their numbers within a picture, and their document frequencies.
//!
//! Each n-gram has a number within its picture, so that scores are sums over short arrays and the hash table fits the
//! nearest cache. Only the document frequencies span all pictures; they are counted in partitions, for the same reason.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::vocabulary::CaptionedPicture;

/// The longest n-gram in words.
pub const LONGEST: usize = 4;

/// An n-gram of up to four words; absent words are zero.
type Run = [u32; LONGEST];

/// The number of partitions of all n-grams, by hash.
const PARTS: usize = 256;
/// Marks an entry of [`Known`] whose n-gram occurs in no reference.
const FOREIGN: u32 = 1 << 31;

/// A fast hasher of a few integers. The hashed values are assigned in this file, so that no input can force collisions.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 = mixed(self.0, u64::from_le_bytes(word));
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

fn mixed(state: u64, word: u64) -> u64 {
    (state.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash(run: &Run) -> u64 {
    let half = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    let state = mixed(mixed(0, half(run[0], run[1])), half(run[2], run[3]));
    state ^ (state >> 29)
}

/// The numbers of a picture's n-grams, in the order of their appearance.
#[derive(Debug, Default)]
pub struct Numbering {
    /// An open-addressing hash table: an n-gram's number plus 1; 0 is free. Its size is a power of two and more than
    /// twice the number of n-grams.
    table: Vec<u32>,
    runs: Vec<Run>,
    /// For each n-gram, the last caption that had it, from 1, and its index in that caption's counts.
    last: Vec<(u32, u32)>,
    captions: u32,
}

impl Numbering {
    /// Resets and numbers a picture's n-grams: first those of its references, then the others of its prediction.
    /// Returns how many belong to references.
    pub fn take(&mut self, picture: &CaptionedPicture, counts: &mut PictureCounts) -> usize {
        let captions = picture.references.iter().chain([&picture.prediction]);
        let words: usize = captions.map(|caption| caption.words.len()).sum();
        self.table.clear();
        self.table
            .resize((2 * LONGEST * words + 1).next_power_of_two(), 0);
        self.runs.clear();
        self.last.clear();
        self.captions = 0;
        counts.references.resize_with(picture.references.len(), Vec::new);
        for (caption, counts) in picture.references.iter().zip(&mut counts.references) {
            self.count(&caption.words, counts);
        }
        let known = self.runs.len();
        self.count(&picture.prediction.words, &mut counts.prediction);
        known
    }

    /// Returns the number of n-grams.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Returns the words of each n-gram, by number.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        let length = |run: &Run| run.iter().take_while(|word| **word != 0).count();
        self.runs.iter().map(length)
    }

    /// Counts each n-gram of a caption, in the order of first appearance.
    fn count(&mut self, words: &[u32], counts: &mut Counts) {
        counts.clear();
        self.captions += 1;
        for length in 1..=LONGEST {
            for window in words.windows(length) {
                let mut run = [0; LONGEST];
                run[..length].copy_from_slice(window);
                let number = self.number(run);
                let last = &mut self.last[number as usize];
                if last.0 == self.captions {
                    counts[last.1 as usize].1 += 1.0;
                } else {
                    *last = (self.captions, counts.len() as u32);
                    counts.push((number, 1.0));
                }
            }
        }
    }

    fn number(&mut self, run: Run) -> u32 {
        let most = self.table.len() - 1;
        let mut place = hash(&run) as usize & most;
        loop {
            match self.table[place] {
                0 => {
                    self.runs.push(run);
                    self.last.push((0, 0));
                    self.table[place] = self.runs.len() as u32;
                    return self.runs.len() as u32 - 1;
                }
                other if self.runs[other as usize - 1] == run => return other - 1,
                _ => place = (place + 1) & most,
            }
        }
    }
}

/// The n-grams of a caption by number, with their counts.
pub type Counts = Vec<(u32, f64)>;

/// The counts of a picture's captions.
#[derive(Debug, Default)]
pub struct PictureCounts {
    /// The counts of the prediction.
    pub prediction: Counts,
    /// The counts of each reference.
    pub references: Vec<Counts>,
}

/// The document frequency of each picture's n-grams: the number of pictures whose references contain them.
#[derive(Debug)]
pub struct Known {
    /// The index of each picture's first n-gram in `pictures`.
    starts: Vec<usize>,
    pictures: Vec<u32>,
}

impl Known {
    /// Counts over all pictures.
    pub fn of(pictures: &[CaptionedPicture]) -> Self {
        let mut parts: Vec<Vec<(Run, u32)>> = vec![Vec::new(); PARTS];
        let (mut numbering, mut counts) = (Numbering::default(), PictureCounts::default());
        let mut starts = Vec::with_capacity(pictures.len());
        let mut end = 0;
        for picture in pictures {
            starts.push(end);
            let known = numbering.take(picture, &mut counts);
            for (number, run) in numbering.runs.iter().enumerate() {
                let foreign = if number < known { 0 } else { FOREIGN };
                let part = (hash(run) >> 40) as usize % PARTS;
                parts[part].push((*run, (end + number) as u32 | foreign));
            }
            end += numbering.len();
        }
        let mut found = vec![0; end];
        for part in parts {
            let mut known: HashMap<Run, u32, BuildHasherDefault<Mix>> = HashMap::default();
            known.reserve(part.len() / 2);
            for (run, _) in part.iter().filter(|(_, place)| place & FOREIGN == 0) {
                *known.entry(*run).or_default() += 1;
            }
            for (run, place) in part {
                found[(place & !FOREIGN) as usize] = known.get(&run).copied().unwrap_or(0);
            }
        }
        Self {
            starts,
            pictures: found,
        }
    }

    /// Returns the frequencies of one picture's n-grams, by number.
    pub fn of_picture(&self, number: usize) -> &[u32] {
        let end = self.starts.get(number + 1).copied();
        &self.pictures[self.starts[number]..end.unwrap_or(self.pictures.len())]
    }
}
