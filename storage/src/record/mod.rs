//! The records: one enum for the store, the event stream and the dashboard.
//!
//! Every record has enough identity to be written twice without harm. After a crash, the work since the last checkpoint
//! is repeated with the same seed, and the same rows arrive again (law L1).

mod request;

use serde::{Deserialize, Serialize};

pub use self::request::{Labels, Parent, QueueAction, QueueChange, Queued, Relabelled, RunRequest};
use crate::live::{ActorView, Frame, Overview, RankView};
use crate::vocabulary::{Decision, Gate, Modality, RunState, SteerAction};

/// A record as it is sent to watchers, with sequence number and time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// The sequence number in the store's event log. Live-only records have that of the last committed record.
    pub seq: u64,
    /// Microseconds since the Unix epoch.
    pub at_us: i64,
    /// The record.
    pub record: Record,
}

/// Everything that can be recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// A run began, or resumed after a crash (same id, generation + 1).
    Run(Run),
    /// A run ended.
    RunEnd(RunEnd),
    /// A run's labels changed.
    Relabelled(Relabelled),
    /// A run was queued.
    Queued(Queued),
    /// The queue was reordered, or a waiting run was cancelled.
    Queue(QueueChange),
    /// The metrics of one step.
    Metric(Metric),
    /// The reports of the ranks of a run about one step.
    Ranks(StepRanks),
    /// A user's command: recorded when it is given, and again when it takes effect (law L4).
    Steer(Steer),
    /// A checkpoint is complete on disk.
    Checkpoint(Checkpoint),
    /// An example passed or failed a gate of curation.
    Example(ExampleRecord),
    /// A reasoning trace was proposed.
    Trace(Trace),
    /// A gate's verdict on a trace or an example. Every rejection is in a row with its reason.
    Verdict(GateVerdict),
    /// One sample of a rollout group.
    Sample(RolloutSample),
    /// A sequence was trained on (law L5).
    TrainUse(TrainUse),
    /// A benchmark's result.
    Eval(Eval),
    /// An item of a benchmark with the model's output.
    Item(EvalItem),
    /// An evaluation outside a run began or ended.
    Evaluation(Evaluation),
    /// An overlap check against a registered benchmark (law L6).
    Clean(CleanCheck),
    /// An alert for the user.
    Alert(Alert),
    /// An actor started, failed, restarted or stopped.
    Lifecycle(Lifecycle),
    /// A denoising frame of a watched sample; stored so that the sample can be replayed later.
    Frame(Frame),
    /// Live only: an actor's current state.
    Actor(ActorView),
    /// Live only: the state of the run.
    Overview(Overview),
}

impl Record {
    /// Returns whether the record must never be dropped under pressure (audit, samples, checkpoints, lineage). Metrics,
    /// frames and the reports of ranks may be thinned.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        !matches!(
            self,
            Self::Metric(_) | Self::Ranks(_) | Self::Frame(_) | Self::Actor(_) | Self::Overview(_)
        )
    }

    /// Returns whether the record is also an event of the log. Benchmark items are rows only, because they are many and
    /// never replayed. Evaluations outside a run are rows only, too.
    #[must_use]
    pub fn is_logged(&self) -> bool {
        self.is_durable() && !matches!(self, Self::Item(_) | Self::Evaluation(_))
    }

    /// Returns whether the record is stored at all.
    #[must_use]
    pub fn stored(&self) -> bool {
        !matches!(self, Self::Actor(_) | Self::Overview(_))
    }
}

/// A run's identity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// UUIDv7, that of the message which asked for the run; a UUIDv8 of that message's id if that is no UUIDv7.
    pub id: String,
    /// The run from which it continues, if any.
    pub parent: Option<String>,
    /// The profile's name.
    pub profile: String,
    /// The whole configuration as JSON, with every default.
    pub config: serde_json::Value,
    /// BLAKE3 of the canonical configuration.
    pub config_hash: String,
    /// The seed.
    pub seed: u64,
    /// Host name.
    pub host: String,
    /// The version of Demask, with the commit if known.
    pub version: String,
    /// 0 at the first start, plus one at each resume.
    pub generation: u64,
    /// The parent's step whose checkpoint its weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_step: Option<u64>,
    /// The run's labels when it began.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The run.
    pub run: String,
    /// The final state: [`RunState::Done`], [`RunState::Stopped`] or [`RunState::Failed`]. [`RunState::Interrupted`] is
    /// not an end.
    pub status: RunState,
    /// The reason.
    pub reason: String,
}

/// The metrics of one step. Names are `area/what`, such as `train/loss`, `reward/total`, `rate/tokens_per_s`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The run.
    pub run: String,
    /// The run's step, counted over all stages.
    pub step: u64,
    /// Names and values; a value that is not finite is stored as NULL with an alert.
    pub values: Vec<(String, f64)>,
}

/// The reports of the ranks of a run about one step. The store keeps only the last report of each rank.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRanks {
    /// The run.
    pub run: String,
    /// The run's step, counted over all stages.
    pub step: u64,
    /// All ranks, in their order.
    pub ranks: Vec<RankView>,
}

/// A user's command (law L4).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Steer {
    /// UUIDv7 of the command; the row is updated when it takes effect.
    pub id: String,
    /// The run.
    pub run: String,
    /// The user name and client (`cli`, `dashboard`).
    pub by: String,
    /// The action.
    pub action: SteerAction,
    /// The knob, for `set`.
    pub key: Option<String>,
    /// The old value.
    pub old: Option<String>,
    /// The new value.
    pub new: Option<String>,
    /// The step at which it was given.
    pub asked_step: u64,
    /// The step at which it took effect; `None` until the boundary (law L3).
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
    /// The number of optimizer steps, which is the weights version.
    pub weights: u64,
    /// The folder, relative to the home folder.
    pub path: String,
    /// `interval`, `stage`, `asked`, `stop`, `promoted`.
    pub reason: String,
    /// The checkpoint's size in bytes.
    pub bytes: u64,
    /// False after it was pruned.
    pub kept: bool,
}

/// An example as the curator saw it. Its id is derived from its content, so equal examples are stored once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExampleRecord {
    /// Content-derived id.
    pub id: String,
    /// The run that first saw it.
    pub run: String,
    /// `tabletop`, a file name, `reasoner`.
    pub source: String,
    /// `train`, `validation`, `test`.
    pub split: String,
    /// The modality of the task.
    pub modality: Modality,
    /// The checkpoint that generated it; `none` for given data.
    pub generator: String,
    /// The verifier of the example with its version, or `source`.
    pub verifier: String,
    /// The verifier's score.
    pub score: f64,
    /// The text that is trained on.
    pub text: String,
    /// The hash of the picture's blob, if there is one.
    pub picture: Option<String>,
    /// The source's licence.
    pub licence: String,
    /// The example's place in the source, such as `train.jsonl:17`; empty for generated examples.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
}

/// A proposed reasoning trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trace {
    /// The id, made of run, round, problem and number; a restart produces the same one.
    pub id: String,
    /// The run.
    pub run: String,
    /// The round of the self-improvement loop.
    pub round: u64,
    /// The problem's example id.
    pub example: String,
    /// The checkpoint that wrote it, or `teacher:MODEL`.
    pub generator: String,
    /// The sampler's settings as JSON.
    pub sampler: serde_json::Value,
    /// The seed.
    pub seed: u64,
    /// The prompt.
    pub prompt: String,
    /// The completion as the model wrote it.
    pub text: String,
}

/// A gate's verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateVerdict {
    /// The trace's or example's id.
    pub subject: String,
    /// The run.
    pub run: String,
    /// The round; 0 for given data.
    pub round: u64,
    /// The gate of the funnel.
    pub gate: Gate,
    /// Whether it passed.
    pub passed: bool,
    /// The reason of a rejection, or a note; for unreadable rows, file, line and reason.
    pub reason: String,
    /// The source.
    pub source: String,
    /// The number of rows that it stands for; 0 for a note on rows that other verdicts count.
    #[serde(default = "one")]
    pub count: u64,
}

const fn one() -> u64 {
    1
}

/// One sample of a rollout group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutSample {
    /// The id `run/step/group/number`; a restart produces the same one.
    pub id: String,
    /// The run.
    pub run: String,
    /// The step that trains on it.
    pub step: u64,
    /// The group within the step.
    pub group: u64,
    /// The number within the group.
    pub number: u64,
    /// The prompt's example id.
    pub example: String,
    /// The modality of the task.
    pub modality: Modality,
    /// The version of the weights that sampled it.
    pub weights: u64,
    /// The steps by which these weights are older than those that the step begins with.
    #[serde(default)]
    pub staleness: u64,
    /// The prompt.
    pub prompt: String,
    /// The completion as text; for a picture, what the detector reads.
    pub text: String,
    /// The hash of the picture's blob, if there is one.
    pub picture: Option<String>,
    /// The rewards: name, value, weight.
    pub parts: Vec<(String, f64, f64)>,
    /// The weighted sum of the rewards.
    pub total: f64,
    /// Group-relative advantage.
    pub advantage: f64,
    /// Whether the trainer used it.
    pub trained: bool,
    /// The right answer; empty if none is known.
    #[serde(default)]
    pub reference: String,
    /// The hash of the blob of the picture that was asked about.
    #[serde(default)]
    pub asked: Option<String>,
}

/// The sequences of a training step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainUse {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// The stage's name.
    pub stage: String,
    /// The example, trace or sample ids of the sequences, in batch order.
    pub subjects: Vec<String>,
}

/// A benchmark's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Eval {
    /// The run; `none` outside a run.
    pub run: String,
    /// The run's step.
    pub step: u64,
    /// The checkpoint's hash or weights version.
    pub checkpoint: String,
    /// The suite.
    pub suite: String,
    /// The metric's name.
    pub metric: String,
    /// The value, 0 to 1.
    pub value: f64,
    /// The lower end of the 95 % interval.
    pub low: f64,
    /// The upper end of the 95 % interval.
    pub high: f64,
    /// The number of items.
    pub n: u64,
    /// The value of each category.
    pub parts: Vec<(String, f64)>,
    /// The promotion gate's decision; `None` if it made none.
    #[serde(with = "crate::vocabulary::decided")]
    pub decision: Option<Decision>,
    /// The mean gain over the promoted checkpoint on the same items, with the ends of its 95 % interval; `None` if
    /// nothing was compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<[f64; 3]>,
}

/// An item of a benchmark with the model's output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvalItem {
    /// The run; outside a run, the evaluation's id.
    pub run: String,
    /// The run's step; 0 outside a run.
    pub step: u64,
    /// The suite.
    pub suite: String,
    /// The item's number within the suite, from 0.
    pub number: u64,
    /// The item's content-derived id.
    pub item: String,
    /// The category of the suite.
    pub category: String,
    /// Whether the suite's value counts it; held-out compositions are reported separately.
    pub counted: bool,
    /// The prompt.
    pub prompt: String,
    /// The hash of the blob of the picture that was asked about.
    pub picture: Option<String>,
    /// The model's output as text; for a drawing, what the detector reads.
    pub output: String,
    /// The hash of the blob of the drawn picture.
    pub drawn: Option<String>,
    /// The answer as parsed from the output.
    pub answer: String,
    /// The right answer.
    pub reference: String,
    /// The credit, from 0 (wrong) to 1 (right).
    pub credit: f64,
    /// The tokens of the text.
    pub tokens: u64,
    /// The forward passes.
    pub forwards: u64,
    /// The item's share of its batch's time, in seconds.
    pub seconds: f64,
}

/// An evaluation outside a run and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The evaluation's id, which replaces the id of a run in `eval` and `item` rows.
    pub id: String,
    /// The checkpoint: its folder, and the hash of its weights.
    pub checkpoint: String,
    /// The suites' names.
    pub suites: Vec<String>,
    /// The samplers, mode and reward networks, as JSON.
    pub settings: serde_json::Value,
    /// The samplers' seed.
    pub seed: u64,
    /// The most counted items per suite.
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
    /// The source that was checked.
    pub source: String,
    /// The rule: `13-gram`, `8-gram`, `whole`, `picture`.
    pub rule: String,
    /// The number of examples that were checked.
    pub checked: u64,
    /// The number of examples that overlapped and were removed.
    pub overlapped: u64,
}

/// The severity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For developers.
    Debug,
    /// Normal operation.
    Info,
    /// A problem from which the program recovered.
    Warn,
    /// Something was lost or stopped.
    Error,
}

/// An alert for the user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The run.
    pub run: String,
    /// The step.
    pub step: u64,
    /// The severity.
    pub level: Level,
    /// `not_finite`, `disk_full`, `bad_rows`, `reward_hacking`, `actor_failed`, `smaller_world`, …
    pub kind: String,
    /// What happened and what was done about it.
    pub message: String,
}

/// An event in the life of an actor or engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// The run; may be empty.
    pub run: String,
    /// The actor.
    pub actor: String,
    /// The number of the actor's life, which each restart increases by one.
    pub generation: u64,
    /// `started`, `stopped`, `failed`, `restarted`, `gave_up`.
    pub what: String,
    /// The reason.
    pub reason: String,
}
