//! The dry run: what a run would find, without an engine. It covers the rows of each source, the rewards and benchmarks
//! for it, and whether stages, sources and rewards fit together.

use std::collections::{BTreeMap, BTreeSet};

use demask_api::{Picture, PictureScore};
use demask_datasets::curation::decontaminate::Forbidden;
use demask_datasets::curation::likeness_cache::LikenessCache;
use demask_datasets::data_dir;
use demask_datasets::example::{Example, Kind, Mode, Split};
use demask_datasets::tabletop::Tabletop;
use demask_rewards::completion::Completion;
use demask_rewards::rewards::{Evidence, Needs, NetworkScore, REWARDS, Reward, RewardCase};
use demask_rewards::verifiers::Verifiers;
use demask_storage::Gate;
use serde::Serialize;

use super::sources::{self, Report, SourceError};
use crate::pipeline::external_rewards::{RewardTrial, try_rewards};
use crate::profile::{Profile, Source, SourceKind, Stage, StageKind};

/// Examples of a source that are enough to see what it holds.
pub const ENOUGH: usize = 64;
/// Reasons of one source that are counted separately; the others are counted together.
const REASONS: usize = 8;

/// The result of a dry run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DryRun {
    /// Report on each source, in the profile's order.
    pub sources: Vec<SourceReport>,
    /// Result of the trial of each external reward.
    pub external_rewards: Vec<RewardTrial>,
    /// Problems: what would make the run fail, or a stage learn nothing.
    pub problems: Vec<String>,
    /// Notes: what the user may not have intended.
    pub notes: Vec<String>,
}

/// The report on a source.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceReport {
    /// Name of the source.
    pub name: String,
    /// Kind of the source.
    pub kind: String,
    /// Rows of the file or folder; `None` if the examples are generated, or if the file cannot be opened.
    pub rows: Option<u64>,
    /// Examples that may be trained on; `None` as for `rows`.
    pub kept: Option<u64>,
    /// Number of rejected rows and examples, by gate and reason.
    pub turned_away: BTreeMap<String, u64>,
    /// Kinds of the examples.
    pub asks: Vec<String>,
    /// Stages that train on the source.
    pub stages: Vec<String>,
    /// Rewards with a weight that score its examples.
    pub rewards: Vec<String>,
    /// Benchmarks of the profile with the same kind of examples.
    pub benchmarks: Vec<String>,
}

/// Reads every source as a run does, and compares sources, stages and rewards.
#[must_use]
pub fn dry_run(profile: &Profile) -> DryRun {
    data_dir::within(profile.data.clone().or_else(data_dir::folder), || look(profile))
}

/// Reads the sources and collects all problems and notes instead of stopping at the first, so that the user can fix
/// them together.
fn look(profile: &Profile) -> DryRun {
    let mut found = DryRun::default();
    let forbidden = sources::benchmarks(profile, &mut LikenessCache::default(), &mut |_| ());
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
        match examples(source, profile, &forbidden, &mut report, &mut found.notes) {
            Ok(examples) => {
                let kinds: BTreeSet<Kind> = examples.iter().map(|example| example.kind).collect();
                report.asks = kinds.iter().map(|kind| kind.name().to_owned()).collect();
                report.rewards = rewards(profile, &examples, &verifiers);
                report.rewards.extend(external(profile, &examples));
                let same = suites.iter().filter(|(_, kind)| kinds.contains(kind));
                report.benchmarks = same.map(|(name, _)| name.clone()).collect();
                samples.insert(source.name.clone(), examples);
            }
            Err(error) => found.problems.push(error.to_string()),
        }
        if report.stages.is_empty() {
            let why = if source.weight > 0.0 {
                "no stage uses it"
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
    found.external_rewards = try_rewards(profile, &samples);
    let failed = |trial: &RewardTrial| Some(format!("reward {}: {}", trial.name, trial.failure.as_ref()?));
    let failed: Vec<String> = found.external_rewards.iter().filter_map(failed).collect();
    found.problems.extend(failed);
    for idle in found
        .external_rewards
        .iter()
        .filter(|trial| trial.source.is_none())
    {
        let note = format!(
            "reward {} is never used: no source has examples that it can judge",
            idle.name
        );
        found.notes.push(note);
    }
    let unjudged = unjudged(profile, &samples);
    found
        .problems
        .extend(unjudged.map(|(stage, why)| format!("stage {stage}: {why}")));
    found
}

/// Returns the examples of a source: all that are read, or the first that are generated.
fn examples(
    source: &Source,
    profile: &Profile,
    forbidden: &Forbidden,
    found: &mut SourceReport,
    notes: &mut Vec<String>,
) -> Result<Vec<Example>, SourceError> {
    if let SourceKind::Tabletop(kind) = source.kind {
        return Ok(generated(profile, kind));
    }
    let mut report = |report| match report {
        Report::Rejected { gate, reason, .. } => count(&mut found.turned_away, gate, &reason),
        Report::Capped { source, rows } => notes.push(format!("source {source}: {}", sources::capped(rows))),
        Report::Unlisted { .. } | Report::Clean { .. } | Report::Done { .. } => {}
    };
    let room = std::env::temp_dir();
    let read = sources::read(source, profile, &room, forbidden, &mut report, &mut |_| true);
    if let Err(SourceError::TooManyBad { rows, .. }) = &read {
        found.rows = Some(*rows);
    }
    let mut read = read?;
    (found.rows, found.kept) = (Some(read.count), Some(read.len() as u64));
    sources::first(source, &mut read, ENOUGH)
}

/// Counts a rejection. Duplicates are counted together, whichever row they equal.
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

/// Returns the benchmarks that the profile names, with the kind of their items.
fn suites(profile: &Profile) -> Vec<(String, Kind)> {
    let named = profile.stages.iter().flat_map(|stage| &stage.suites);
    let named: BTreeSet<&String> = named.chain(&profile.gate.suites).collect();
    let known = profile.suites();
    named
        .into_iter()
        .filter_map(|name| {
            let items = known.find(name)?.examples(Some(1)).ok()?;
            Some((name.clone(), items.first()?.kind))
        })
        .collect()
}

/// Returns the stages that train on a source.
fn stages_of(profile: &Profile, source: &Source) -> Vec<String> {
    let learns = |stage: &&Stage| {
        stage.kind != StageKind::Evaluate && stage.takes(&source.name) && source.weight > 0.0
    };
    let stages = profile.stages.iter().filter(learns);
    stages.map(|stage| stage.name.clone()).collect()
}

/// Returns the rewards in use that give the right completion of one of the examples a positive value.
fn rewards(profile: &Profile, examples: &[Example], verifiers: &Verifiers) -> Vec<String> {
    speaking(examples, verifiers, &|reward| counts(profile, reward), false)
}

/// Returns the external rewards with a weight that judge one of the examples.
fn external(profile: &Profile, examples: &[Example]) -> Vec<String> {
    let weighed = profile.external_rewards.iter().filter(|reward| {
        let weight = profile.rewards.get(&reward.name);
        weight.is_some_and(|&weight| weight > 0.0)
    });
    let judging = weighed.filter(|reward| {
        examples
            .iter()
            .any(|example| reward.judges(example, example.own_mode()))
    });
    judging.map(|reward| reward.name.clone()).collect()
}

/// Returns whether a reward has a weight in the profile, and the network that it needs.
fn counts(profile: &Profile, reward: &dyn Reward) -> bool {
    let folders = &profile.reward_networks;
    let is_there = match reward.needs() {
        Needs::Network("clip") => folders.clip.is_some(),
        Needs::Network("image_reward") => folders.image_reward.is_some(),
        _ => true,
    };
    let weight = profile.rewards.get(reward.name());
    is_there && weight.is_some_and(|&weight| weight > 0.0)
}

/// Returns those of some rewards that give the right completion of one of the examples a positive value. With `judges`,
/// the value must also exceed that of a wrong completion of the same form.
fn speaking(
    examples: &[Example],
    verifiers: &Verifiers,
    among: &dyn Fn(&dyn Reward) -> bool,
    judges: bool,
) -> Vec<String> {
    REWARDS
        .iter()
        .filter(|reward| among(**reward))
        .filter(|reward| {
            examples.iter().any(|example| {
                let drawn = example.kind.draws();
                if let Needs::Network(_) = reward.needs() {
                    let score = PictureScore {
                        cosine: Some(1.0),
                        image_reward: Some(1.0),
                    };
                    let evidence = Evidence::Network(NetworkScore { score, drawn });
                    let speaks = reward.score(&evidence).is_some_and(|value| value > 0.0);
                    return drawn && example.picture.is_some() && speaks;
                }
                let value = |completion: &Completion| {
                    let evidence = Evidence::Case(RewardCase {
                        example,
                        mode: Mode::Think,
                        completion,
                        budget: usize::MAX,
                        verifiers,
                    });
                    reward.score(&evidence)
                };
                let least = match judges {
                    true => value(&wrong(example)).unwrap_or(0.0).max(0.0),
                    false => 0.0,
                };
                value(&right(example)).is_some_and(|value| value > least)
            })
        })
        .map(|reward| reward.name().to_owned())
        .collect()
}

/// Returns the first `align` stage whose examples no reward can judge, with advice. A run that could only learn from
/// zeros is not started. `samples` are some examples of each source.
#[must_use]
pub fn unjudged(profile: &Profile, samples: &BTreeMap<String, Vec<Example>>) -> Option<(String, String)> {
    let aligning = |stage: &&Stage| stage.kind == StageKind::Align;
    let mut stages = profile.stages.iter().filter(aligning).peekable();
    stages.peek()?;
    let verifiers = Verifiers {
        classes: sources::classes(profile),
        ..Verifiers::default()
    };
    stages.find_map(|stage| {
        let takes = |source: &&Source| stage.takes(&source.name) && source.weight > 0.0;
        let its = profile.sources.iter().filter(takes);
        let its: Vec<(&Source, &Vec<Example>)> = its
            .filter_map(|source| Some((source, samples.get(&source.name)?)))
            .collect();
        let is_judged = |examples: &[Example]| {
            if !external(profile, examples).is_empty() {
                return true;
            }
            let judging = speaking(examples, &verifiers, &|reward| counts(profile, reward), true);
            !judging.is_empty()
        };
        if its.is_empty() || its.iter().any(|(_, examples)| is_judged(examples)) {
            return None;
        }
        let advice: Vec<String> = its
            .iter()
            .map(|(source, examples)| {
                let could = speaking(examples, &verifiers, &|_| true, true);
                let kind = source.kind.name();
                match could.is_empty() {
                    true => format!("{} ({kind}) by no existing reward", source.name),
                    false => format!("{} ({kind}) by {}", source.name, could.join(", ")),
                }
            })
            .collect();
        let found = format!(
            "none of the weighted rewards can judge its sources; rewards that could: {}; give one a weight in \
             [rewards], set the folder of a network in [reward_networks], or define your own reward in [[reward]]",
            advice.join("; ")
        );
        Some((stage.name.clone(), found))
    })
}

/// Returns the first examples of a generated source.
#[must_use]
pub fn generated(profile: &Profile, kind: Kind) -> Vec<Example> {
    let world = Tabletop::new(profile.seed);
    let first = (0..4).map(|index| world.example(kind, Split::Train, index));
    first.collect()
}

/// Returns the right completion of an example.
fn right(example: &Example) -> Completion {
    Completion {
        text: example.completion(Mode::Think),
        picture: example.picture.clone(),
        tokens: 1,
    }
}

/// Returns a wrong completion of the same form and length: another result after the same reasoning, or a black picture.
fn wrong(example: &Example) -> Completion {
    let right = right(example);
    let reasoning = right.text.find("</think>").map(|at| at + "</think>".len());
    let nothing = |picture: Picture| Picture {
        rgb: vec![0; picture.rgb.len()],
        ..picture
    };
    Completion {
        text: format!("{}zzz", &right.text[..reasoning.unwrap_or(0)]),
        picture: right.picture.map(nothing),
        tokens: right.tokens,
    }
}

/// Checks that a stage has something to train on.
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
        _ if its.is_empty() => None, // already noted for each source
        StageKind::Tokenizer if !any(&|example| example.picture.is_some()) => Some(format!(
            "stage {name} trains the image tokenizer, but none of its sources has pictures"
        )),
        StageKind::Reason
            if !any(&|example| example.kind == Kind::WordProblem && example.answer.is_some()) =>
        {
            Some(format!(
                "stage {name} needs word problems with answers, but none of its sources has any"
            ))
        }
        StageKind::Align => {
            let silent = its.iter().filter(|source| source.rewards.is_empty());
            notes.extend(
                silent.map(|source| format!("stage {name}: no reward judges source {}", source.name)),
            );
            None
        }
        _ => None,
    };
    found.problems.extend(problem);
    found.notes.extend(notes);
}
