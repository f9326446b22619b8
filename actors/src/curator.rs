//! The Curator: where a step's examples come from. Pulled by the trainer, never pushing (law L2).
//!
//! The batch of a step is a pure function of the seed, the step and the mix (law L8), so a resumed run draws the same
//! one. Every example carries its provenance (law L5).

use std::collections::BTreeMap;

use demask_datasets::decontaminate::Forbidden;
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::profile::{Profile, Source, SourceKind};
use crate::sources::{self, Report, SourceError};

/// Share of drawing requests that lose their words, for guidance (`mmada.md` 2.3).
const DROP_CONDITION: f64 = 0.1;
/// Share of a fine-tuning batch that is asked to reason.
const THINK_SHARE: f64 = 0.5;

/// One thing to train on.
#[derive(Clone, Debug)]
pub struct Picked {
    /// What.
    pub example: Example,
    /// With reasoning or without.
    pub mode: Mode,
    /// Without its condition.
    pub drop_condition: bool,
    /// The checkpoint that wrote it, or `none`.
    pub generator: String,
    /// What verified it.
    pub verifier: String,
    /// The verifier's score.
    pub score: f64,
}

/// An accepted reasoning trace.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accepted {
    /// The example as it is trained on.
    pub example: Example,
    /// The checkpoint or teacher that wrote it.
    pub generator: String,
}

/// Sources and what was read from them.
#[derive(Debug)]
pub struct Curator {
    seed: u64,
    world: Tabletop,
    sources: Vec<Source>,
    read: BTreeMap<String, Vec<Example>>,
    forbidden: Forbidden,
    reports: Vec<Report>,
    /// Accepted traces, in the order of acceptance.
    pub traces: Vec<Accepted>,
}

impl Curator {
    /// Opens the profile's sources, and registers every benchmark that nothing of them may overlap (law L6).
    ///
    /// # Errors
    /// A file that cannot be read, or too many bad rows in it.
    pub fn open(profile: &Profile) -> Result<Self, SourceError> {
        let forbidden = sources::benchmarks();
        let mut reports = Vec::new();
        let mut read = BTreeMap::new();
        for source in profile.sources.iter().filter(|source| source.path.is_some()) {
            let examples = sources::read(source, profile, &forbidden, &mut |report| reports.push(report))?;
            read.insert(source.name.clone(), examples);
        }
        let (seed, sources) = (profile.seed, profile.sources.clone());
        Ok(Self {
            seed,
            world: Tabletop::new(seed),
            sources,
            read,
            forbidden,
            reports,
            traces: Vec::new(),
        })
    }

    /// What was found since this was last asked: rows turned away, and what was checked against the benchmarks.
    pub fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Everything that was read from files.
    pub fn read(&self) -> impl Iterator<Item = &Example> {
        self.read.values().flatten()
    }

    /// The batch of a step. `mix` are the weights now, `only` names sources (all when empty); `thinking` asks for the mix
    /// of reasoning and direct answers, else everything is direct.
    pub fn batch(
        &mut self,
        step: u64,
        size: usize,
        mix: &BTreeMap<String, f64>,
        only: &[String],
        thinking: bool,
    ) -> Vec<Picked> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0xba7c);
        rng.set_stream(step + 1);
        (0..size)
            .filter_map(|_| self.pick(&mut rng, mix, only, thinking))
            .collect()
    }

    fn pick(
        &mut self,
        rng: &mut ChaCha8Rng,
        mix: &BTreeMap<String, f64>,
        only: &[String],
        thinking: bool,
    ) -> Option<Picked> {
        let source = self.choose(rng, mix, only)?;
        let trace = thinking
            && source.kind == SourceKind::TabletopSums
            && !self.traces.is_empty()
            && rng.random::<f64>() < 0.25;
        let (example, generator, verifier) = if trace {
            let accepted = &self.traces[rng.random_range(0..self.traces.len())];
            (accepted.example.clone(), accepted.generator.clone(), "trace")
        } else {
            (self.clean(&source, rng)?, "none".to_owned(), "source")
        };
        let draws = matches!(example.kind, Kind::TextToImage | Kind::ThinkThenDraw);
        let mode = if thinking && example.reasoning.is_some() && rng.random::<f64>() < THINK_SHARE || trace {
            Mode::Think
        } else {
            Mode::Direct
        };
        let drop_condition = draws && rng.random::<f64>() < DROP_CONDITION;
        Some(Picked {
            example,
            mode,
            drop_condition,
            generator,
            verifier: verifier.into(),
            score: 1.0,
        })
    }

    /// A source by the weights.
    fn choose(&self, rng: &mut ChaCha8Rng, mix: &BTreeMap<String, f64>, only: &[String]) -> Option<Source> {
        let open: Vec<(&Source, f64)> = self
            .sources
            .iter()
            .filter(|source| only.is_empty() || only.contains(&source.name))
            .map(|source| (source, mix.get(&source.name).copied().unwrap_or(source.weight)))
            .collect();
        let total: f64 = open.iter().map(|(_, weight)| weight).sum();
        let mut left = rng.random::<f64>() * total;
        let source = open.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        Some(source.or(open.last())?.0.clone())
    }

    /// An example that overlaps no benchmark: what is read was checked, what is generated is checked here.
    fn clean(&mut self, source: &Source, rng: &mut ChaCha8Rng) -> Option<Example> {
        loop {
            let example = self.draw(source, rng)?;
            if source.path.is_some() {
                return Some(example);
            }
            match self.forbidden.overlap(&example) {
                None => return Some(example),
                Some(overlap) => self.reports.push(Report::Rejected {
                    source: source.name.clone(),
                    subject: example.id,
                    gate: "decontaminate",
                    reason: format!("overlaps {} ({})", overlap.benchmark, overlap.rule),
                }),
            }
        }
    }

    fn draw(&self, source: &Source, rng: &mut ChaCha8Rng) -> Option<Example> {
        let index = rng.random_range(0..1 << 40);
        let kind = match source.kind {
            SourceKind::TabletopDraw => Kind::TextToImage,
            SourceKind::TabletopCaption => Kind::Caption,
            SourceKind::TabletopAsk => Kind::Question,
            SourceKind::TabletopSums => Kind::WordProblem,
            SourceKind::TabletopThinkDraw => Kind::ThinkThenDraw,
            _ => {
                let read = self.read.get(&source.name)?;
                return (!read.is_empty()).then(|| read[rng.random_range(0..read.len())].clone());
            }
        };
        Some(self.world.example(kind, Split::Train, index))
    }

    /// Texts for a tokenizer that is trained from scratch.
    #[must_use]
    pub fn corpus(&self) -> Vec<String> {
        let mut texts = self.world.corpus(2000);
        for examples in self.read.values() {
            texts.extend(
                examples
                    .iter()
                    .take(20_000)
                    .flat_map(|example| [example.prompt.clone(), example.completion(Mode::Think)]),
            );
        }
        texts
    }
}
