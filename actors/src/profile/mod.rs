//! A run's configuration: parsed from TOML, with every default filled in, and with the line for every error.

mod anchor;
mod check;
mod configuration;
mod own;
mod rounds;
pub mod schema;
mod sections;
mod shapes;
pub mod shipped;
mod show;
mod text;
mod wrong;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use demask_api::{
    Adam, BackboneConfig, BlockNoise, Growth, ImageTokenizerConfig, LoraConfig, LossNormalization, Recompute,
    bounded_file, limits,
};
use demask_datasets::prompts::sequences::Budgets;
use demask_rewards::benchmarks::OwnBenchmark;
use demask_rewards::rewards::{self, Needs};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use anchor::can_start;
pub(crate) use anchor::image_tokenizer_of;
pub use configuration::Configuration;
pub use own::{BenchmarkFile, ExternalReward, JudgedTask, PictureForm};
pub use sections::{
    CheckpointKnobs, EngineKnobs, Gate, RewardFolders, RolloutMode, Rollouts, Rounds, RunLimits, Sampling,
    Source, SourceKind, Stage, StageKind, Teacher,
};
use text::{line_of, located, place};

/// The text of the `tabletop` profile.
pub const TABLETOP: &str = include_str!("../../profiles/tabletop.toml");
/// The text of the `gsm8k-fashion` profile (GSM8K and Fashion-MNIST).
pub const GSM8K_FASHION: &str = include_str!("../../profiles/gsm8k-fashion.toml");

/// The error of a wrong profile: the file, the line, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[error("{origin}{line}: {message}", line = .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ProfileError {
    /// The file, or the name of a built-in profile.
    pub origin: String,
    /// The line, counted from 1, where it is known.
    pub line: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
}

/// The configuration of a run.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Name of the profile, in the store and on the screen.
    pub name: String,
    /// Seed of every random choice.
    #[serde(default)]
    pub seed: u64,
    /// Device, precision, threads and processes of the computation.
    #[serde(default)]
    pub engine: EngineKnobs,
    /// Checkpoint folder whose weights the run starts from; absent: the shipped checkpoint.
    pub start_from: Option<PathBuf>,
    /// The network that is made from scratch. Without `--from-scratch` the checkpoint's shape is used.
    #[serde(default)]
    pub model: BackboneConfig,
    /// The image tokenizer that is made from scratch.
    pub image_tokenizer: Option<ImageTokenizerConfig>,
    /// Checkpoint folder whose trained image tokenizer is used instead, or `shipped`. With `grow` it may also be the
    /// folder of a published image tokenizer.
    pub image_tokenizer_from: Option<PathBuf>,
    /// Size of the text vocabulary, if a new text tokenizer is trained.
    #[serde(default = "default_vocabulary")]
    #[schemars(range(min = 300, max = 1_000_000))]
    pub text_vocabulary: usize,
    /// Token budgets of prompts, answers and pictures, per task.
    #[serde(default)]
    pub budgets: Budgets,
    /// Side of the pictures in pixels.
    #[serde(default = "default_pixels")]
    #[schemars(range(min = 8, max = 4096))]
    pub pixels: usize,
    /// Folder that the relative paths of sources and benchmarks are searched in; absent: the folder that `DEMASK_DATA`
    /// named when the run was started.
    pub data: Option<PathBuf>,
    /// Sources of the training examples.
    #[serde(default, rename = "source")]
    pub sources: Vec<Source>,
    /// Low-rank adapter (LoRA) that is trained in place of the checkpoint's weights; absent: all weights are trained.
    pub lora: Option<LoraConfig>,
    /// Folder of an adapter in PEFT's layout whose training continues, in place of a fresh adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Picture codes for a text model that the run starts from (`mmada.md` 1.3). The image tokenizer lies in the
    /// model's folder or in that of `image_tokenizer_from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grow: Option<Growth>,
    /// Constants of the optimizer.
    #[serde(default)]
    pub optimizer: Adam,
    /// Gradient norm above which gradients are clipped.
    #[serde(default = "sections::one")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub clip_norm: f64,
    /// Decay of a moving average of the weights (EMA), which checkpoints store beside the weights (`--average` uses
    /// it); 0 stores none.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub ema: f64,
    /// Whether the backward pass recomputes activations instead of storing them: `auto` (where they would not fit into
    /// the free memory), `always`, `never`. Recomputation takes a third more time and a fraction of the memory.
    #[serde(default)]
    pub recompute: Recompute,
    /// Loss weight of each task: text-to-image, text, understanding, think-then-draw.
    #[serde(default = "equal_weights")]
    #[schemars(inner(range(min = 0.0, max = 1e6)))]
    pub task_weights: [f64; 4],
    /// Divisor of a text answer's loss: `sequence` (as published) or `token`.
    #[serde(default)]
    pub loss_normalization: LossNormalization,
    /// Share of the text answers that is noised block by block, and the length of the blocks.
    #[serde(default)]
    pub block_noise: BlockNoise,
    /// Samplers of rollouts and evaluations.
    #[serde(default)]
    pub sampling: Sampling,
    /// Sampling engines, beside the engine that trains.
    #[serde(default, skip_serializing_if = "Rollouts::is_default")]
    pub rollouts: Rollouts,
    /// Weight of each reward.
    #[serde(default = "default_rewards")]
    #[schemars(schema_with = "schema::rewards")]
    pub rewards: BTreeMap<String, f64>,
    /// Rewards that are computed outside this program, by processes or at HTTP addresses.
    #[serde(default, rename = "reward", skip_serializing_if = "Vec::is_empty")]
    pub external_rewards: Vec<ExternalReward>,
    /// Folders of reward networks. Their scores count as the rewards `clip` and `image_reward`.
    #[serde(default, skip_serializing_if = "RewardFolders::is_empty")]
    pub reward_networks: RewardFolders,
    /// How often checkpoints are saved, and how many are kept.
    #[serde(default)]
    pub checkpoint: CheckpointKnobs,
    /// Limits beyond which a run stops.
    #[serde(default)]
    pub limits: RunLimits,
    /// Teacher for reasoning traces, at an OpenAI-compatible address.
    pub teacher: Option<Teacher>,
    /// Promotion gate: when a checkpoint is promoted.
    #[serde(default)]
    pub gate: Gate,
    /// Consecutive stages that are repeated several times.
    #[serde(default, rename = "rounds", skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Rounds>,
    /// Own benchmarks: a file, a prompt template and a scorer. Suites are named after them.
    #[serde(default, rename = "benchmark", skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<OwnBenchmark>,
    /// Stages, in order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

fn default_pixels() -> usize {
    32
}
fn default_vocabulary() -> usize {
    512
}
fn equal_weights() -> [f64; 4] {
    [1.0; 4]
}
fn default_rewards() -> BTreeMap<String, f64> {
    rewards::default_weights(rewards::REWARDS)
}

impl Profile {
    /// Returns the text of a shipped profile or of a file, and its origin for messages.
    ///
    /// # Errors
    /// An error if the name is neither a shipped profile nor a readable file. It suggests the nearest shipped name.
    pub fn find(name: &str) -> Result<(String, String), ProfileError> {
        if let Some(shipped) = shipped::find(name) {
            return Ok((shipped.text.to_owned(), format!("profile {name}")));
        }
        bounded_file::read_named_text(Path::new(name), limits::LONGEST_NAMED)
            .map(|text| (text, name.to_owned()))
            .map_err(|error| ProfileError {
                origin: name.to_owned(),
                line: None,
                message: format!("{error}; expected a TOML file or {}", shipped::suggest(name)),
            })
    }

    /// Applies `--set KEY=VALUE` flags to a profile's text. Keys are dotted; `stage.1.steps` reaches into lists.
    ///
    /// # Errors
    /// An error if a flag is not `KEY=VALUE`, or if its key leads nowhere.
    pub fn set(text: &str, origin: &str, assignments: &[String]) -> Result<String, ProfileError> {
        let wrong = |message: String| ProfileError {
            origin: origin.to_owned(),
            line: None,
            message,
        };
        let mut document: toml_edit::DocumentMut = text
            .parse()
            .map_err(|error: toml_edit::TomlError| located(origin, text, error.span(), error.message()))?;
        for assignment in assignments {
            let (key, value) = assignment.split_once('=').ok_or_else(|| ProfileError {
                origin: "--set".into(),
                line: None,
                message: format!("'{assignment}': expected KEY=VALUE"),
            })?;
            let value: toml_edit::Value = value
                .trim()
                .parse()
                .unwrap_or_else(|_| toml_edit::Value::from(value.trim()));
            place(document.as_table_mut(), key.trim(), value)
                .map_err(|message| wrong(format!("--set {assignment}: {message}")))?;
        }
        Ok(document.to_string())
    }

    /// Parses and checks a profile.
    ///
    /// # Errors
    /// An error for an unknown key, a wrong type, or a value out of its range. It has the line and says what is
    /// allowed.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ProfileError> {
        let mut profile: Self =
            toml::from_str(text).map_err(|error| located(origin, text, error.span(), error.message()))?;
        profile.weigh_networks();
        profile.weigh_external();
        let wrong = |path: &str, message: String| ProfileError {
            origin: origin.to_owned(),
            line: line_of(text, path),
            message,
        };
        if let Some(path) = unknown(text) {
            return Err(wrong(&path, format!("unknown key `{path}`")));
        }
        profile.check().map_err(|(path, message)| {
            let numbered = |part: &&str| part.parse::<usize>().is_err();
            let key = path.rsplit('.').find(numbered).unwrap_or(&path);
            wrong(&path, format!("{key} {message}"))
        })?;
        Ok(profile)
    }

    /// Gives the rewards of named networks their published weights, where the profile gives no weight.
    fn weigh_networks(&mut self) {
        let folders = &self.reward_networks;
        let named = [
            ("clip", folders.clip.is_some()),
            ("image_reward", folders.image_reward.is_some()),
        ];
        for reward in rewards::REWARDS {
            if let Needs::Network(network) = reward.needs()
                && named.contains(&(network, true))
            {
                let weight = reward.default_weight();
                self.rewards.entry(reward.name().to_owned()).or_insert(weight);
            }
        }
    }

    /// Gives external rewards their own weights, where `[rewards]` gives no weight.
    fn weigh_external(&mut self) {
        for reward in &self.external_rewards {
            self.rewards.entry(reward.name.clone()).or_insert(reward.weight);
        }
    }

    /// Returns the number of steps of all stages. An evaluation counts as one step, and so does a round of reasoning.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// Returns the highest learning rate of the training stages, which is the initial value of the learning-rate knob.
    #[must_use]
    pub fn highest_learning_rate(&self) -> f64 {
        let trains = |stage: &&Stage| !matches!(stage.kind, StageKind::Evaluate | StageKind::Reason);
        let rates = self.stages.iter().filter(trains).map(|stage| stage.learning_rate);
        rates.fold(0.0, f64::max)
    }
}

/// Returns the path of the first key that nothing reads. A network's own configuration file may have such keys, a
/// profile may not.
fn unknown(text: &str) -> Option<String> {
    let mut first = None;
    let mut note = |path: serde_ignored::Path| {
        let path = path.to_string().replace("?.", "");
        first.get_or_insert(path);
    };
    let reader = toml::Deserializer::parse(text).ok()?;
    serde_ignored::deserialize::<_, _, Profile>(reader, &mut note).ok()?;
    first
}
