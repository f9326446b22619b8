//! The check that the stages of a run can use its sources: every example is measured against the run's budgets before
//! the first step.

use demask_datasets::example::{Example, Kind, Mode};
use demask_datasets::prompts::sequences::{SequenceBuilder, SequenceError};
use demask_storage::Gate;

use crate::pipeline::curation::library::ExampleLibrary;
use crate::pipeline::curation::sources::{Report, SourceError};
use crate::pipeline::curation::training_example::location;
use crate::profile::{Profile, Source, Stage, StageKind};

/// Examples after which a source with too large a share of long ones is given up before its end.
const ENOUGH: u64 = 1000;

/// The use of an example in a stage: the modes in which it may be written, and whether with its answer.
struct Uses {
    modes: Vec<Mode>,
    answered: bool,
}

/// The number of examples that a stage wants and can use.
#[derive(Clone, Debug, Default)]
struct Count {
    wanted: u64,
    usable: u64,
    why: Option<String>,
}

/// The counts of all stages over the examples that were measured so far.
pub struct Fitting<'a> {
    profile: &'a Profile,
    builder: &'a SequenceBuilder,
    counts: Vec<Count>,
}

impl<'a> Fitting<'a> {
    /// Makes counts before any measurement.
    #[must_use]
    pub fn new(profile: &'a Profile, builder: &'a SequenceBuilder) -> Self {
        Self {
            profile,
            builder,
            counts: vec![Count::default(); profile.stages.len()],
        }
    }

    /// Measures a source. An example that fits into no stage that takes it is reported. `told` receives the number of
    /// measured examples and returns whether to go on.
    ///
    /// # Errors
    /// An error if more examples than `limits.bad_row_share` allows cannot be read or are too long, or if one cannot be
    /// read again.
    pub fn measure(
        &mut self,
        source: &Source,
        library: &mut ExampleLibrary,
        report: &mut dyn FnMut(Report),
        told: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), SourceError> {
        let (mut long, mut first) = (0, String::new());
        let count = library.len() as u64;
        for number in 0..library.len() {
            if number % 1024 == 0 && !told(number as u64) {
                return Err(SourceError::GivenUp);
            }
            let example = library.get(number).map_err(|error| SourceError::Changed {
                name: source.name.clone(),
                error,
            })?;
            let Err(reason) = self.fit(source, &example) else {
                continue;
            };
            long += 1;
            if first.is_empty() {
                first = format!("{}: {reason}", location(&example));
            }
            report(Report::Rejected {
                source: source.name.clone(),
                subject: location(&example),
                gate: Gate::Parse,
                reason,
            });
            let seen = number as u64 + 1;
            if seen >= ENOUGH && self.too_many(library.bad + long, library.bad + seen) && seen < count {
                return Err(self.refused(source, library, long, seen, &first));
            }
        }
        if long > 0 && self.too_many(library.bad + long, library.bad + count) {
            return Err(self.refused(source, library, long, count, &first));
        }
        report(Report::Done {
            source: source.name.clone(),
            rows: library.count,
            kept: count - long,
        });
        Ok(())
    }

    fn too_many(&self, bad: u64, rows: u64) -> bool {
        bad as f64 > self.profile.limits.bad_row_share * rows as f64
    }

    fn refused(
        &self,
        source: &Source,
        library: &ExampleLibrary,
        long: u64,
        seen: u64,
        first: &str,
    ) -> SourceError {
        SourceError::TooLong {
            name: source.name.clone(),
            long,
            bad: library.bad,
            rows: library.bad + seen,
            allowed: self.profile.limits.bad_row_share,
            first: first.to_owned(),
        }
    }

    /// Counts an example for each stage that wants it.
    ///
    /// # Errors
    /// A message if the example fits into none of these stages. It has the same text for all examples that fail for the
    /// same reason.
    fn fit(&mut self, source: &Source, example: &Example) -> Result<(), String> {
        let (mut why, mut fits) = (None, false);
        for (stage, count) in self.profile.stages.iter().zip(&mut self.counts) {
            let Some(uses) = uses(stage, source, example) else {
                continue;
            };
            count.wanted += 1;
            match fit(self.builder, example, &uses) {
                Ok(()) => {
                    count.usable += 1;
                    fits = true;
                }
                Err(error) => {
                    count
                        .why
                        .get_or_insert_with(|| format!("{}: {}", location(example), error.reason()));
                    why = why.or_else(|| Some(error.reason()));
                }
            }
        }
        match why {
            Some(why) if !fits => Err(why),
            _ => Ok(()),
        }
    }

    /// Checks that every stage that trains only on files can use some of their examples.
    ///
    /// # Errors
    /// An error for the first stage that cannot.
    pub fn check_stages(&self) -> Result<(), SourceError> {
        for (stage, count) in self.profile.stages.iter().zip(&self.counts) {
            let generated = |source: &&Source| !source.kind.reads();
            let mut its = self.profile.sources.iter().filter(|source| takes(stage, source));
            if stage.kind == StageKind::Evaluate || count.usable > 0 || its.any(|source| generated(&source)) {
                continue;
            }
            let (wants, found) = (wants(stage.kind), count.why.clone());
            return Err(SourceError::Unusable {
                stage: stage.name.clone(),
                found: match found {
                    Some(why) => format!(
                        "none of {} examples fits (`budgets` in the profile); {why}",
                        count.wanted
                    ),
                    None => format!("it needs {wants}, but its sources have none"),
                },
            });
        }
        Ok(())
    }
}

/// Returns whether a stage draws from a source.
fn takes(stage: &Stage, source: &Source) -> bool {
    source.weight > 0.0 && (stage.sources.is_empty() || stage.sources.contains(&source.name))
}

fn wants(kind: StageKind) -> &'static str {
    match kind {
        StageKind::Tokenizer => "pictures",
        StageKind::Reason => "word problems with an answer",
        _ => "examples",
    }
}

/// Returns the use of an example in a stage; `None` if the stage does not want it.
fn uses(stage: &Stage, source: &Source, example: &Example) -> Option<Uses> {
    if !takes(stage, source) {
        return None;
    }
    let reasons = example.reasoning.is_some() || example.kind == Kind::WordProblem;
    let asked = || Uses {
        modes: vec![if reasons { Mode::Think } else { Mode::Direct }],
        answered: false,
    };
    let wanted = match stage.kind {
        StageKind::Evaluate => return None,
        StageKind::Pretrain => Uses {
            modes: vec![Mode::Direct],
            answered: true,
        },
        StageKind::Finetune => {
            let thinks = example.reasoning.is_some() && stage.think_share > 0.0;
            let direct = example.reasoning.is_none() || stage.think_share < 1.0;
            let modes = [(Mode::Think, thinks), (Mode::Direct, direct)];
            Uses {
                modes: modes
                    .into_iter()
                    .filter(|(_, may)| *may)
                    .map(|(mode, _)| mode)
                    .collect(),
                answered: true,
            }
        }
        StageKind::Tokenizer if example.picture.is_none() => return None,
        StageKind::Reason if example.kind != Kind::WordProblem || example.answer.is_none() => return None,
        StageKind::Tokenizer | StageKind::Reason | StageKind::Align => asked(),
    };
    Some(wanted)
}

/// Checks that an example fits in one of the modes.
fn fit(builder: &SequenceBuilder, example: &Example, uses: &Uses) -> Result<(), SequenceError> {
    let mut failed = Ok(());
    for &mode in &uses.modes {
        // A picture has as many codes as its budget; the profile is refused otherwise.
        let codes = vec![0; builder.budgets().of(example.task(mode)).codes];
        let made = match uses.answered {
            true => builder.train(example, mode, &codes, false).map(drop),
            false => builder.prompt(example, mode, &codes).map(drop),
        };
        match made {
            Ok(()) => return Ok(()),
            Err(error) => failed = Err(error),
        }
    }
    failed
}
