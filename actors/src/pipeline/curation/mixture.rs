//! The mixture: it draws the examples of a step from the sources and the accepted traces. The trainer pulls; nothing is
//! pushed (law L2).
//!
//! The batch of a step is a pure function of the seed, the step and the mix (law L8), so a resumed run draws the same
//! batch. Every example carries its provenance (law L5).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use demask_datasets::curation::decontaminate::{Forbidden, Overlap};
use demask_datasets::curation::likeness_cache::LikenessCache;
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::prompts::sequences::SequenceBuilder;
use demask_datasets::tabletop::Tabletop;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use crate::pipeline::curation::dry_run::{ENOUGH, generated, unjudged};
use crate::pipeline::curation::fitting::Fitting;
use crate::pipeline::curation::library::ExampleLibrary;
use crate::pipeline::curation::sources::{self, Report, ReportLog, SourceError};
use crate::pipeline::curation::training_example::TrainingExample;
use crate::profile::{Profile, Source, SourceKind};

/// Name of the file, in the unpacking folder, that caches the likenesses of benchmark pictures.
const LIKENESSES: &str = "likenesses";
/// Share of drawing requests whose text condition is dropped, for classifier-free guidance (`mmada.md` 2.3).
const DROP_CONDITION: f64 = 0.1;

/// Most examples per source on which a text tokenizer is trained.
const CORPUS: usize = 20_000;
/// Name of the source of traces.
pub const REASONER: &str = "reasoner";
/// Share of a text source's examples that are replaced by accepted traces, once there are any.
const TRACE_SHARE: f64 = 0.25;

/// An accepted reasoning trace.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Accepted {
    /// The example as it is trained on.
    pub example: Example,
    /// Checkpoint or teacher that wrote it.
    pub generator: String,
    /// Id of the proposed trace; empty in checkpoints of earlier versions of Demask.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trace: String,
}

/// The sources and the examples that were read from them.
#[derive(Debug)]
pub struct Mixture {
    seed: u64,
    world: Tabletop,
    sources: Vec<Source>,
    read: BTreeMap<String, ExampleLibrary>,
    /// Sources of word problems. Accepted traces replace some of their examples.
    solvable: BTreeSet<String>,
    forbidden: Forbidden,
    /// Number of generated examples that were checked, by source, and of those that overlapped each benchmark.
    generated: BTreeMap<String, (u64, Vec<u64>)>,
    reports: ReportLog,
    /// Accepted traces, in the order of acceptance.
    pub traces: Vec<Accepted>,
}

impl Mixture {
    /// Opens the profile's sources. It first registers every benchmark that no example may overlap (law L6), including
    /// the shares that the sources hold out.
    ///
    /// Packed sources are unpacked into the folder `room`, which also caches the likenesses of benchmark pictures.
    /// `told` receives the source and the number of rows read so far, and returns whether to go on.
    ///
    /// # Errors
    /// An error if a file cannot be read, or if too many of its rows are bad.
    pub fn open(
        profile: &Profile,
        room: &Path,
        told: &mut dyn FnMut(&str, u64) -> bool,
    ) -> Result<Self, SourceError> {
        let mut reports = ReportLog::default();
        let mut likenesses = LikenessCache::open(room.join(LIKENESSES));
        let mut forbidden = sources::benchmarks(profile, &mut likenesses, &mut |report| reports.push(report));
        if let Err(error) = likenesses.save() {
            tracing::warn!(
                "the features of benchmark pictures cannot be cached and will be computed again: {error}"
            );
        }
        let reading = || profile.sources.iter().filter(|source| source.kind.reads());
        for source in reading() {
            let mut items = sources::held_out_items(source, profile)?.peekable();
            if items.peek().is_some() {
                forbidden.register(&format!("{}-test", source.name), items);
            }
        }
        let mut read = BTreeMap::new();
        for source in reading() {
            let mut report = |report| reports.push(report);
            let mut told = |rows| told(&source.name, rows);
            let library = sources::read(source, profile, room, &forbidden, &mut report, &mut told)?;
            read.insert(source.name.clone(), library);
        }
        let (seed, sources) = (profile.seed, profile.sources.clone());
        let solvable = solvable(&sources, &read);
        Ok(Self {
            seed,
            world: Tabletop::new(seed),
            sources,
            read,
            solvable,
            forbidden,
            generated: BTreeMap::new(),
            reports,
            traces: Vec::new(),
        })
    }

    /// Returns the reports since the last call: rejected rows, and checks against the benchmarks.
    pub fn take_reports(&mut self) -> Vec<Report> {
        self.reports.take()
    }

    /// Returns the examples of each source that is a file or folder.
    pub fn read(&mut self) -> &mut BTreeMap<String, ExampleLibrary> {
        &mut self.read
    }

    /// Measures everything that was read against the run's budgets and the needs of its stages; `told` as in
    /// [`Self::open`].
    ///
    /// # Errors
    /// An error if too much of a source does not fit, or if a stage would have nothing to learn from.
    pub fn measure(
        &mut self,
        profile: &Profile,
        builder: &SequenceBuilder,
        told: &mut dyn FnMut(&str, u64) -> bool,
    ) -> Result<(), SourceError> {
        let mut fitting = Fitting::new(profile, builder);
        for source in &profile.sources {
            if let Some(library) = self.read.get_mut(&source.name) {
                let mut report = |report| self.reports.push(report);
                fitting.measure(source, library, &mut report, &mut |rows| told(&source.name, rows))?;
            }
        }
        fitting.check_stages()?;
        match unjudged(profile, &self.samples(profile)?) {
            Some((stage, found)) => Err(SourceError::Unusable { stage, found }),
            None => Ok(()),
        }
    }

    /// Returns some examples of each source.
    fn samples(&mut self, profile: &Profile) -> Result<BTreeMap<String, Vec<Example>>, SourceError> {
        let mut samples = BTreeMap::new();
        for source in &self.sources {
            let some = match (source.kind, self.read.get_mut(&source.name)) {
                (SourceKind::Tabletop(kind), _) => generated(profile, kind),
                (_, Some(library)) => sources::first(source, library, ENOUGH)?,
                (_, None) => Vec::new(),
            };
            samples.insert(source.name.clone(), some);
        }
        Ok(samples)
    }

    /// Draws the batch of a step. `mix` has the present weights; `only` names the sources (all when empty).
    /// `think_share` of the examples with reasoning keep it; the others are direct.
    ///
    /// # Errors
    /// An error if a row cannot be read again, or has changed.
    pub fn batch(
        &mut self,
        step: u64,
        size: usize,
        mix: &BTreeMap<String, f64>,
        only: &[String],
        think_share: f64,
    ) -> Result<Vec<TrainingExample>, SourceError> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed ^ 0xba7c);
        rng.set_stream(step + 1);
        (0..size)
            .filter_map(|_| self.pick(&mut rng, mix, only, think_share).transpose())
            .collect()
    }

    /// Draws one example: a source by its weight, then an accepted trace or an example of the source. Returns `None` if
    /// there is nothing to draw. Every random number comes from `rng`, whose stream belongs to the step (law L8).
    fn pick(
        &mut self,
        rng: &mut ChaCha8Rng,
        mix: &BTreeMap<String, f64>,
        only: &[String],
        think_share: f64,
    ) -> Result<Option<TrainingExample>, SourceError> {
        let Some(source) = self.choose(rng, mix, only) else {
            return Ok(None);
        };
        let trace = think_share > 0.0
            && self.solvable.contains(&source.name)
            && !self.traces.is_empty()
            && rng.random::<f64>() < TRACE_SHARE;
        let mut proposed = None;
        let (example, generator, verifier) = if trace {
            let accepted = &self.traces[rng.random_range(0..self.traces.len())];
            proposed = Some(accepted.trace.clone()).filter(|id| !id.is_empty());
            (accepted.example.clone(), accepted.generator.clone(), "trace")
        } else {
            let Some(example) = self.clean(&source, rng)? else {
                return Ok(None);
            };
            (example, "none".to_owned(), "source")
        };
        let mode = if trace || example.reasoning.is_some() && rng.random::<f64>() < think_share {
            Mode::Think
        } else {
            Mode::Direct
        };
        let drop_condition = example.kind.draws() && rng.random::<f64>() < DROP_CONDITION;
        Ok(Some(TrainingExample {
            example,
            mode,
            drop_condition,
            generator,
            verifier: verifier.into(),
            score: 1.0,
            trace: proposed,
        }))
    }

    /// Chooses a source by the weights.
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

    /// Draws an example that overlaps no benchmark. Examples from files were checked when they were read; generated
    /// ones are checked here.
    fn clean(&mut self, source: &Source, rng: &mut ChaCha8Rng) -> Result<Option<Example>, SourceError> {
        loop {
            let Some(example) = self.draw(source, rng)? else {
                return Ok(None);
            };
            if source.kind.reads() {
                return Ok(Some(example));
            }
            let overlap = self.forbidden.overlap(&example);
            self.told(
                &source.name,
                overlap.as_ref().map(|overlap| overlap.benchmark.as_str()),
            );
            match overlap {
                None => return Ok(Some(example)),
                Some(overlap) => self.reports.push(Report::Rejected {
                    source: source.name.clone(),
                    subject: example.id,
                    gate: demask_storage::Gate::Decontaminate,
                    reason: why(&overlap),
                }),
            }
        }
    }

    /// Returns for each trace why it overlaps a benchmark, if it does (law L6).
    pub fn check_traces(&mut self, traces: &[Example]) -> Vec<Option<String>> {
        let overlaps: Vec<_> = traces.iter().map(|trace| self.forbidden.overlap(trace)).collect();
        for overlap in &overlaps {
            self.told(
                REASONER,
                overlap.as_ref().map(|overlap| overlap.benchmark.as_str()),
            );
        }
        let whys = overlaps.iter().map(|overlap| overlap.as_ref().map(why));
        whys.collect()
    }

    /// Counts a generated example that was checked against the benchmarks, and reports the counts from time to time.
    fn told(&mut self, source: &str, overlapped: Option<&str>) {
        let benchmarks = self.forbidden.benchmarks();
        let (count, overlaps) = self
            .generated
            .entry(source.to_owned())
            .or_insert_with(|| (0, vec![0; benchmarks.len()]));
        *count += 1;
        let hit = benchmarks
            .iter()
            .position(|name| Some(name.as_str()) == overlapped);
        if let Some(overlaps) = hit.and_then(|number| overlaps.get_mut(number)) {
            *overlaps += 1;
        }
        // The counts are reported at each doubling, because a row for every example would be too many.
        if count.is_power_of_two() {
            let rows = sources::checked(source, &self.forbidden, *count, overlaps);
            for row in rows {
                self.reports.push(row);
            }
        }
    }

    fn draw(&mut self, source: &Source, rng: &mut ChaCha8Rng) -> Result<Option<Example>, SourceError> {
        let index = rng.random_range(0..1 << 40);
        let SourceKind::Tabletop(kind) = source.kind else {
            let Some(read) = self.read.get_mut(&source.name).filter(|read| !read.is_empty()) else {
                return Ok(None);
            };
            let example = read.get(rng.random_range(0..read.len()));
            return example.map(Some).map_err(|error| SourceError::Changed {
                name: source.name.clone(),
                error,
            });
        };
        Ok(Some(self.world.example(kind, Split::Train, index)))
    }

    /// Returns texts on which a tokenizer is trained from scratch.
    ///
    /// # Errors
    /// An error if a row cannot be read again, or has changed.
    pub fn corpus(&mut self) -> Result<Vec<String>, SourceError> {
        let mut texts = self.world.corpus(2000);
        for (name, library) in &mut self.read {
            for number in 0..library.len().min(CORPUS) {
                let example = library.get(number).map_err(|error| SourceError::Changed {
                    name: name.clone(),
                    error,
                })?;
                let completion = example.completion(Mode::Think);
                texts.extend([example.prompt, completion]);
            }
        }
        Ok(texts)
    }
}

/// Returns the sources of word problems. A verified trace is a worked problem, so it may replace one of theirs.
fn solvable(sources: &[Source], read: &BTreeMap<String, ExampleLibrary>) -> BTreeSet<String> {
    let solves = |source: &&Source| match read.get(&source.name) {
        Some(library) => library.has_problems(),
        None => source.kind == SourceKind::Tabletop(Kind::WordProblem),
    };
    sources
        .iter()
        .filter(solves)
        .map(|source| source.name.clone())
        .collect()
}

fn why(overlap: &Overlap) -> String {
    format!("overlaps {} ({})", overlap.benchmark, overlap.rule)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, missing_docs)]
    use super::*;

    /// Makes a profile whose only source is a file of ten problems, of which `bad` lines are broken.
    fn given(folder: &std::path::Path, bad: usize) -> Profile {
        let path = folder.join("rows.jsonl");
        let rows: String = [
            "ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen", "ibex", "jay",
        ]
        .iter()
        .enumerate()
        .map(|(at, who)| {
            if at < bad {
                return "{oops\n".to_owned();
            }
            let row = serde_json::json!({
                "question": format!("How old is {who} {at}?"),
                "answer": format!("It is so.\n#### {at}"),
            });
            format!("{row}\n")
        })
        .collect();
        std::fs::write(&path, rows).unwrap();
        let (text, origin) = Profile::find("tabletop").unwrap();
        let mut profile = Profile::parse(&text, &origin).unwrap();
        let mut source = profile.sources[0].clone();
        (source.name, source.kind, source.path) =
            ("given".into(), SourceKind::find("jsonl").unwrap(), Some(path));
        profile.sources = vec![source];
        profile
    }

    fn opened(profile: &Profile) -> Result<Mixture, SourceError> {
        Mixture::open(profile, &std::env::temp_dir(), &mut |_, _| true)
    }

    #[test]
    fn traces_of_problems_that_were_read_are_trained_on() {
        let dir = tempfile::tempdir().unwrap();
        let mut curator = opened(&given(dir.path(), 0)).unwrap();
        let example = curator.read().get_mut("given").unwrap().get(0).unwrap();
        let trace = Accepted {
            example: Example {
                source: "reasoner".into(),
                ..example
            },
            generator: "checkpoint".into(),
            trace: "r/r1/0".into(),
        };
        curator.traces.push(trace);
        let written = |picked: &TrainingExample| {
            picked.trace.as_deref() == Some("r/r1/0")
                && picked.generator == "checkpoint"
                && picked.mode == Mode::Think
        };
        let batch = curator.batch(1, 64, &BTreeMap::new(), &[], 0.5).unwrap();
        assert!((4..40).contains(&batch.iter().filter(|picked| written(picked)).count()));
        let direct = curator.batch(1, 64, &BTreeMap::new(), &[], 0.0).unwrap();
        assert!(!direct.iter().any(written));
    }

    #[test]
    fn the_share_of_bad_rows_is_that_of_the_whole_source() {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = given(dir.path(), 2);
        let refused = opened(&profile).unwrap_err().to_string();
        assert!(
            refused.contains("2 of 10 rows") && refused.contains("rows.jsonl:1"),
            "{refused}"
        );
        profile.limits.bad_row_share = 0.2;
        assert_eq!(opened(&profile).unwrap().read()["given"].len(), 8);
    }

    /// The reports of a source whose rows are all wrong take no more memory than those of many.
    #[test]
    fn l9_rejections_beyond_the_listed_ones_are_counted_by_reason() {
        use demask_storage::{Gate, Record};
        let dir = tempfile::tempdir().unwrap();
        let mut profile = given(dir.path(), 0);
        profile.limits.bad_row_share = 1.0;
        let path = profile.sources[0].path.clone().unwrap();
        let row = "{\"question\": \"How old is it?\", \"answer\": \"It is so.\\n#### 7\"}\n";
        let rows = "{oops\n".repeat(10_007) + &row.repeat(10_004);
        std::fs::write(path, rows).unwrap();
        let reports = opened(&profile).unwrap().take_reports();
        let listed = |wanted: Gate| {
            let is_of = |report: &&Report| matches!(report, Report::Rejected { gate, .. } if *gate == wanted);
            reports.iter().filter(is_of).count()
        };
        assert_eq!((listed(Gate::Parse), listed(Gate::ExactDedup)), (10_000, 10_000));
        let unlisted = reports.iter().filter_map(|report| match report {
            Report::Unlisted { gate, rows, .. } => Some((*gate, *rows)),
            _ => None,
        });
        let unlisted: Vec<_> = unlisted.collect();
        assert_eq!(unlisted, [(Gate::Parse, 7), (Gate::ExactDedup, 3)]);
        // The funnel adds up.
        let records = reports.into_iter().map(|report| report.record("run"));
        let rejected = records.map(|record| match record {
            Record::Verdict(verdict) if !verdict.passed => verdict.count,
            _ => 0,
        });
        assert_eq!(rejected.sum::<u64>(), 20_010);
    }

    /// Texts of one template are not compared with all others, and the funnel says of how many that is true.
    #[test]
    fn l9_rows_that_were_not_compared_with_all_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = given(dir.path(), 0);
        let question = "Natalia sold clips to forty eight of her friends in April and then she sold half as many clips in \
                        May so how many clips did Natalia sell altogether in April and May of the year";
        let path = profile.sources[0].path.clone().unwrap();
        let write = |rows: usize| {
            let row = |number: usize| serde_json::json!({ "question": format!("{question} {number}?"), "answer": "72" });
            let rows: String = (0..rows).map(|number| format!("{}\n", row(number))).collect();
            std::fs::write(&path, rows).unwrap();
        };
        profile.limits.near_duplicate = 1.0;
        let told = |profile: &Profile| {
            let reports = opened(profile).unwrap().take_reports();
            let capped = reports
                .into_iter()
                .find(|report| matches!(report, Report::Capped { .. }));
            capped.map(|report| report.record("run"))
        };
        write(200);
        assert_eq!(told(&profile), None);
        write(700);
        let Some(demask_storage::Record::Verdict(verdict)) = told(&profile) else {
            panic!("no verdict");
        };
        assert_eq!(
            (verdict.source.as_str(), verdict.count, verdict.passed),
            ("given", 0, false)
        );
        assert!(
            verdict.reason.contains("compared with the latest"),
            "{}",
            verdict.reason
        );
    }

    #[test]
    fn l8_what_is_read_again_is_drawn_as_from_memory() {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = given(dir.path(), 0);
        let drawn = |profile: &Profile| {
            let mut mixture = opened(profile).unwrap();
            let batch = mixture.batch(3, 32, &BTreeMap::new(), &[], 0.5).unwrap();
            let whole = batch.into_iter().map(|picked| picked.example).collect::<Vec<_>>();
            (whole, mixture.read()["given"].is_in_memory())
        };
        let (from_memory, in_memory) = drawn(&profile);
        profile.limits.source_memory = 0;
        assert_eq!((drawn(&profile), in_memory), ((from_memory, false), true));
        let mut mixture = opened(&profile).unwrap();
        let path = profile.sources[0].path.clone().unwrap();
        std::fs::write(
            &path,
            std::fs::read_to_string(&path)
                .unwrap()
                .replace("How old", "How big"),
        )
        .unwrap();
        let changed = mixture
            .batch(3, 32, &BTreeMap::new(), &[], 0.5)
            .unwrap_err()
            .to_string();
        assert!(
            changed.contains("source given") && changed.contains("has changed since the run began"),
            "{changed}"
        );
    }

    #[test]
    fn l6_what_is_held_out_is_the_same_every_time_and_never_drawn() {
        let dir = tempfile::tempdir().unwrap();
        let mut profile = given(dir.path(), 0);
        profile.sources[0].test_share = 0.4;
        let held = || -> Vec<Example> {
            let held = sources::held_out_items(&profile.sources[0], &profile);
            held.unwrap().collect()
        };
        let held_again = held();
        let held = held();
        assert!(!held.is_empty() && held.len() < 10);
        assert_eq!(held, held_again);
        let mut mixture = opened(&profile).unwrap();
        assert_eq!(mixture.read()["given"].len(), 10 - held.len());
        let batch = mixture.batch(1, 64, &BTreeMap::new(), &[], 0.5).unwrap();
        let drawn = |prompt: &str| batch.iter().any(|picked| picked.example.prompt == prompt);
        assert!(held.iter().all(|item| !drawn(&item.prompt)));
    }

    #[test]
    fn l6_every_source_has_a_row_for_every_benchmark() {
        let (text, origin) = Profile::find("tabletop").unwrap();
        let profile = Profile::parse(&text, &origin).unwrap();
        let mut curator = opened(&profile).unwrap();
        let name = profile.sources[0].name.clone();
        curator
            .batch(1, 64, &BTreeMap::new(), std::slice::from_ref(&name), 0.0)
            .unwrap();
        let rows = curator.take_reports();
        for suite in demask_rewards::benchmarks::Suite::all() {
            let row = rows.iter().find_map(|row| match row {
                Report::Clean {
                    source,
                    benchmark,
                    rule,
                    checked,
                    ..
                } if *source == name && *benchmark == suite.benchmark_name() => {
                    Some((rule.starts_with("not checked"), *checked))
                }
                _ => None,
            });
            let (absent, checked) = row.unwrap();
            assert_eq!(checked == 0, absent, "{}", suite.name());
        }
    }
}
