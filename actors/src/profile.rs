//! A run's configuration: TOML in, every default filled in, every error with its line.

use std::collections::BTreeMap;
use std::path::PathBuf;

use demask_api::{
    Adam, BackboneConfig, EstimatorConfig, ImageSampler, ImageTokenizerConfig, ObjectiveConfig, TextSampler,
};
use demask_datasets::sequences::Budgets;
use demask_rewards::suites::Suite;
use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The network that is made from scratch; without `--from-scratch` the shipped checkpoint's shape is used.
    #[serde(default)]
    pub model: BackboneConfig,
    /// The image tokenizer that is made from scratch.
    pub image_tokenizer: Option<ImageTokenizerConfig>,
    /// A checkpoint folder whose trained image tokenizer is taken over instead, or `shipped`.
    pub image_tokenizer_from: Option<PathBuf>,
    /// Rows of the text vocabulary when one is trained.
    #[serde(default = "default_vocabulary")]
    pub text_vocabulary: usize,
    /// Tokens that prompts, answers and pictures take.
    #[serde(default)]
    pub budgets: Budgets,
    /// Side of the pictures in pixels.
    #[serde(default = "default_pixels")]
    pub pixels: usize,
    /// Where examples come from.
    #[serde(default, rename = "source")]
    pub sources: Vec<Source>,
    /// The optimiser's constants.
    #[serde(default)]
    pub optimizer: Adam,
    /// Largest gradient norm.
    #[serde(default = "one")]
    pub clip_norm: f64,
    /// Decay of a moving average of the weights that checkpoints keep beside them (`--average` uses it); 0 keeps none.
    #[serde(default)]
    pub ema: f64,
    /// Weight of each task's loss: text-to-image, text, understanding, think-then-draw.
    #[serde(default = "equal_weights")]
    pub task_weights: [f64; 4],
    /// The samplers of rollouts and evaluations.
    #[serde(default)]
    pub sampling: Sampling,
    /// Weight of each reward.
    #[serde(default = "default_rewards")]
    pub rewards: BTreeMap<String, f64>,
    /// When to write checkpoints.
    #[serde(default)]
    pub checkpoint: CheckpointKnobs,
    /// Limits beyond which a run stops.
    #[serde(default)]
    pub limits: Limits,
    /// A teacher for reasoning traces, at an OpenAI-compatible address.
    pub teacher: Option<Teacher>,
    /// When a checkpoint is promoted.
    #[serde(default)]
    pub gate: Gate,
    /// The stages, in order.
    #[serde(rename = "stage")]
    pub stages: Vec<Stage>,
}

/// Where to compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EngineKnobs {
    /// `auto`, `cpu`, `cuda:0`.
    pub device: String,
    /// `auto`, `f32`, `bf16`.
    pub dtype: String,
    /// CPU threads; absent: all cores.
    pub threads: Option<usize>,
}

impl Default for EngineKnobs {
    fn default() -> Self {
        Self {
            device: "auto".into(),
            dtype: "auto".into(),
            threads: None,
        }
    }
}

/// A source of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, in the store and for `mix.NAME`.
    pub name: String,
    /// What it is.
    pub kind: SourceKind,
    /// The file or folder, for what is read; a relative one may also lie below `DEMASK_DATA`.
    pub path: Option<PathBuf>,
    /// At most this many examples of a file or folder.
    pub limit: Option<usize>,
    /// Its weight in the mix.
    #[serde(default = "one")]
    pub weight: f64,
    /// Its licence.
    #[serde(default)]
    pub licence: String,
}

/// What a source is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Text-to-picture on the tabletop.
    TabletopDraw,
    /// Captions of the tabletop.
    TabletopCaption,
    /// Fuller tables, for image tokenizers.
    TabletopScene,
    /// Questions about the tabletop.
    TabletopAsk,
    /// Word problems.
    TabletopSums,
    /// Requests that need thought before drawing.
    TabletopThinkDraw,
    /// JSON lines in GSM8K's form.
    Jsonl,
    /// A folder of pictures with captions.
    ImageFolder,
    /// Fashion-MNIST's IDX files.
    Idx,
}

/// The samplers of rollouts and evaluations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// Text; `steps` is a share of the answer when 0.
    pub text: TextSampler,
    /// Pictures.
    pub image: ImageSampler,
    /// Temperature of text rollouts.
    pub rollout_temperature: Option<f64>,
}

/// When to write checkpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointKnobs {
    /// Steps between two.
    pub every_steps: u64,
    /// How many are kept.
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Share of unreadable rows of a source.
    pub bad_row_share: f64,
    /// Similarity (Jaccard, of word shingles) from which a text is a near duplicate; above 1 only equal texts are.
    pub near_duplicate: f64,
    /// Returns to a checkpoint after a loss that was not finite.
    pub not_finite: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bad_row_share: 0.05,
            near_duplicate: 0.8,
            not_finite: 3,
        }
    }
}

/// A teacher at an OpenAI-compatible address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub concurrency: usize,
    /// Most tokens that may be paid for.
    #[serde(default = "million")]
    pub token_cap: u64,
    /// Share of the traces of a `reason` stage that the teacher is asked for; the model itself writes the rest.
    #[serde(default = "one")]
    pub share: f64,
    /// Most tokens of one answer.
    #[serde(default = "answer_tokens")]
    pub max_tokens: u64,
}

/// When a checkpoint is promoted: what an evaluation decides by comparing with the best promoted one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Whether evaluations decide at all. Default true.
    pub enabled: bool,
    /// How much the mean over the suites must gain on the best one's to be promoted. Default 0: not lose.
    pub margin: f64,
    /// Whether the run goes back to the promoted weights when a suite's whole interval lies below the promoted one's.
    /// Default false: the run holds and goes on.
    pub rollback: bool,
    /// Suites that are run at interval checkpoints too. Default none: only `evaluate` stages decide.
    pub suites: Vec<String>,
    /// Items a suite at interval checkpoints. Default 100.
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

/// One stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// What it does.
    pub kind: StageKind,
    /// Optimiser steps (rounds, for `reason`).
    #[serde(default = "one_step")]
    pub steps: u64,
    /// Sequences a step (prompts, for `align`; problems, for `reason`).
    #[serde(default = "default_batch")]
    pub batch: usize,
    /// Highest learning rate.
    #[serde(default = "default_rate")]
    pub learning_rate: f64,
    /// Steps of linear warm-up.
    #[serde(default)]
    pub warmup: u64,
    /// Learning rate at the end as a share of the highest: the other end of the cosine.
    #[serde(default)]
    pub final_rate: f64,
    /// Samples a prompt (`align`), traces a problem (`reason`).
    #[serde(default = "default_group")]
    pub group: usize,
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
    pub limit: usize,
    /// Only these sources; all when empty.
    #[serde(default)]
    pub sources: Vec<String>,
}

/// What a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

fn default_pixels() -> usize {
    32
}
fn default_vocabulary() -> usize {
    512
}
fn one() -> f64 {
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
fn equal_weights() -> [f64; 4] {
    [1.0; 4]
}
fn default_rewards() -> BTreeMap<String, f64> {
    [
        ("correct", 2.0),
        ("format", 0.5),
        ("draw", 2.0),
        ("length", 0.1),
        ("repetition", 0.1),
    ]
    .map(|(name, weight)| (name.to_owned(), weight))
    .into()
}

impl Profile {
    /// The text of a built-in profile or a file, and its origin for messages.
    ///
    /// # Errors
    /// Neither a built-in name nor a file that can be read.
    pub fn find(name: &str) -> Result<(String, String), ProfileError> {
        let built_in = match name {
            "tabletop" => Some(TABLETOP),
            "gsm8k-fashion" => Some(GSM8K_FASHION),
            _ => None,
        };
        if let Some(text) = built_in {
            return Ok((text.to_owned(), format!("profile {name}")));
        }
        std::fs::read_to_string(name)
            .map(|text| (text, name.to_owned()))
            .map_err(|error| ProfileError {
                origin: name.to_owned(),
                line: None,
                message: format!(
                    "{error}; expected a TOML file or one of the built-in profiles tabletop, gsm8k-fashion"
                ),
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
        let profile: Self =
            toml::from_str(text).map_err(|error| located(origin, text, error.span(), error.message()))?;
        match profile.check() {
            Ok(()) => Ok(profile),
            Err((key, message)) => {
                let line = line_of_key(text, &key, &message);
                Err(ProfileError {
                    origin: origin.to_owned(),
                    line,
                    message: format!("{key} {message}"),
                })
            }
        }
    }

    /// Steps of all stages: evaluations and rounds of reasoning count one each.
    #[must_use]
    pub fn total_steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The first value out of range: its key and what is allowed.
    fn check(&self) -> Result<(), Wrong> {
        if self.stages.is_empty() {
            return Err((
                "stage".into(),
                "is missing; a profile has at least one [[stage]]".into(),
            ));
        }
        range("clip_norm", self.clip_norm, 0.0, 1e6)?;
        range("ema", self.ema, 0.0, 0.999_999_9)?;
        range("text_vocabulary", self.text_vocabulary as f64, 300.0, 1e6)?;
        range("every_steps", self.checkpoint.every_steps as f64, 1.0, 1e9)?;
        range("keep", self.checkpoint.keep as f64, 1.0, 1e4)?;
        range("bad_row_share", self.limits.bad_row_share, 0.0, 1.0)?;
        range("near_duplicate", self.limits.near_duplicate, 0.1, 2.0)?;
        range("beta1", self.optimizer.beta1, 0.0, 0.999_999)?;
        range("beta2", self.optimizer.beta2, 0.0, 0.999_999_9)?;
        range("n_layers", self.model.n_layers as f64, 1.0, 1000.0)?;
        range("pixels", self.pixels as f64, 8.0, 4096.0)?;
        for source in &self.sources {
            range("weight", source.weight, 0.0, 1e6)?;
            let reads = matches!(
                source.kind,
                SourceKind::Jsonl | SourceKind::ImageFolder | SourceKind::Idx
            );
            if reads && source.path.is_none() {
                return Err((
                    "path".into(),
                    format!("is missing in source {}, which is read from a file", source.name),
                ));
            }
        }
        range("margin", self.gate.margin, -1.0, 1.0)?;
        range("limit", self.gate.limit as f64, 1.0, 1e6)?;
        known_suites("suites of gate", &self.gate.suites)?;
        self.teacher.as_ref().map_or(Ok(()), check_teacher)?;
        for stage in &self.stages {
            known_suites(&format!("suites of stage {}", stage.name), &stage.suites)?;
            range("steps", stage.steps as f64, 1.0, 1e9)?;
            range("batch", stage.batch as f64, 1.0, 65_536.0)?;
            range("learning_rate", stage.learning_rate, 0.0, 1.0)?;
            range("final_rate", stage.final_rate, 0.0, 1.0)?;
            range("clip", stage.objective.clip, 0.0, 10.0)?;
            range("kl", stage.objective.kl, 0.0, 100.0)?;
            range("inner_steps", stage.objective.inner_steps as f64, 1.0, 1000.0)?;
            if stage.kind == StageKind::Align {
                range("group", stage.group as f64, 2.0, 1024.0)?;
            }
            if let Some(unknown) = stage
                .sources
                .iter()
                .find(|name| !self.sources.iter().any(|s| &s.name == *name))
            {
                let known: Vec<&str> = self.sources.iter().map(|source| source.name.as_str()).collect();
                return Err((
                    "sources".into(),
                    format!(
                        "of stage {} names {unknown}; there are {}",
                        stage.name,
                        known.join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

/// A key and what is wrong with it.
type Wrong = (String, String);

fn range(key: &str, value: f64, low: f64, high: f64) -> Result<(), Wrong> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err((key.to_owned(), format!("is {value}; allowed is {low} to {high}")))
}

fn known_suites(whose: &str, names: &[String]) -> Result<(), Wrong> {
    match names.iter().find(|name| Suite::find(name).is_none()) {
        None => Ok(()),
        Some(unknown) => Err((
            "suites".into(),
            format!("({whose}) names {unknown}; `demask eval --list` shows what there is"),
        )),
    }
}

/// A teacher that cannot be asked is refused before anything is started.
fn check_teacher(teacher: &Teacher) -> Result<(), Wrong> {
    let wrong = |key: &str, message: &str| Err((key.to_owned(), message.to_owned()));
    let (scheme, host) = teacher.url.split_once("://").unwrap_or_default();
    if !matches!(scheme, "http" | "https") || host.is_empty() {
        return wrong(
            "url",
            "of the teacher must be an address such as http://127.0.0.1:8000/v1",
        );
    }
    if teacher.model.trim().is_empty() {
        return wrong(
            "model",
            "of the teacher is empty; expected the name that its address knows",
        );
    }
    range("concurrency", teacher.concurrency as f64, 1.0, 1024.0)?;
    range("token_cap", teacher.token_cap as f64, 1.0, 1e15)?;
    range("share", teacher.share, 0.0, 1.0)?;
    range("max_tokens", teacher.max_tokens as f64, 1.0, 1e6)
}

fn located(origin: &str, text: &str, span: Option<std::ops::Range<usize>>, message: &str) -> ProfileError {
    let line = span.map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    ProfileError {
        origin: origin.to_owned(),
        line,
        message: message.trim().replace('\n', " "),
    }
}

/// The line that assigns a key the value that the message complains of, in an inline table too; else the last that assigns
/// the key. The values were read without their places.
fn line_of_key(text: &str, key: &str, message: &str) -> Option<usize> {
    let number: Option<f64> = message
        .strip_prefix("is ")
        .and_then(|rest| rest.split(';').next()?.parse().ok());
    let named = message
        .split_once("names ")
        .and_then(|(_, rest)| rest.split(';').next());
    let blamed = |value: &str| {
        let said = value.split([',', '}', ' ']).next().unwrap_or(value);
        let same = number.is_some_and(|number| said.replace('_', "").parse() == Ok(number));
        same || named.is_some_and(|name| value.contains(&format!("\"{name}\"")))
    };
    let assigned: Vec<(usize, &str)> = text
        .lines()
        .zip(1..)
        .filter_map(|(line, number)| Some((number, assigned(line, key)?)))
        .collect();
    let guilty = assigned.iter().find(|(_, value)| blamed(value));
    guilty.or(assigned.last()).map(|(number, _)| *number)
}

/// What a line assigns to a key, if it does.
fn assigned<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let code = line.split('#').next().unwrap_or(line);
    code.match_indices(key).find_map(|(at, _)| {
        let before = code[..at].chars().next_back();
        let inside = before.is_some_and(|sign| sign.is_alphanumeric() || sign == '_');
        let after = code[at + key.len()..].trim_start().strip_prefix('=')?;
        (!inside).then(|| after.trim())
    })
}

fn place(table: &mut toml_edit::Table, key: &str, value: toml_edit::Value) -> Result<(), String> {
    let (first, rest) = key
        .split_once('.')
        .map_or((key, None), |(first, rest)| (first, Some(rest)));
    let Some(rest) = rest else {
        table.insert(first, toml_edit::Item::Value(value));
        return Ok(());
    };
    let item = table.entry(first).or_insert_with(toml_edit::table);
    if let Some(list) = item.as_array_of_tables_mut() {
        let (number, rest) = rest
            .split_once('.')
            .ok_or_else(|| format!("{first} is a list: {first}.NUMBER.KEY"))?;
        let count = list.len();
        let named =
            |table: &toml_edit::Table| table.get("name").and_then(toml_edit::Item::as_str) == Some(number);
        let at = number.parse().ok().or_else(|| list.iter().position(named));
        let table = at.and_then(|at: usize| list.get_mut(at));
        return place(
            table.ok_or_else(|| format!("there is no {first}.{number}; there are {count}"))?,
            rest,
            value,
        );
    }
    place(
        item.as_table_mut()
            .ok_or_else(|| format!("{first} is not a table"))?,
        rest,
        value,
    )
}
