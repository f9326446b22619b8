//! What a run would find, without an engine: the rows of each source, which rewards and benchmarks speak of it, and whether
//! stages, sources and rewards fit together.

use std::collections::{BTreeMap, BTreeSet};

use demask_api::PictureScore;
use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::data_dir;
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::benchmarks::Suite;
use demask_rewards::completion::Completion;
use demask_rewards::rewards::{Case, Evidence, Needs, NetworkScore, REWARDS};
use demask_rewards::verifiers::Verifiers;
use demask_storage::Gate;
use serde::Serialize;

use super::sources::{self, Report, SourceError};
use crate::profile::{Profile, Source, SourceKind, Stage, StageKind};

/// Examples of a source that say what it is about.
const ENOUGH: usize = 64;
/// Reasons of one source that are counted apart; the others are counted together.
const REASONS: usize = 8;

/// What a run would find.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DryRun {
    /// Each source, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// What would make the run fail, or a stage learn nothing.
    pub problems: Vec<String>,
    /// What a person may not have meant.
    pub notes: Vec<String>,
}

/// What a source holds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceReport {
    /// The name.
    pub name: String,
    /// The kind.
    pub kind: String,
    /// Rows of the file or folder; none where the examples are generated, or the file cannot be opened.
    pub rows: Option<u64>,
    /// Examples that may be trained on; none as for `rows`.
    pub kept: Option<u64>,
    /// Rows and examples that were turned away, by gate and reason.
    pub turned_away: BTreeMap<String, u64>,
    /// What the examples ask for.
    pub asks: Vec<String>,
    /// Stages that learn from it.
    pub stages: Vec<String>,
    /// Rewards with a weight that speak of its examples.
    pub rewards: Vec<String>,
    /// The profile's benchmarks that ask for the same.
    pub benchmarks: Vec<String>,
}

/// Reads every source as a run does, and compares.
#[must_use]
pub fn dry_run(profile: &Profile) -> DryRun {
    data_dir::within(profile.data.clone().or_else(data_dir::folder), || look(profile))
}

fn look(profile: &Profile) -> DryRun {
    let mut found = DryRun::default();
    let forbidden = sources::benchmarks(profile, &mut |_| ());
    let verifiers = Verifiers {
        classes: sources::classes(profile),
        ..Verifiers::default()
    };
    let suites = suites(profile);
    let mut samples = BTreeMap::new();
    for source in &profile.sources {
        let mut report = SourceReport {
            name: source.name.clone(),
            kind: source.kind.name().to_owned(),
            stages: stages_of(profile, source),
            ..SourceReport::default()
        };
        match examples(source, profile, &forbidden, &mut report) {
            Ok(examples) => {
                let kinds: BTreeSet<Kind> = examples.iter().map(|example| example.kind).collect();
                report.asks = kinds.iter().map(|kind| kind.name().to_owned()).collect();
                report.rewards = rewards(profile, &examples, &verifiers);
                let same = suites.iter().filter(|(_, kind)| kinds.contains(kind));
                report.benchmarks = same.map(|(name, _)| name.clone()).collect();
                samples.insert(source.name.clone(), examples);
            }
            Err(error) => found.problems.push(error.to_string()),
        }
        if report.stages.is_empty() {
            let why = if source.weight > 0.0 {
                "no stage takes it"
            } else {
                "its weight is 0"
            };
            found
                .notes
                .push(format!("source {} is never used: {why}", source.name));
        }
        found.sources.push(report);
    }
    for stage in &profile.stages {
        fits(stage, &samples, &mut found);
    }
    found
}

/// Examples of a source: all that are read, or the first that are generated.
fn examples(
    source: &Source,
    profile: &Profile,
    forbidden: &Forbidden,
    found: &mut SourceReport,
) -> Result<Vec<Example>, SourceError> {
    if let SourceKind::Tabletop(kind) = source.kind {
        let world = Tabletop::new(profile.seed);
        return Ok((0..4)
            .map(|index| world.example(kind, Split::Train, index))
            .collect());
    }
    let mut report = |report| {
        if let Report::Rejected { gate, reason, .. } = report {
            count(&mut found.turned_away, gate, &reason);
        }
    };
    let room = std::env::temp_dir();
    let read = sources::read(source, profile, &room, forbidden, &mut report, &mut |_| true);
    if let Err(SourceError::TooManyBad { rows, .. }) = &read {
        found.rows = Some(*rows);
    }
    let mut read = read?;
    (found.rows, found.kept) = (Some(read.count), Some(read.len() as u64));
    let first = (0..read.len().min(ENOUGH)).map(|number| read.get(number));
    first
        .collect::<Result<_, _>>()
        .map_err(|error| SourceError::Changed {
            name: source.name.clone(),
            error,
        })
}

/// Duplicates are counted together, whichever row they are equal to.
fn count(reasons: &mut BTreeMap<String, u64>, gate: Gate, reason: &str) {
    let mut key = match gate {
        Gate::ExactDedup | Gate::NearDedup => gate.to_string(),
        _ => format!("{gate}: {reason}"),
    };
    if reasons.len() >= REASONS && !reasons.contains_key(&key) {
        key = format!("{gate}: other reasons");
    }
    *reasons.entry(key).or_default() += 1;
}

/// The benchmarks that the profile names, and what their items ask for.
fn suites(profile: &Profile) -> Vec<(String, Kind)> {
    let named = profile.stages.iter().flat_map(|stage| &stage.suites);
    let named: BTreeSet<&String> = named.chain(&profile.gate.suites).collect();
    named
        .into_iter()
        .filter_map(|name| {
            let items = Suite::find(name)?.examples(Some(1)).ok()?;
            Some((name.clone(), items.first()?.kind))
        })
        .collect()
}

/// The stages that learn from a source.
fn stages_of(profile: &Profile, source: &Source) -> Vec<String> {
    let learns = |stage: &&Stage| {
        stage.kind != StageKind::Evaluate && stage.takes(&source.name) && source.weight > 0.0
    };
    let stages = profile.stages.iter().filter(learns);
    stages.map(|stage| stage.name.clone()).collect()
}

/// The rewards that count, and that give the right completion of one of the examples something.
fn rewards(profile: &Profile, examples: &[Example], verifiers: &Verifiers) -> Vec<String> {
    let counts = |name: &str| profile.rewards.get(name).is_some_and(|&weight| weight > 0.0);
    let folders = &profile.reward_networks;
    let speaks = |needs: Needs, evidence: &Evidence, score: &dyn Fn(&Evidence) -> Option<f64>| match needs {
        Needs::Network("clip") if folders.clip.is_none() => false,
        Needs::Network("image_reward") if folders.image_reward.is_none() => false,
        _ => score(evidence).is_some_and(|value| value > 0.0),
    };
    REWARDS
        .iter()
        .filter(|reward| counts(reward.name()))
        .filter(|reward| {
            examples.iter().any(|example| {
                let completion = right(example);
                let network = NetworkScore {
                    score: PictureScore {
                        cosine: Some(1.0),
                        image_reward: Some(1.0),
                    },
                    drawn: matches!(example.kind, Kind::TextToImage | Kind::ThinkThenDraw),
                };
                let evidence = match reward.needs() {
                    Needs::Completion => Evidence::Case(Case {
                        example,
                        mode: Mode::Think,
                        completion: &completion,
                        budget: usize::MAX,
                        verifiers,
                    }),
                    Needs::Network(_) if example.picture.is_none() => return false,
                    Needs::Network(_) => Evidence::Network(network),
                };
                speaks(reward.needs(), &evidence, &|evidence| reward.score(evidence))
            })
        })
        .map(|reward| reward.name().to_owned())
        .collect()
}

/// The completion that the example itself gives.
fn right(example: &Example) -> Completion {
    Completion {
        text: example.completion(Mode::Think),
        picture: example.picture.clone(),
        tokens: 1,
    }
}

/// Whether a stage has something to learn from.
fn fits(stage: &Stage, samples: &BTreeMap<String, Vec<Example>>, found: &mut DryRun) {
    let its: Vec<&SourceReport> = found
        .sources
        .iter()
        .filter(|source| source.stages.contains(&stage.name) && samples.contains_key(&source.name))
        .collect();
    let any = |holds: &dyn Fn(&Example) -> bool| {
        its.iter()
            .filter_map(|source| samples.get(&source.name))
            .flatten()
            .any(holds)
    };
    let (name, mut notes) = (&stage.name, Vec::new());
    let problem = match stage.kind {
        _ if its.is_empty() => None, // told already, source by source
        StageKind::Tokenizer if !any(&|example| example.picture.is_some()) => Some(format!(
            "stage {name} trains the image tokenizer, and none of its sources has pictures"
        )),
        StageKind::Reason
            if !any(&|example| example.kind == Kind::WordProblem && example.answer.is_some()) =>
        {
            Some(format!(
                "stage {name} reasons about word problems, and none of its sources has any with an answer"
            ))
        }
        StageKind::Align => {
            let silent = its.iter().filter(|source| source.rewards.is_empty());
            let silent: Vec<&str> = silent.map(|source| source.name.as_str()).collect();
            if silent.len() == its.len() {
                Some(format!(
                    "stage {name} has no reward for any of its sources: give one a weight in [rewards]"
                ))
            } else {
                notes.extend(
                    silent
                        .iter()
                        .map(|source| format!("stage {name}: no reward speaks of source {source}")),
                );
                None
            }
        }
        _ => None,
    };
    found.problems.extend(problem);
    found.notes.extend(notes);
}
