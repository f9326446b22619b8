//! Runs of up to four words: numbered within a picture, and in how many pictures' references each stands.
//!
//! A run has a number among its picture's runs, so that scores are sums over short arrays, and what is hashed for them fits the
//! nearest cache. Only how many pictures know a run is asked of all runs together, a part of them at a time for the same reason.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::vocabulary::CaptionedPicture;

/// The longest run of words that is counted.
pub const LONGEST: usize = 4;

/// A run of up to four words, absent ones zero.
type Run = [u32; LONGEST];

/// Parts of all runs, by their hash.
const PARTS: usize = 256;
/// In a place of [`Known`]: the run is no reference's.
const FOREIGN: u32 = 1 << 31;

/// A hasher of few whole numbers: what is hashed here is made by this file, so nobody can choose what collides.
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

/// The numbers of a picture's runs, in the order in which they were met.
#[derive(Debug, Default)]
pub struct Numbering {
    /// A run's number and 1 at a place of its hash; 0 is free. A power of two, more than twice what is numbered.
    table: Vec<u32>,
    runs: Vec<Run>,
    /// The caption that had a run last, from 1, and where it stands among that caption's counts.
    last: Vec<(u32, u32)>,
    captions: u32,
}

impl Numbering {
    /// Forgets all and numbers a picture's runs: those of its references, then the others of its prediction. Gives how many are
    /// of references.
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

    /// How many runs are numbered.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Words of each run, by its number.
    pub fn lengths(&self) -> impl Iterator<Item = usize> {
        let length = |run: &Run| run.iter().take_while(|word| **word != 0).count();
        self.runs.iter().map(length)
    }

    /// How often each run stands in a caption, in the order of first appearance.
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

/// Runs of a caption by their numbers, and how often each stands there.
pub type Counts = Vec<(u32, f64)>;

/// The same for a picture's captions.
#[derive(Debug, Default)]
pub struct PictureCounts {
    /// Of what is judged.
    pub prediction: Counts,
    /// Of what it is held against.
    pub references: Vec<Counts>,
}

/// In how many pictures' references the runs of each picture stand.
#[derive(Debug)]
pub struct Known {
    /// Of each picture where its runs begin.
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

    /// Of one picture, by the numbers of its runs.
    pub fn of_picture(&self, number: usize) -> &[u32] {
        let end = self.starts.get(number + 1).copied();
        &self.pictures[self.starts[number]..end.unwrap_or(self.pictures.len())]
    }
}
