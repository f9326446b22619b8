//! CIDEr, BLEU and ROUGE-L of tokenised captions.
//!
//! Source: pycocoevalcap 1.2 `Cider`, `Bleu(4)`, `Rouge`. The first two split at Python's white space, which includes
//! the no-break space inside a token; ROUGE splits at single spaces. Sums are added in the order of the published code,
//! so that rounding agrees.

use super::runs::{Counts, Known, LONGEST, Numbering, PictureCounts};
use super::vocabulary::{Caption, CaptionedPicture};

/// The scores of one picture.
#[derive(Debug, Clone, Copy)]
pub struct PictureScores {
    /// The counts that BLEU sums.
    pub guesses: Guesses,
    /// ROUGE-L.
    pub rouge: f64,
    /// CIDEr.
    pub cider: f64,
}

/// Scores every picture, in order, on `workers` threads.
pub fn scores(pictures: &[CaptionedPicture], workers: usize) -> Vec<PictureScores> {
    let known = Known::of(pictures);
    let logs = (pictures.len() as f64).ln();
    let part = |(first, part): (usize, &[CaptionedPicture])| -> Vec<PictureScores> {
        let mut scorer = PictureScorer::default();
        let numbered = (first..).zip(part);
        numbered
            .map(|(number, picture)| scorer.score(picture, known.of_picture(number), logs))
            .collect()
    };
    let size = pictures.len().div_ceil(workers.max(1)).max(1);
    let parts = pictures.chunks(size).enumerate();
    let mut parts = parts.map(|(at, pictures)| (at * size, pictures));
    let Some(first) = parts.next() else {
        return Vec::new();
    };
    std::thread::scope(|scope| {
        let others: Vec<_> = parts.map(|one| (one, scope.spawn(move || part(one)))).collect();
        let mut all = part(first);
        for (one, other) in others {
            all.extend(other.join().unwrap_or_else(|_| part(one)));
        }
        all
    })
}

/// A scorer of pictures. Its fields are buffers that are reused from picture to picture.
#[derive(Default)]
struct PictureScorer {
    numbering: Numbering,
    counts: PictureCounts,
    /// For each n-gram, its length minus 1, and its weight for one occurrence.
    lengths: Vec<usize>,
    weights: Vec<f64>,
    /// For each n-gram of the picture, its weight or its count in a reference; zero between uses.
    in_reference: Vec<f64>,
}

/// The norms of a caption's weights by n-gram length, and its number of bigrams, which CIDEr uses as its length.
struct CaptionNorms {
    norms: [f64; LONGEST],
    pairs: f64,
}

impl PictureScorer {
    fn score(&mut self, picture: &CaptionedPicture, known: &[u32], logs: f64) -> PictureScores {
        self.numbering.take(picture, &mut self.counts);
        self.lengths.clear();
        self.lengths
            .extend(self.numbering.lengths().map(|length| length - 1));
        self.weights.clear();
        let weight = |pictures: &u32| logs - f64::from((*pictures).max(1)).ln();
        self.weights.extend(known.iter().map(weight));
        self.in_reference.clear();
        self.in_reference.resize(self.numbering.len(), 0.0);
        PictureScores {
            guesses: self.guesses(picture),
            rouge: rouge(picture),
            cider: self.cider(picture),
        }
    }

    fn cider(&mut self, picture: &CaptionedPicture) -> f64 {
        let prediction = self.norms(&picture.prediction, &self.counts.prediction);
        let mut sums = [0.0; LONGEST];
        for (caption, counts) in picture.references.iter().zip(&self.counts.references) {
            let reference = self.norms(caption, counts);
            for (number, count) in counts {
                self.in_reference[*number as usize] = count * self.weights[*number as usize];
            }
            let values = self.similarity(&prediction, &reference);
            sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            for (number, _) in counts {
                self.in_reference[*number as usize] = 0.0;
            }
        }
        sums.iter().sum::<f64>() / LONGEST as f64 / picture.references.len() as f64 * 10.0
    }

    fn norms(&self, caption: &Caption, counts: &Counts) -> CaptionNorms {
        let mut norms = [0.0; LONGEST];
        for (number, count) in counts {
            let weight = count * self.weights[*number as usize];
            norms[self.lengths[*number as usize]] += weight * weight;
        }
        CaptionNorms {
            norms: norms.map(f64::sqrt),
            pairs: caption.words.len().saturating_sub(1) as f64,
        }
    }

    /// Computes the clipped cosine by n-gram length, damped by the difference in length (σ = 6). The reference's
    /// weights are in `in_reference`.
    fn similarity(&self, prediction: &CaptionNorms, reference: &CaptionNorms) -> [f64; LONGEST] {
        let mut values = [0.0; LONGEST];
        for (number, count) in &self.counts.prediction {
            let number = *number as usize;
            let (weight, other) = (count * self.weights[number], self.in_reference[number]);
            values[self.lengths[number]] += weight.min(other) * other;
        }
        let difference = prediction.pairs - reference.pairs;
        let damping = (-(difference * difference) / 72.0).exp();
        for (n, value) in values.iter_mut().enumerate() {
            if prediction.norms[n] != 0.0 && reference.norms[n] != 0.0 {
                *value /= prediction.norms[n] * reference.norms[n];
            }
            *value *= damping;
        }
        values
    }

    fn guesses(&mut self, picture: &CaptionedPicture) -> Guesses {
        let length = picture.prediction.words.len();
        // BLEU's reference length is the nearest one; of two equally near, the shorter.
        let lengths = picture.references.iter().map(|caption| caption.words.len());
        let nearest = lengths.map(|other| (other.abs_diff(length), other)).min();
        let mut guesses = Guesses {
            length: length as f64,
            reference: nearest.map_or(0.0, |nearest| nearest.1 as f64),
            ..Guesses::default()
        };
        for (number, count) in self.counts.references.iter().flatten() {
            let most = &mut self.in_reference[*number as usize];
            *most = most.max(*count);
        }
        for n in 0..LONGEST {
            guesses.guessed[n] = length.saturating_sub(n) as f64;
        }
        for (number, count) in &self.counts.prediction {
            guesses.right[self.lengths[*number as usize]] += self.in_reference[*number as usize].min(*count);
        }
        self.in_reference.fill(0.0);
        guesses
    }
}

/// Computes the mean of scores.
pub fn mean(scores: &[f64]) -> f64 {
    scores.iter().sum::<f64>() / scores.len() as f64
}

/// The counts that BLEU sums: lengths, and guessed and matched n-grams by length.
#[derive(Debug, Default, Clone, Copy)]
pub struct Guesses {
    length: f64,
    reference: f64,
    guessed: [f64; LONGEST],
    right: [f64; LONGEST],
}

impl Guesses {
    /// Computes BLEU-1 to BLEU-4.
    pub fn bleu(&self) -> [f64; LONGEST] {
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

    /// Adds the counts of another picture.
    pub fn add(&mut self, other: &Self) {
        self.length += other.length;
        self.reference += other.reference;
        for n in 0..LONGEST {
            self.guessed[n] += other.guessed[n];
            self.right[n] += other.right[n];
        }
    }
}

/// Computes ROUGE-L of a picture with β = 1.2; precision and recall are each taken at their best reference.
fn rouge(picture: &CaptionedPicture) -> f64 {
    const BETA: f64 = 1.2;
    let words = picture.prediction.pieces();
    let (mut precision, mut recall) = (0.0f64, 0.0f64);
    for caption in &picture.references {
        let caption = caption.pieces();
        let common = common(words, caption) as f64;
        precision = precision.max(common / words.len() as f64);
        recall = recall.max(common / caption.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA * BETA) * precision * recall / (recall + BETA * BETA * precision)
}

/// Computes the length of the longest common subsequence.
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
