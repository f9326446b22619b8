//! Law L6: no training example overlaps a registered benchmark.
//!
//! Text overlaps an item by one of three rules, by the length of the item's prompt:
//!
//! - [`GRAM`] words or more: the text shares a run of [`GRAM`] words with it (the 13-gram rule of GPT-3, appendix C);
//! - [`SHORTEST`] words or more: the text contains all its words, consecutively and in order;
//! - fewer: the text equals it.
//!
//! Prompt, reasoning and answer are all searched. A picture overlaps when its pixels equal an item's, whatever the
//! texts say; the texts beside a picture are searched like any other.
//!
//! For a published benchmark, the question and its choices are searched without the wording that a protocol puts around
//! them. A choice, and a question about a picture, is searched only if it is long enough to be distinctive. Its
//! pictures are compared by likeness (`likeness.rs`), so another size, quality or format counts as the same picture.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};

use crate::curation::dedup::words;
use crate::curation::likeness::Likeness;
use crate::example::Example;

/// The number of consecutive words that a text may not share with an item.
pub const GRAM: usize = 13;
/// The fewest words with which an item is searched inside longer texts.
pub const SHORTEST: usize = 6;

/// An overlap: the benchmark and the rule that found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The benchmark.
    pub benchmark: String,
    /// `13-gram`, `whole`, `picture` or `likeness`.
    pub rule: &'static str,
}

/// The index of the benchmark items that must not be trained on.
#[derive(Clone, Debug, Default)]
pub struct Forbidden {
    names: Vec<String>,
    /// Hashes of word runs, by run length; each maps to the number of its benchmark.
    runs: HashMap<usize, HashMap<u64, usize>>,
    whole: HashMap<u64, usize>,
    pictures: HashMap<u64, usize>,
    /// Likenesses of published pictures, each with the number of its benchmark.
    likenesses: Vec<(Likeness, usize)>,
    seen: HashSet<u64>,
}

impl Forbidden {
    /// Registers the items of a benchmark. The index keeps hashes, not the items.
    pub fn register(&mut self, benchmark: &str, items: impl IntoIterator<Item = impl Borrow<Example>>) {
        let number = self.names.len();
        self.names.push(benchmark.to_owned());
        for item in items {
            let item = item.borrow();
            if let Some(key) = picture_key(item) {
                self.pictures.entry(key).or_insert(number);
                continue;
            }
            self.register_text(&item.prompt, number);
        }
    }

    /// Registers a published benchmark. Each item is its question followed by its choices, and whether it is about a
    /// picture; `pictures` are the likenesses of its pictures.
    pub fn register_published<'a>(
        &mut self,
        benchmark: &str,
        items: impl IntoIterator<Item = (&'a [String], bool)>,
        pictures: impl IntoIterator<Item = Likeness>,
    ) {
        let number = self.names.len();
        self.names.push(benchmark.to_owned());
        for (texts, has_picture) in items {
            for (at, text) in texts.iter().enumerate() {
                let length = words(text).len();
                let is_its_own = match (at, has_picture) {
                    (0, false) => true,
                    (_, false) => length >= SHORTEST,
                    (_, true) => length >= GRAM,
                };
                if is_its_own {
                    self.register_text(text, number);
                }
            }
        }
        let likenesses = pictures.into_iter().map(|likeness| (likeness, number));
        self.likenesses.extend(likenesses);
    }

    fn register_text(&mut self, text: &str, number: usize) {
        let words = words(text);
        if words.is_empty() || !self.seen.insert(hash(&words)) {
            return;
        }
        self.whole.entry(hash(&words)).or_insert(number);
        if words.len() >= SHORTEST {
            let length = words.len().min(GRAM);
            let table = self.runs.entry(length).or_default();
            for run in words.windows(length) {
                table.entry(hash(run)).or_insert(number);
            }
        }
    }

    /// Returns the benchmarks' names, in the order of registration.
    #[must_use]
    pub fn benchmarks(&self) -> &[String] {
        &self.names
    }

    /// Returns the first overlap found between an example and a benchmark.
    #[must_use]
    pub fn overlap(&self, example: &Example) -> Option<Overlap> {
        let named = |number: &usize, rule| Overlap {
            benchmark: self.names[*number].clone(),
            rule,
        };
        let picture = picture_key(example).and_then(|key| self.pictures.get(&key));
        if let Some(number) = picture {
            return Some(named(number, "picture"));
        }
        if let Some(number) = self.shown_before(example) {
            return Some(named(&number, "likeness"));
        }
        let reasoning = example.reasoning.as_deref().unwrap_or_default();
        let answer = example.answer.as_deref().unwrap_or_default();
        let said = example.turns.iter().map(|turn| turn.content.as_str());
        for text in [example.prompt.as_str(), reasoning, answer]
            .into_iter()
            .chain(said)
        {
            let words = &words(text);
            if let Some(number) = self.whole.get(&hash(words)) {
                return Some(named(number, "whole"));
            }
            for (&length, table) in &self.runs {
                let found = words.windows(length).find_map(|run| table.get(&hash(run)));
                if let Some(number) = found {
                    return Some(named(number, if length == GRAM { "13-gram" } else { "whole" }));
                }
            }
        }
        None
    }
}

impl Forbidden {
    /// Returns the number of the published benchmark that has a picture with the example's likeness.
    fn shown_before(&self, example: &Example) -> Option<usize> {
        if self.likenesses.is_empty() {
            return None;
        }
        let likeness = Likeness::of(example.picture.as_ref()?)?;
        let found = self.likenesses.iter().find(|(other, _)| likeness.is_of(other));
        found.map(|(_, number)| *number)
    }
}

/// Returns the hash of the picture's pixels, which identifies an item with a picture.
fn picture_key(example: &Example) -> Option<u64> {
    let picture = example.picture.as_ref()?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&picture.rgb);
    Some(first(&hasher))
}

fn hash(words: &[String]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(word.as_bytes());
        hasher.update(b" ");
    }
    first(&hasher)
}

fn first(hasher: &blake3::Hasher) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
