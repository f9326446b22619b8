//! A run's configuration: TOML in, every default filled in, every error with its line.

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
use std::path::PathBuf;

use demask_api::{
    Adam, BackboneConfig, BlockNoise, Growth, ImageTokenizerConfig, LoraConfig, LossNormalization, Recompute,
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
    CheckpointKnobs, EngineKnobs, Gate, RewardFolders, Rollouts, Rounds, RunLimits, Sampling, Source,
    SourceKind, Stage, StageKind, Teacher,
};
use text::{line_of, located, place};

/// The tabletop, embedded.
pub const TABLETOP: &str = include_str!("../../profiles/tabletop.toml");
/// GSM8K and Fashion-MNIST, embedded.
pub const GSM8K_FASHION: &str = include_str!("../../profiles/gsm8k-fashion.toml");

/// A wrong profile: which file, which line, what was expected and found.
#[derive(Debug, thiserror::Error)]
#[error("{origin}{line}: {message}", line = .line.map(|line| format!(", line {line}")).unwrap_or_default())]
pub struct ProfileError {
    /// The file, or the built-in profile's name.
    pub origin: String,
    /// The line, from 1, where it is known.
    pub line: Option<usize>,
    /// What was expected and found.
    pub message: String,
}

/// A run's configuration.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name, in the store and on the screen.
    pub name: String,
    /// The seed of everything random.
    #[serde(default)]
    pub seed: u64,
    /// Where to compute.
    #[serde(default)]
    pub engine: EngineKnobs,
    /// The checkpoint folder whose weights the run starts from; absent: the shipped one.
    pub start_from: Option<PathBuf>,
    /// The network that is made from scratch; without `--from-scratch` the checkpoint's shape is used.
    #[serde(default)]
    pub model: BackboneConfig,
    /// The image tokenizer that is made from scratch.
    pub image_tokenizer: Option<ImageTokenizerConfig>,
    /// A checkpoint folder whose trained image tokenizer is taken over instead, or `shipped`; with `grow` also an image
    /// tokenizer's own folder, as it is published.
    pub image_tokenizer_from: Option<PathBuf>,
    /// Rows of the text vocabulary when one is trained.
    #[serde(default = "default_vocabulary")]
    #[schemars(range(min = 300, max = 1_000_000))]
    pub text_vocabulary: usize,
    /// Tokens that prompts, answers and pictures take.
    #[serde(default)]
    pub budgets: Budgets,
    /// Side of the pictures in pixels.
    #[serde(default = "default_pixels")]
    #[schemars(range(min = 8, max = 4096))]
    pub pixels: usize,
    /// The folder that relative paths of sources and benchmarks lie below; absent: what `DEMASK_DATA` named when the run
    /// was started.
    pub data: Option<PathBuf>,
    /// Where examples come from.
    #[serde(default, rename = "source")]
    pub sources: Vec<Source>,
    /// A low-rank adapter that is trained on the checkpoint's weights in their place; absent: the weights are trained.
    pub lora: Option<LoraConfig>,
    /// The folder of an adapter in PEFT's layout whose training goes on, in place of a fresh one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Picture codes for a text model that the run starts from (`mmada.md` 1.3), with the image tokenizer in its folder or in
    /// the one of `image_tokenizer_from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grow: Option<Growth>,
    /// The optimiser's constants.
    #[serde(default)]
    pub optimizer: Adam,
    /// Largest gradient norm.
    #[serde(default = "sections::one")]
    #[schemars(range(min = 0.0, max = 1e6))]
    pub clip_norm: f64,
    /// Decay of a moving average of the weights that checkpoints keep beside them (`--average` uses it); 0 keeps none.
    #[serde(default)]
    #[schemars(range(min = 0.0, max = 0.999_999_9))]
    pub ema: f64,
    /// Whether the backward pass computes activations again instead of keeping them: `auto` (where they would not fit in the
    /// memory that is free), `always`, `never`. A third more time, a fraction of the memory.
    #[serde(default)]
    pub recompute: Recompute,
    /// Weight of each task's loss: text-to-image, text, understanding, think-then-draw.
    #[serde(default = "equal_weights")]
    #[schemars(inner(range(min = 0.0, max = 1e6)))]
    pub task_weights: [f64; 4],
    /// What a text answer's loss is divided by: `sequence` (as published) or `token`.
    #[serde(default)]
    pub loss_normalization: LossNormalization,
    /// Share of the text answers that is noised block by block, and the blocks' length.
    #[serde(default)]
    pub block_noise: BlockNoise,
    /// The samplers of rollouts and evaluations.
    #[serde(default)]
    pub sampling: Sampling,
    /// Who draws the groups of `align` stages.
    #[serde(default, skip_serializing_if = "Rollouts::is_default")]
    pub rollouts: Rollouts,
    /// Weight of each reward.
    #[serde(default = "default_rewards")]
    #[schemars(schema_with = "schema::rewards")]
    pub rewards: BTreeMap<String, f64>,
    /// Rewards that are no part of this program: processes or addresses.
    #[serde(default, rename = "reward", skip_serializing_if = "Vec::is_empty")]
    pub external_rewards: Vec<ExternalReward>,
    /// Folders of reward networks; what they say counts as the rewards `clip` and `image_reward`.
    #[serde(default, skip_serializing_if = "RewardFolders::is_empty")]
    pub reward_networks: RewardFolders,
    /// When to write checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointKnobs,
    /// Limits beyond which a run stops.
    #[serde(default)]
    pub limits: RunLimits,
    /// A teacher for reasoning traces, at an OpenAI-compatible address.
    pub teacher: Option<Teacher>,
    /// When a checkpoint is promoted.
    #[serde(default)]
    pub gate: Gate,
    /// Stages that follow one another and are walked through several times.
    #[serde(default, rename = "rounds", skip_serializing_if = "Vec::is_empty")]
    pub rounds: Vec<Rounds>,
    /// Benchmarks of one's own: a file, a prompt template, a scorer; suites are named by their names.
    #[serde(default, rename = "benchmark", skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<OwnBenchmark>,
    /// The stages, in order.
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
    /// The text of a shipped profile or a file, and its origin for messages.
    ///
    /// # Errors
    /// Neither a shipped profile's name nor a file that can be read; the nearest name is said.
    pub fn find(name: &str) -> Result<(String, String), ProfileError> {
        if let Some(shipped) = shipped::find(name) {
            return Ok((shipped.text.to_owned(), format!("profile {name}")));
        }
        std::fs::read_to_string(name)
            .map(|text| (text, name.to_owned()))
            .map_err(|error| ProfileError {
                origin: name.to_owned(),
                line: None,
                message: format!("{error}; expected a TOML file or {}", shipped::suggest(name)),
            })
    }

    /// Applies `--set KEY=VALUE`s to a profile's text; keys are dotted, `stage.1.steps` reaches into lists.
    ///
    /// # Errors
    /// A flag that is not KEY=VALUE, a key that leads nowhere.
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

    /// Reads and checks a profile.
    ///
    /// # Errors
    /// An unknown key, a wrong type, a value out of range: named with its line and what is allowed.
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

    /// The rewards of the networks that are named get their published weights, where the profile gives none.
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

    /// External rewards count with their own weight, where `[rewards]` says no other.
    fn weigh_external(&mut self) {
        for reward in &self.external_rewards {
            self.rewards.entry(reward.name.clone()).or_insert(reward.weight);
        }
    }

    /// Steps of all stages: evaluations and rounds of reasoning count one each.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The highest learning rate of the stages: what the knob says.
    #[must_use]
    pub fn highest_learning_rate(&self) -> f64 {
        let trains = |stage: &&Stage| !matches!(stage.kind, StageKind::Evaluate | StageKind::Reason);
        let rates = self.stages.iter().filter(trains).map(|stage| stage.learning_rate);
        rates.fold(0.0, f64::max)
    }
}

/// The path of the first key that nothing reads: networks' configuration files may have more, a profile may not.
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
