//! What is recorded: one enum for the store, the event stream and the dashboard.
//!
//! Every record carries enough identity to be written twice without harm: after a crash the work since the last
//! checkpoint is done again with the same seed, and the same rows arrive again (law L1).

mod request;

use serde::{Deserialize, Serialize};

pub use self::request::{Labels, Parent, QueueAction, QueueChange, Queued, Relabelled, RunRequest};
use crate::live::{ActorView, Frame, Overview};
use crate::vocabulary::{Decision, Gate, Modality, RunState, SteerAction};

/// A record on its way to watchers: committed, numbered, timed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// Sequence number in the store's event log; live-only records carry the number of the last committed one.
    pub seq: u64,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// What happened.
    pub record: Record,
}

/// Everything that can be recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A run began (or began again after a crash: same id, generation + 1).
    Run(Run),
    /// A run ended.
    RunEnd(RunEnd),
    /// A run is called otherwise.
    Relabelled(Relabelled),
    /// A run waits for its turn.
    Queued(Queued),
    /// Those that wait were put in another order, or one was cancelled.
    Queue(QueueChange),
    /// Values of one step.
    Metric(Metric),
    /// A person's command, when asked and again when it took effect (law L4).
    Steer(Steer),
    /// A checkpoint is complete on disk.
    Checkpoint(Checkpoint),
    /// An example passed or failed a gate of curation.
    Example(ExampleRecord),
    /// A reasoning trace was proposed.
    Trace(Trace),
    /// A gate's verdict on a trace or an example; every rejection is a row with its reason.
    Verdict(GateVerdict),
    /// One sample of a rollout group.
    Sample(RolloutSample),
    /// A sequence was trained on (law L5).
    TrainUse(TrainUse),
    /// A benchmark's result.
    Eval(Eval),
    /// One item of a benchmark, with what the model gave for it.
    Item(EvalItem),
    /// An evaluation outside a run began, or ended.
    Evaluation(Evaluation),
    /// An overlap check against a registered benchmark (law L6).
    Clean(CleanCheck),
    /// Something that a person should know.
    Alert(Alert),
    /// An actor started, failed, restarted, stopped.
    Lifecycle(Lifecycle),
    /// A denoising frame. Kept for watched samples so that they can be scrubbed later.
    Frame(Frame),
    /// Live only: an actor's present state.
    Actor(ActorView),
    /// Live only: where the run is.
    Overview(Overview),
}

impl Record {
    /// Whether it may never be dropped under pressure (audit, samples, checkpoints, lineage); metrics and frames
    /// may be thinned.
    #[must_use]
    pub fn durable(&self) -> bool {
        !matches!(
            self,
            Self::Metric(_) | Self::Frame(_) | Self::Actor(_) | Self::Overview(_)
        )
    }

    /// Whether it is an event of the log too. Items of benchmarks are rows alone: they are many, and nobody replays them.
    #[must_use]
    pub fn logged(&self) -> bool {
        self.durable() && !matches!(self, Self::Item(_) | Self::Evaluation(_))
    }

    /// Whether it has a row in the store at all.
    #[must_use]
    pub fn stored(&self) -> bool {
        !matches!(self, Self::Actor(_) | Self::Overview(_))
    }
}

/// A run's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// UUIDv7.
    pub id: String,
    /// The run that it went on from, if any.
    pub parent: Option<String>,
    /// The profile's name.
    pub profile: String,
    /// The whole configuration as JSON, every default filled in.
    pub config: serde_json::Value,
    /// BLAKE3 of the canonical configuration.
    pub config_hash: String,
    /// The seed.
    pub seed: u64,
    /// Host name.
    pub host: String,
    /// Version of Demask (and commit where known).
    pub version: String,
    /// 0 at the first start, one more at each resume.
    pub generation: u64,
    /// The step of the parent whose checkpoint its weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_step: Option<u64>,
    /// What people called it when it began.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The run.
    pub run: String,
    /// How: [`RunState::Done`], [`RunState::Stopped`], [`RunState::Failed`], or [`RunState::Interrupted`], which is no end.
    pub status: RunState,
    /// Why, in words.
    pub reason: String,
}

/// Values of one step: names are `area/what`, e.g. `train/loss`, `reward/total`, `rate/tokens_per_s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The run.
    pub run: String,
    /// The run's own step counter (all stages in one line).
    pub step: u64,
    /// Name and value; not finite becomes NULL and an alert.
    pub values: Vec<(String, f64)>,
}

/// A command that a person gave (law L4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steer {
    /// UUIDv7 of the command; the row is updated when it takes effect.
    pub id: String,
    /// The run.
    pub run: String,
    /// Who: user name and client (`cli`, `dashboard`).
    pub by: String,
    /// What was asked.
    pub action: SteerAction,
    /// The knob, for `set`.
    pub key: Option<String>,
    /// Its value before.
    pub old: Option<String>,
    /// Its value after.
    pub new: Option<String>,
    /// The step at which it was asked.
    pub asked_step: u64,
    /// The step at which it took effect; none while it waits for the boundary (law L3).
    pub applied_step: Option<u64>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The manifest's BLAKE3.
    pub hash: String,
    /// The run.
    pub run: String,
    /// The run's step.
    pub step: u64,
    /// Optimiser steps: the weights version.
    pub weights: u64,
    /// The folder, relative to the home.
    pub path: String,
    /// `interval`, `stage`, `asked`, `stop`, `promoted`.
    pub reason: String,
    /// Bytes.
    pub bytes: u64,
    /// False once it was pruned.
    pub kept: bool,
}

/// An example as the curator saw it. The id is derived from its content, so the same one arrives once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleRecord {
    /// Content-derived id.
    pub id: String,
    /// The run that saw it first.
    pub run: String,
    /// `tabletop`, a file name, `reasoner`.
    pub source: String,
    /// `train`, `validation`, `test`.
    pub split: String,
    /// What it asks for.
    pub modality: Modality,
    /// The checkpoint that generated it, or `none` for given data.
    pub generator: String,
    /// What verified it: a verifier's name and version, or `source`.
    pub verifier: String,
    /// The verifier's score.
    pub score: f64,
    /// The text that is trained on.
    pub text: String,
    /// A blob's hash, if there is a picture.
    pub picture: Option<String>,
    /// Licence of the source.
    pub licence: String,
    /// Where the source has it, `train.jsonl:17`; empty for what was generated.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// A proposed reasoning trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// Run, round, problem and number: stable over a restart.
    pub id: String,
    /// The run.
    pub run: String,
    /// The round of the self-improving loop.
    pub round: u64,
    /// The problem's example id.
    pub example: String,
    /// The checkpoint that wrote it, or `teacher:MODEL`.
    pub generator: String,
    /// The sampler's settings as JSON.
    pub sampler: serde_json::Value,
    /// Seed.
    pub seed: u64,
    /// The prompt.
    pub prompt: String,
    /// The completion as it came.
    pub text: String,
}

/// A gate's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateVerdict {
    /// The trace's or example's id.
    pub subject: String,
    /// The run.
    pub run: String,
    /// The round, 0 for given data.
    pub round: u64,
    /// The gate of the funnel.
    pub gate: Gate,
    /// Passed.
    pub passed: bool,
    /// Why not (or a note); for unreadable rows file, line and reason.
    pub reason: String,
    /// Where it came from.
    pub source: String,
    /// How many rows it stands for.
    #[serde(default = "one")]
    pub count: u64,
}

const fn one() -> u64 {
    1
}

/// One sample of a rollout group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSample {
    /// `run/step/group/number`: stable over a restart.
    pub id: String,
    /// The run.
    pub run: String,
    /// The run's step that trains on it.
    pub step: u64,
    /// The group within the step.
    pub group: u64,
    /// The number within the group.
    pub number: u64,
    /// The prompt's example id.
    pub example: String,
    /// What it asks for.
    pub modality: Modality,
    /// Weights version that drew it.
    pub weights: u64,
    /// The prompt.
    pub prompt: String,
    /// The completion in words; for a picture what the detector read.
    pub text: String,
    /// A blob's hash, if there is a picture.
    pub picture: Option<String>,
    /// Reward parts: name, value, weight.
    pub parts: Vec<(String, f64, f64)>,
    /// Weighted sum.
    pub total: f64,
    /// Group-relative advantage.
    pub advantage: f64,
    /// Whether the trainer used it.
    pub trained: bool,
    /// The answer that is right; empty where none is known.
    #[serde(default)]
    pub reference: String,
    /// The picture that was asked about, as a blob's hash.
    #[serde(default)]
    pub asked: Option<String>,
}

/// A sequence was trained on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainUse {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// The stage's name.
    pub stage: String,
    /// The sequences' example, trace or sample ids, in batch order.
    pub subjects: Vec<String>,
}

/// A benchmark's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// The run, or `none` outside one.
    pub run: String,
    /// The run's step.
    pub step: u64,
    /// The checkpoint's hash or weights version.
    pub checkpoint: String,
    /// The suite.
    pub suite: String,
    /// The metric's name.
    pub metric: String,
    /// 0..1.
    pub value: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Items.
    pub n: u64,
    /// Value a part.
    pub parts: Vec<(String, f64)>,
    /// What the promotion gate decided; none where it decides nothing.
    #[serde(with = "crate::vocabulary::decided")]
    pub decision: Option<Decision>,
    /// The mean gain on the promoted checkpoint over the same items, and the ends of its 95 % interval; none where nothing
    /// was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<[f64; 3]>,
}

/// One item of a benchmark, with what the model gave for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalItem {
    /// The run, or the evaluation's id outside one.
    pub run: String,
    /// The run's step; 0 outside one.
    pub step: u64,
    /// The suite.
    pub suite: String,
    /// The item's number within the suite, from 0.
    pub number: u64,
    /// The item's content-derived id.
    pub item: String,
    /// The part of the suite that it belongs to.
    pub category: String,
    /// Whether the suite's value counts it; held-out compositions are reported apart.
    pub counted: bool,
    /// The prompt.
    pub prompt: String,
    /// The picture that was asked about, as a blob's hash.
    pub picture: Option<String>,
    /// What the model gave, in words; for a drawing what the detector reads.
    pub output: String,
    /// The picture that was drawn, as a blob's hash.
    pub drawn: Option<String>,
    /// The answer as it was read from the output.
    pub answer: String,
    /// The answer that is right.
    pub reference: String,
    /// The verdict, from 0, wrong, to 1, right.
    pub credit: f64,
    /// Tokens of the text.
    pub tokens: u64,
    /// Forward passes.
    pub forwards: u64,
    /// Seconds: the item's share of the batch that it ran in.
    pub seconds: f64,
}

/// An evaluation outside a run: what was measured, and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Its id, in the place of a run's in `eval` and `item` rows.
    pub id: String,
    /// The checkpoint: the folder, and the hash of its weights.
    pub checkpoint: String,
    /// The suites' names.
    pub suites: Vec<String>,
    /// Samplers, mode and reward networks, as JSON.
    pub settings: serde_json::Value,
    /// Seed of the samplers.
    pub seed: u64,
    /// Counted items a suite, at most.
    pub limit: Option<u64>,
    /// Host name.
    pub host: String,
    /// Version of Demask.
    pub version: String,
    /// [`RunState::Running`] until it is [`RunState::Done`].
    pub state: RunState,
}

/// An overlap check against one benchmark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CleanCheck {
    /// The run.
    pub run: String,
    /// The benchmark.
    pub benchmark: String,
    /// What was checked: a source's name.
    pub source: String,
    /// The rule: `13-gram`, `8-gram`, `whole`, `picture`.
    pub rule: String,
    /// Examples checked.
    pub checked: u64,
    /// Examples that overlapped and were removed.
    pub overlapped: u64,
}

/// How loud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For a developer.
    Debug,
    /// Normal.
    Info,
    /// Recovered.
    Warn,
    /// Lost or stopped.
    Error,
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// How bad.
    pub level: Level,
    /// `not_finite`, `disk_full`, `bad_rows`, `reward_hacking`, `actor_failed`, …
    pub kind: String,
    /// What happened, and what was done about it.
    pub message: String,
}

/// An actor's or an engine's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The run, or empty.
    pub run: String,
    /// Who.
    pub actor: String,
    /// Which life of it.
    pub generation: u64,
    /// `started`, `stopped`, `failed`, `restarted`, `gave_up`.
    pub what: String,
    /// Why.
    pub reason: String,
}
