//! The tables of a profile: their fields with defaults and ranges. The doc comment of a field is also its description
//! in `demask profile schema`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use demask_api::{EstimatorConfig, ImageSampler, ObjectiveConfig, Shard, TextSampler, limits};
pub use demask_datasets::source_kind::SourceKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Device, precision, threads and processes of the computation.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineKnobs {
    /// Device: `auto` (`cuda` if a GPU can be used, else `cpu`), `cpu`, `cuda`, `cuda:0`. With `cuda`, each rank has a GPU
    /// of its own, that of its number on its machine, and sampling engines take the GPUs that no rank has, or share those
    /// of the ranks. With a number, all of them take that GPU, which several ranks cannot.
    pub device: String,
    /// Precision: `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// CPU threads; absent: all cores, which the ranks share.
    #[schemars(range(min = limits::THREADS.least, max = limits::THREADS.most))]
    pub threads: Option<usize>,
    /// Processes on this machine that train together, on CPUs or with a GPU each. On CPUs this is tested; over several
    /// GPUs (NCCL) it is built, but has not been run. A step is cut into units whatever the number of
    /// processes, so 1, 2, … ranks give the same run, bit for bit; its rounding differs from a run without ranks.
    /// Absent: one process, in which each thread takes a part of the batch.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// Fewest processes with which the run may go on. If the processes cannot be started, or one of them dies more
    /// often than they may be restarted, the run goes on with one process less from its last checkpoint, down to this
    /// number, unless it fails at the same step again. It ends in the same bits. A new daemon tries `ranks` processes
    /// again. With `join`, a world that joins may have any number of ranks from this one to `ranks`. Absent: as many as
    /// `ranks`, so such a run fails.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_ranks: Option<usize>,
    /// What is divided among these processes. With `weights`, sampling, scoring and evaluation gather all weights on
    /// the first process, where they stay until its next step, and `demask ask` waits for the end of a step. Use
    /// sampling engines (`rollouts.samplers`) to draw the rollouts then. With an adapter, `weights` divides the frozen
    /// weights, unless they are quantised; each process holds the whole adapter.
    #[serde(skip_serializing_if = "is_state")]
    pub shard: Shard,
    /// Whether the run waits for a world of `ranks` processes that join the daemon (`demask-engine --join FILE`), on
    /// this machine or others, instead of starting them. They end in the same bits. Device and threads are then those
    /// of each process's own command line.
    #[serde(skip_serializing_if = "is_false")]
    pub join: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde calls it so
fn is_false(value: &bool) -> bool {
    !*value
}

fn is_state(shard: &Shard) -> bool {
    *shard == Shard::State
}

impl Default for EngineKnobs {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            dtype: "auto".into(),
            threads: None,
            ranks: None,
            min_ranks: None,
            shard: Shard::default(),
            join: false,
        }
    }
}

/// Sampling engines, which draw the groups of `align` stages, and the benchmarks and traces between two steps. Without
/// them the training engine draws everything itself, between two steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollouts {
    /// Engines that only sample, on the same device, or on GPUs that no training process has (`engine.device`). Each is a process with its own copy of the weights, which follows
    /// the trained weights. The groups of a step, the items of a benchmark and the traces of a round are divided among
    /// them; each is the same whichever engine draws it.
    #[schemars(range(min = 0, max = 64))]
    pub samplers: usize,
    /// Steps by which the sampling weights may be older than the trained weights. With 0, each step's groups are drawn
    /// with the weights that the step begins with. With N, they are drawn up to N steps earlier, while those steps are
    /// trained; the loss then weighs each token by how much its probability has grown since
    /// (`objective.behaviour_cap`). The groups of N steps more are held in memory, and up to 2 N + 1 folders of weights
    /// lie beside the checkpoints, each as large as a checkpoint without its optimizer.
    #[schemars(range(min = limits::STALENESS.least, max = limits::STALENESS.most))]
    pub staleness: u64,
    /// Weights that draw a step's groups if `staleness` is above 0: `exact` (those of `staleness` steps before, even
    /// where newer ones exist, so that a repeated run is the same, law L8) or `freshest` (the newest when a group is
    /// admitted, never older than `staleness` steps; no two runs are the same, and `v_run.reproducible` is 0).
    #[serde(skip_serializing_if = "RolloutMode::is_exact")]
    pub mode: RolloutMode,
    /// CPU threads of a sampling engine; absent: as many as the training engine has.
    #[schemars(range(min = limits::THREADS.least, max = limits::THREADS.most))]
    pub threads: Option<usize>,
    /// Whether the run waits for its sampling engines to join the daemon (`demask-engine --join FILE --role sample`)
    /// instead of starting them.
    #[serde(skip_serializing_if = "is_false")]
    pub join: bool,
}

impl Rollouts {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the number of steps whose groups exist at a time.
    #[must_use]
    pub fn steps_at_once(&self) -> usize {
        match self.is_ahead() {
            true => usize::try_from(self.staleness)
                .unwrap_or(usize::MAX)
                .saturating_add(1),
            false => 1,
        }
    }

    /// Returns whether a step's groups are drawn while earlier steps are trained.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.samplers > 0 && self.staleness > 0
    }
}

/// Which weights draw a step's groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RolloutMode {
    /// Those of `staleness` steps before.
    #[default]
    Exact,
    /// The newest ones when a group is admitted.
    Freshest,
}

impl RolloutMode {
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde asks by reference
    fn is_exact(&self) -> bool {
        *self == Self::Exact
    }
}

/// A source of examples.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Name of the source, in the store and in `mix.NAME`.
    pub name: String,
    /// Kind of the source.
    pub kind: SourceKind,
    /// File or folder that the source reads; a relative path may also lie below `DEMASK_DATA`.
    pub path: Option<PathBuf>,
    /// Most examples that are read from a file or folder.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub limit: Option<usize>,
    /// The file's own column names, by the names that readers know: `prompt = "question"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// Columns of the file that are kept with its examples and passed to external rewards. A row without them counts as
    /// bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Share of the rows that is held out of training, by a hash of the question: 0.05 holds out a twentieth.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_share: f64,
    /// Weight of the source in the mix.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub weight: f64,
    /// Licence of the source.
    #[serde(default)]
    pub licence: String,
}

/// The samplers of rollouts and evaluations.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Text sampler. `steps = 0` means one step per token, `block = 0` one block for the whole answer.
    pub text: TextSampler,
    /// Image sampler.
    pub image: ImageSampler,
    /// Temperature of text rollouts.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub rollout_temperature: Option<f64>,
}

/// Folders of reward networks (`config.json`, `model.safetensors`, `tokenizer.json`), as published or as
/// `demask convert` writes them. A relative path may also lie below `DEMASK_DATA`.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardFolders {
    /// CLIP: the similarity of a picture and its text.
    pub clip: Option<PathBuf>,
    /// ImageReward: how well people would like a drawn picture for its prompt.
    pub image_reward: Option<PathBuf>,
}

impl RewardFolders {
    /// Files that each folder must hold.
    pub const FILES: [&str; 2] = ["model.safetensors", "tokenizer.json"];

    /// Returns whether no folder is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// How often checkpoints are saved, and how many are kept.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointKnobs {
    /// Steps between two checkpoints.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every_steps: u64,
    /// Number of checkpoints that are kept.
    #[schemars(range(min = 1, max = 10000))]
    pub keep: usize,
}

impl Default for CheckpointKnobs {
    fn default() -> Self {
        Self {
            every_steps: 100,
            keep: 3,
        }
    }
}

/// Limits beyond which a run stops.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename = "Limits", default, deny_unknown_fields)]
pub struct RunLimits {
    /// Largest share of a source's rows that may be unreadable or longer than the budgets.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub bad_row_share: f64,
    /// MiB of a source's examples that are kept in memory. A larger source is read from its files again, row by row.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub source_memory: usize,
    /// Jaccard similarity of word shingles from which a text is a near duplicate; above 1 only equal texts are.
    #[schemars(range(min = 0.1, max = 2.0))]
    pub near_duplicate: f64,
    /// Number of times a run may return to a checkpoint after a loss that was not finite.
    #[schemars(range(min = 0, max = 100))]
    pub not_finite: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            bad_row_share: 0.05,
            source_memory: 256,
            near_duplicate: 0.8,
            not_finite: 3,
        }
    }
}

/// A teacher at an OpenAI-compatible address.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Teacher {
    /// Address, up to `/v1`.
    pub url: String,
    /// Name of the teacher's model.
    pub model: String,
    /// Environment variable that holds the API key.
    #[serde(default = "default_key")]
    pub key_variable: String,
    /// Concurrent requests.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// Most tokens that may be paid for.
    #[serde(default = "million")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub token_cap: u64,
    /// Share of the traces of a `reason` stage that the teacher writes; the model itself writes the rest.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Most tokens of one answer.
    #[serde(default = "answer_tokens")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: u64,
}

/// The promotion gate: an evaluation compares a checkpoint with the best promoted one, item by item.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Whether evaluations decide on promotion.
    pub enabled: bool,
    /// Gain that a promotion must exceed with certainty. The gain is the mean over the suites, item by item against the
    /// best promoted checkpoint, and its whole 95 % interval must lie above this margin.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub margin: f64,
    /// Whether the run returns to the promoted weights when a suite lost with certainty, item by item. Without it the
    /// run keeps its weights and continues.
    pub rollback: bool,
    /// Suites that are also run at regular checkpoints, every `checkpoint.every_steps` steps. With none, only
    /// `evaluate` stages decide.
    pub suites: Vec<String>,
    /// Items per suite at regular checkpoints.
    #[schemars(range(min = limits::ITEMS.least, max = limits::ITEMS.most))]
    pub limit: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            enabled: true,
            margin: 0.0,
            rollback: false,
            suites: Vec::new(),
            limit: default_limit(),
        }
    }
}

/// Consecutive stages that are repeated several times: rounds of reasoning, fine-tuning and aligning.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    /// Names of the stages, in the order of the profile.
    pub stages: Vec<String>,
    /// Number of rounds.
    #[schemars(range(min = 1, max = 1000))]
    pub repeat: u64,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Name of the stage.
    pub name: String,
    /// Kind of the stage.
    pub kind: StageKind,
    /// Optimizer steps (rounds, for `reason`).
    #[serde(default = "one_step")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps: u64,
    /// Sequences per step (prompts, for `align`; problems, for `reason`).
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 65536))]
    pub batch: usize,
    /// Highest learning rate.
    #[serde(default = "default_rate")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup: u64,
    /// Final learning rate as a share of the highest, where the cosine schedule ends.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_rate: f64,
    /// Share of the examples with reasoning that are trained with their reasoning; the rest is trained with the answer
    /// alone (`finetune`).
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub think_share: f64,
    /// Samples per prompt (`align`), traces per problem (`reason`).
    #[serde(default = "default_group")]
    #[schemars(range(min = 1, max = 1024))]
    pub group: usize,
    /// Extra prompts, as a multiple of the batch, that may be drawn in place of prompts whose samples all have the same
    /// reward (`align`); with 0 all prompts are trained on.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub resample: usize,
    /// Estimator of the likelihood: which masked views are drawn (`align`).
    #[serde(default)]
    pub estimator: EstimatorConfig,
    /// Clip range, KL weight and inner steps of the objective (`align`).
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// Suites (`evaluate`).
    #[serde(default)]
    pub suites: Vec<String>,
    /// Items per suite (`evaluate`).
    #[serde(default = "default_limit")]
    #[schemars(range(min = limits::ITEMS.least, max = limits::ITEMS.most))]
    pub limit: usize,
    /// Sources that the stage uses; all when empty.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// The kind of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Trains the image tokenizer on the pictures of the sources.
    Tokenizer,
    /// Trains on the mix without reasoning.
    Pretrain,
    /// Trains on the mix with reasoning, and on accepted traces.
    Finetune,
    /// Generates, verifies and curates reasoning traces.
    Reason,
    /// Trains with reinforcement learning (UniGRPO and its variants).
    Align,
    /// Runs benchmarks.
    Evaluate,
}

impl StageKind {
    /// Returns the word that a profile uses for the kind.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tokenizer => "tokenizer",
            Self::Pretrain => "pretrain",
            Self::Finetune => "finetune",
            Self::Reason => "reason",
            Self::Align => "align",
            Self::Evaluate => "evaluate",
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}
fn half() -> f64 {
    0.5
}
pub(super) fn one() -> f64 {
    1.0
}
fn one_step() -> u64 {
    1
}
fn four() -> usize {
    4
}
fn answer_tokens() -> u64 {
    512
}
fn million() -> u64 {
    1_000_000
}
fn default_key() -> String {
    "OPENAI_API_KEY".into()
}
fn default_batch() -> usize {
    32
}
fn default_group() -> usize {
    8
}
fn default_limit() -> usize {
    100
}
fn default_rate() -> f64 {
    1e-3
}
