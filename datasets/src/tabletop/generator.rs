//! The tabletop as a source: an endless sequence of examples for each kind and split. Each example is a pure function
//! of seed, kind, split and index (law L8).
//!
//! The splits share no content (law L6), whatever the seed. Each scene, the numbers of each word problem, and each
//! drawing prompt of a large family hash to one split; an example is redrawn until all its parts belong to the
//! requested split. Prompts of small families ("a circle", "three crosses", "a red square") occur in every split, with
//! different pictures. Every fourth test example of a kind with colours shows a held-out pair.

use demask_api::sequence::Task;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::draft::Draft;
use super::{asking, drawing, sums};
use crate::example::{Example, Kind, Mode, Split};
use crate::scene::table::Scene;

/// The period of held-out pairs among test examples; the last of each period shows one.
const HELD_OUT_EVERY: u64 = 4;

/// The generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tabletop {
    seed: u64,
}

impl Tabletop {
    /// The kinds of the tokenizer's corpus.
    pub const KINDS: [Kind; 5] = [
        Kind::TextToImage,
        Kind::Caption,
        Kind::Question,
        Kind::WordProblem,
        Kind::ThinkThenDraw,
    ];

    /// Makes a generator. Another seed gives other examples from the same splits.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// Returns the example at an index. Categories alternate with the index, so that any run of twelve has each equally
    /// often. `Text` and `Instruction` yield exercises in sums.
    #[must_use]
    pub fn example(&self, kind: Kind, split: Split, index: u64) -> Example {
        self.with_scene(kind, split, index).0
    }

    /// Returns the example and the table that its picture shows.
    #[must_use]
    pub fn with_scene(&self, kind: Kind, split: Split, index: u64) -> (Example, Option<Scene>) {
        let (held_out, inner) = held_out_index(kind, split, index);
        let mut attempt = 0;
        let draft = loop {
            let mut rng = self.rng(kind, split, index, attempt);
            let draft = draw(&mut rng, kind, split, inner, held_out);
            if draft.belongs_to(split, held_out) {
                break draft;
            }
            attempt += 1;
        };
        let scene = draft.scene;
        (draft.finish(kind, split, held_out), scene)
    }

    /// Returns texts to train a tokenizer on: prompts, reasoning and answers of the training split, `count` examples of
    /// each kind.
    #[must_use]
    pub fn corpus(&self, count: u64) -> Vec<String> {
        let mut texts = vec![];
        for kind in Self::KINDS {
            for index in 0..count {
                let example = self.example(kind, Split::Train, index);
                let mode = if index % 2 == 0 { Mode::Think } else { Mode::Direct };
                texts.push(format!("user\n{}{}", example.prompt, mode.instruction()));
                texts.push(format!("assistant\n{}", example.completion(mode)));
            }
        }
        texts
    }

    fn rng(&self, kind: Kind, split: Split, index: u64, attempt: u64) -> ChaCha8Rng {
        let words = format!("{} {} {} {index} {attempt}", self.seed, kind.name(), split.name());
        ChaCha8Rng::from_seed(*blake3::hash(words.as_bytes()).as_bytes())
    }
}

fn held_out_index(kind: Kind, split: Split, index: u64) -> (bool, u64) {
    if split != Split::Test || kind.task(Mode::Think) == Task::Text {
        return (false, index);
    }
    let (block, rest) = (index / HELD_OUT_EVERY, index % HELD_OUT_EVERY);
    if rest == HELD_OUT_EVERY - 1 {
        (true, block)
    } else {
        (false, block * (HELD_OUT_EVERY - 1) + rest)
    }
}

fn draw(rng: &mut ChaCha8Rng, kind: Kind, split: Split, index: u64, held_out: bool) -> Draft {
    match kind {
        Kind::TextToImage => drawing::draft(rng, index, held_out),
        Kind::Caption => asking::caption(rng, held_out),
        Kind::Scene => asking::scene(rng, held_out),
        Kind::Question | Kind::PictureInstruction => asking::question(rng, index, held_out),
        Kind::ThinkThenDraw => sums::think_then_draw(rng, held_out),
        Kind::WordProblem => sums::word_problem(rng, index),
        Kind::Text | Kind::Instruction => sums::exercise(rng, split),
    }
}
