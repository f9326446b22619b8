//! CIDEr, BLEU and ROUGE-L of captions that are tokenised.
//!
//! Source: pycocoevalcap 1.2 `Cider`, `Bleu(4)`, `Rouge`. The first two split at Python's white space, which is also the
//! unbreakable space inside a token; ROUGE splits at single spaces.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::super::python;

/// The longest run of words that is counted.
const LONGEST: usize = 4;

/// Words as numbers: the same word is the same number throughout.
#[derive(Default)]
pub struct Vocabulary<'a> {
    numbers: HashMap<&'a str, u32>,
}

impl<'a> Vocabulary<'a> {
    /// A caption's words between Python's white space.
    pub fn words(&mut self, caption: &'a str) -> Vec<u32> {
        python::words(caption)
            .into_iter()
            .map(|word| self.number(word))
            .collect()
    }

    /// A caption's pieces between single spaces.
    pub fn pieces(&mut self, caption: &'a str) -> Vec<u32> {
        caption.split(' ').map(|word| self.number(word)).collect()
    }

    fn number(&mut self, word: &'a str) -> u32 {
        let next = self.numbers.len() as u32 + 1;
        *self.numbers.entry(word).or_insert(next)
    }
}

/// A hasher of few whole numbers: what is hashed here is made by this file, so nobody can choose what collides.
#[derive(Default)]
pub struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn write_usize(&mut self, _length: usize) {}
}

/// A map from runs of words.
type Runs<V> = HashMap<Run, V, BuildHasherDefault<Mix>>;

/// A run of up to four words, absent ones zero.
type Run = [u32; LONGEST];

fn run(words: &[u32]) -> Run {
    let mut run = [0; LONGEST];
    run[..words.len()].copy_from_slice(words);
    run
}

/// How often each run stands in a caption, in the order of first appearance.
struct Counts {
    runs: Vec<(Run, f64)>,
    length: usize,
}

impl Counts {
    fn new(words: &[u32]) -> Self {
        let mut places: Runs<usize> =
            Runs::with_capacity_and_hasher(words.len() * LONGEST, BuildHasherDefault::default());
        let mut runs: Vec<(Run, f64)> = Vec::with_capacity(words.len() * LONGEST);
        for n in 1..=LONGEST {
            for window in words.windows(n) {
                let run = run(window);
                let place = *places.entry(run).or_insert(runs.len());
                match runs.get_mut(place) {
                    Some(counted) => counted.1 += 1.0,
                    None => runs.push((run, 1.0)),
                }
            }
        }
        Self {
            runs,
            length: words.len(),
        }
    }
}

fn longest(run: &Run) -> usize {
    run.iter().take_while(|word| **word != 0).count()
}

/// A caption's weights of runs, their norms by length, and the number of its pairs of words, which CIDEr calls its length.
struct Weights {
    runs: Vec<(Run, f64)>,
    norms: [f64; LONGEST],
    pairs: f64,
}

/// CIDEr of each picture and of all.
pub fn cider(predictions: &[Vec<u32>], references: &[Vec<Vec<u32>>]) -> (f64, Vec<f64>) {
    let counted: Vec<Vec<Counts>> = references
        .iter()
        .map(|captions| captions.iter().map(|words| Counts::new(words)).collect())
        .collect();
    let mut frequencies: Runs<f64> = Runs::default();
    for captions in &counted {
        let runs: HashSet<&Run, BuildHasherDefault<Mix>> = captions
            .iter()
            .flat_map(|counts| counts.runs.iter().map(|run| &run.0))
            .collect();
        for run in runs {
            *frequencies.entry(*run).or_default() += 1.0;
        }
    }
    let pictures = (references.len() as f64).ln();
    let weigh = |counts: &Counts| -> Weights {
        let mut weights = Weights {
            runs: Vec::with_capacity(counts.runs.len()),
            norms: [0.0; LONGEST],
            pairs: counts.length.saturating_sub(1) as f64,
        };
        for (run, count) in &counts.runs {
            let frequency = frequencies.get(run).copied().unwrap_or(0.0).max(1.0).ln();
            let weight = count * (pictures - frequency);
            weights.norms[longest(run) - 1] += weight * weight;
            weights.runs.push((*run, weight));
        }
        weights.norms = weights.norms.map(f64::sqrt);
        weights
    };
    let scores: Vec<f64> = predictions
        .iter()
        .zip(&counted)
        .map(|(words, captions)| {
            let prediction = weigh(&Counts::new(words));
            let mut sums = [0.0; LONGEST];
            for reference in captions {
                for (sum, value) in sums.iter_mut().zip(similarity(&prediction, &weigh(reference))) {
                    *sum += value;
                }
            }
            sums.iter().sum::<f64>() / LONGEST as f64 / captions.len() as f64 * 10.0
        })
        .collect();
    (mean(&scores), scores)
}

/// Clipped cosine by length of run, damped by the difference in length (σ = 6).
fn similarity(prediction: &Weights, reference: &Weights) -> [f64; LONGEST] {
    let known: HashMap<&Run, f64, BuildHasherDefault<Mix>> = reference
        .runs
        .iter()
        .map(|(run, weight)| (run, *weight))
        .collect();
    let mut values = [0.0; LONGEST];
    for (run, weight) in &prediction.runs {
        if let Some(other) = known.get(run) {
            values[longest(run) - 1] += weight.min(*other) * other;
        }
    }
    let difference = prediction.pairs - reference.pairs;
    let damping = (-(difference * difference) / 72.0).exp();
    for (n, value) in values.iter_mut().enumerate() {
        let norm = prediction.norms[n] * reference.norms[n];
        if prediction.norms[n] != 0.0 && reference.norms[n] != 0.0 {
            *value /= norm;
        }
        *value *= damping;
    }
    values
}

fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// What BLEU sums: lengths, guesses and right guesses by length of run.
#[derive(Default, Clone, Copy)]
struct Guesses {
    length: f64,
    reference: f64,
    guessed: [f64; LONGEST],
    right: [f64; LONGEST],
}

impl Guesses {
    fn bleu(&self) -> [f64; LONGEST] {
        const TINY: f64 = 1e-15;
        const SMALL: f64 = 1e-9;
        let ratio = (self.length + TINY) / (self.reference + SMALL);
        let mut product = 1.0;
        let mut scores = [0.0; LONGEST];
        for (n, score) in scores.iter_mut().enumerate() {
            product *= (self.right[n] + TINY) / (self.guessed[n] + SMALL);
            *score = f64::powf(product, 1.0 / (n as f64 + 1.0));
            if ratio < 1.0 {
                *score *= (1.0 - 1.0 / ratio).exp();
            }
        }
        scores
    }

    fn add(&mut self, other: &Self) {
        self.length += other.length;
        self.reference += other.reference;
        for n in 0..LONGEST {
            self.guessed[n] += other.guessed[n];
            self.right[n] += other.right[n];
        }
    }
}

/// BLEU-1 to BLEU-4 of all pictures and of each.
pub fn bleu(predictions: &[Vec<u32>], references: &[Vec<Vec<u32>>]) -> ([f64; LONGEST], Vec<[f64; LONGEST]>) {
    let mut all = Guesses::default();
    let each = predictions
        .iter()
        .zip(references)
        .map(|(words, captions)| {
            let guesses = guesses(words, captions);
            all.add(&guesses);
            guesses.bleu()
        })
        .collect();
    (all.bleu(), each)
}

fn guesses(words: &[u32], captions: &[Vec<u32>]) -> Guesses {
    let length = words.len();
    // The nearest length; the shorter of two as near.
    let nearest = captions
        .iter()
        .map(|caption| (caption.len().abs_diff(length), caption.len()))
        .min();
    let mut guesses = Guesses {
        length: length as f64,
        reference: nearest.map_or(0.0, |nearest| nearest.1 as f64),
        ..Guesses::default()
    };
    let mut most: Runs<f64> = Runs::default();
    for caption in captions {
        for (run, count) in Counts::new(caption).runs {
            let known = most.entry(run).or_default();
            *known = known.max(count);
        }
    }
    for n in 0..LONGEST {
        guesses.guessed[n] = length.saturating_sub(n) as f64;
    }
    for (run, count) in Counts::new(words).runs {
        guesses.right[longest(&run) - 1] += most.get(&run).copied().unwrap_or(0.0).min(count);
    }
    guesses
}

/// ROUGE-L of all pictures and of each; β = 1.2, precision and recall each at its own best reference.
pub fn rouge(predictions: &[Vec<u32>], references: &[Vec<Vec<u32>>]) -> (f64, Vec<f64>) {
    const BETA: f64 = 1.2;
    let scores: Vec<f64> = predictions
        .iter()
        .zip(references)
        .map(|(words, captions)| {
            let (mut precision, mut recall) = (0.0f64, 0.0f64);
            for caption in captions {
                let common = common(words, caption) as f64;
                precision = precision.max(common / words.len() as f64);
                recall = recall.max(common / caption.len() as f64);
            }
            if precision == 0.0 || recall == 0.0 {
                return 0.0;
            }
            (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
        })
        .collect();
    (mean(&scores), scores)
}

/// The length of the longest common subsequence.
fn common(a: &[u32], b: &[u32]) -> usize {
    let mut row = vec![0usize; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if word == other {
                diagonal + 1
            } else {
                above.max(row[j])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}
