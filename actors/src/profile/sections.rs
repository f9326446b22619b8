//! The tables of a profile, field by field with their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use demask_api::{EstimatorConfig, ImageSampler, ObjectiveConfig, Shard, TextSampler};
pub use demask_datasets::source_kind::SourceKind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where to compute.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineKnobs {
    /// `auto`, `cpu`, `cuda:0`.
    pub device: String,
    /// `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// CPU threads; absent: all cores, which ranks share.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
    /// Processes on this machine that train together, on CPUs. A step is cut into units whatever their number: the same run, bit for
    /// bit, for 1, 2, … of them, with other roundings than without. Absent: one process, a part of the batch a thread.
    #[schemars(range(min = 1, max = 64))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ranks: Option<usize>,
    /// What each of these processes keeps alone. With `weights` samples, scores and evaluations have the weights gathered on the first
    /// of them until its next step, and a question aside waits for the end of a step: let sampling engines (`rollouts.samplers`) draw.
    #[serde(skip_serializing_if = "is_state")]
    pub shard: Shard,
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
            shard: Shard::default(),
        }
    }
}

/// Who draws the groups of `align` stages. Without sampling engines the engine that trains draws them itself, between two
/// steps.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rollouts {
    /// Engines that only sample, on the same device: each is a process with weights of its own, which follow those that are
    /// trained. A step's groups are cut over them; which of them draws a group does not change it.
    #[schemars(range(min = 0, max = 64))]
    pub samplers: usize,
    /// By how many steps the weights that draw may be older than those that are trained. 0: each step's groups are drawn by the
    /// weights that it begins with. 1: they are drawn by those of the step before, while that one is trained; the loss then
    /// weighs each token by how much likelier it has become meanwhile (`objective.behaviour_cap`). Either is the same run each
    /// time (law L8).
    #[schemars(range(min = 0, max = 1))]
    pub staleness: u64,
    /// CPU threads of a sampling engine; absent: as many as the engine that trains has.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<usize>,
}

impl Rollouts {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a step's groups are drawn while the step before is trained.
    #[must_use]
    pub const fn is_ahead(&self) -> bool {
        self.samplers > 0 && self.staleness > 0
    }
}

/// A source of examples.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, in the store and for `mix.NAME`.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// The file or folder, for what is read; a relative one may also lie below `DEMASK_DATA`.
    pub path: Option<PathBuf>,
    /// At most this many examples of a file or folder.
    #[schemars(range(min = 1, max = 1_000_000_000_000_u64))]
    pub limit: Option<usize>,
    /// The file's own names of columns, by the names that readers know: `prompt = "question"`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub columns: BTreeMap<String, String>,
    /// The file's columns that stay with its examples, for external rewards to be told; rows without them are bad.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// Share of the rows that is held out of training, by a hash of what they ask: 0.05 keeps a twentieth back.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0.0, max = 0.9))]
    pub test_share: f64,
    /// Its weight in the mix.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub weight: f64,
    /// Its licence.
    #[serde(default)]
    pub licence: String,
}

/// The samplers of rollouts and evaluations.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Text; `steps` is a share of the answer when 0.
    pub text: TextSampler,
    /// Pictures.
    pub image: ImageSampler,
    /// Temperature of text rollouts.
    #[schemars(range(min = 0.0, max = 10.0))]
    pub rollout_temperature: Option<f64>,
}

/// Folders of reward networks (`config.json`, `model.safetensors`, `tokenizer.json`), as they are published or as
/// `demask convert` writes them; a relative one may also lie below `DEMASK_DATA`.
#[derive(Clone, Debug, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RewardFolders {
    /// CLIP: how near a picture and its text are.
    pub clip: Option<PathBuf>,
    /// ImageReward: how well people would like a drawn picture for its prompt.
    pub image_reward: Option<PathBuf>,
}

impl RewardFolders {
    /// What each folder holds at least.
    pub const FILES: [&str; 2] = ["model.safetensors", "tokenizer.json"];

    /// Whether none is named.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// When to write checkpoints.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointKnobs {
    /// Steps between two.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub every_steps: u64,
    /// How many are kept.
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
    /// Share of a source's rows that may be unreadable or longer than the budgets.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub bad_row_share: f64,
    /// MiB of a source's examples that are kept in memory; a larger source is read from its files again, row by row.
    #[schemars(range(min = 0, max = 10_000_000))]
    pub source_memory: usize,
    /// Similarity (Jaccard, of word shingles) from which a text is a near duplicate; above 1 only equal texts are.
    #[schemars(range(min = 0.1, max = 2.0))]
    pub near_duplicate: f64,
    /// Returns to a checkpoint after a loss that was not finite.
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
    /// The address, up to `/v1`.
    pub url: String,
    /// The model's name.
    pub model: String,
    /// The environment variable that holds the key.
    #[serde(default = "default_key")]
    pub key_variable: String,
    /// Requests at a time.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 1024))]
    pub concurrency: usize,
    /// Most tokens that may be paid for.
    #[serde(default = "million")]
    #[schemars(range(min = 1, max = 1_000_000_000_000_000_u64))]
    pub token_cap: u64,
    /// Share of the traces of a `reason` stage that the teacher is asked for; the model itself writes the rest.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub share: f64,
    /// Most tokens of one answer.
    #[serde(default = "answer_tokens")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_tokens: u64,
}

/// When a checkpoint is promoted: what an evaluation decides by comparing with the best promoted one.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Whether evaluations decide at all.
    pub enabled: bool,
    /// How much the mean gain over the suites, item by item on the best one's, must for certain exceed to be promoted: the whole
    /// 95 % interval lies above it.
    #[schemars(range(min = -1.0, max = 1.0))]
    pub margin: f64,
    /// Whether the run goes back to the promoted weights when a suite lost for certain, item by item.
    /// Without it the run holds and goes on.
    pub rollback: bool,
    /// Suites that are run at interval checkpoints too. With none, only `evaluate` stages decide.
    pub suites: Vec<String>,
    /// Items a suite at interval checkpoints.
    #[schemars(range(min = 1, max = 1_000_000))]
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

/// Stages that follow one another and are walked through several times: rounds of reasoning, fine-tuning, aligning.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounds {
    /// The names of the stages, in the order of the profile.
    pub stages: Vec<String>,
    /// How many rounds of them.
    #[schemars(range(min = 1, max = 1000))]
    pub repeat: u64,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: StageKind,
    /// Optimiser steps (rounds, for `reason`).
    #[serde(default = "one_step")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub steps: u64,
    /// Sequences a step (prompts, for `align`; problems, for `reason`).
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
    /// Learning rate at the end as a share of the highest: the other end of the cosine.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub final_rate: f64,
    /// Share of the examples with reasoning that are trained on with it, not with the answer alone (`finetune`).
    #[serde(default = "half")]
    #[schemars(range(min = 0.0, max = 1.0))]
    pub think_share: f64,
    /// Samples a prompt (`align`), traces a problem (`reason`).
    #[serde(default = "default_group")]
    #[schemars(range(min = 1, max = 1024))]
    pub group: usize,
    /// How many times as many prompts may be drawn in place of those whose samples are all equally good (`align`); 0: all
    /// are trained on.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub resample: usize,
    /// Which views stand for a likelihood (`align`).
    #[serde(default)]
    pub estimator: EstimatorConfig,
    /// Clip range, KL weight, inner steps (`align`).
    #[serde(default)]
    pub objective: ObjectiveConfig,
    /// Suites (`evaluate`).
    #[serde(default)]
    pub suites: Vec<String>,
    /// Items a suite (`evaluate`).
    #[serde(default = "default_limit")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub limit: usize,
    /// Only these sources; all when empty.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageKind {
    /// Trains the image tokenizer on the sources' pictures.
    Tokenizer,
    /// Trains on the mix without reasoning.
    Pretrain,
    /// Trains on the mix with reasoning, and on accepted traces.
    Finetune,
    /// Proposes, verifies and curates reasoning traces.
    Reason,
    /// UniGRPO.
    Align,
    /// Benchmarks.
    Evaluate,
}

impl StageKind {
    /// As the profile writes it.
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
