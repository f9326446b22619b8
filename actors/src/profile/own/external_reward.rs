//! The configuration of an external reward: a process that lives as long as the run, or an HTTP address. Either is
//! asked about a batch of completions at a time.

use std::path::{Path, PathBuf};

use demask_api::sequence::Task;
use demask_datasets::example::{Example, Mode};
use demask_rewards::rewards;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::profile::sections::one;
use crate::profile::wrong::{Wrong, wrong};

/// Names of metrics below `reward/` that do not belong to one reward.
const TAKEN: [&str; 5] = ["total", "text", "ask", "draw", "think_draw"];
/// Longest name, in letters.
const NAME_LENGTH: usize = 40;

/// A reward that is computed outside this program.
#[derive(Clone, Debug, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalReward {
    /// Name of the metric `reward_part/NAME`, of the knob `reward.NAME`, and of this part of a rollout's sum.
    pub name: String,
    /// Program with its arguments. In them `{run}`, `{name}` and `{folder}` stand for the run's id, the reward's name
    /// and its folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// Address that batches are posted to as JSON, in place of a command.
    pub url: Option<String>,
    /// Environment variable whose value is sent to the address as a bearer token.
    pub key_variable: Option<String>,
    /// Folder that the command runs in; absent: the profile's own.
    pub folder: Option<PathBuf>,
    /// Weight in the sum of rewards. `[rewards]` overrides it; with weight 0 the reward is not asked.
    #[serde(default = "one")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub weight: f64,
    /// Lowest and highest value that it may return; any other value is a failure.
    #[serde(default = "zero_to_one")]
    #[schemars(inner(range(min = -1e9, max = 1e9)))]
    pub range: [f64; 2],
    /// Completions per request.
    #[serde(default = "default_batch")]
    #[schemars(range(min = 1, max = 65536))]
    pub batch: usize,
    /// Seconds that a batch may take. For the first batch they include the program's start.
    #[serde(default = "default_limit")]
    #[schemars(range(min = 0.01, max = 86400.0))]
    pub time_limit: f64,
    /// Restarts after consecutive failures, before the run is paused.
    #[serde(default = "default_restarts")]
    #[schemars(range(min = 0, max = 1000))]
    pub restarts: u32,
    /// Tasks that it judges; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<JudgedTask>,
    /// Form in which it receives pictures: `base64` of a PNG file, or the `path` of one.
    #[serde(default)]
    pub picture: PictureForm,
}

/// A task that an external reward judges, named as in `[budgets]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JudgedTask {
    /// Drawings from a prompt.
    TextToImage,
    /// Answers to texts.
    Text,
    /// Answers about pictures.
    Understand,
    /// Drawings that follow reasoning.
    ThinkThenDraw,
}

impl JudgedTask {
    const fn is(self, task: Task) -> bool {
        matches!(
            (self, task),
            (Self::TextToImage, Task::TextToImage)
                | (Self::Text, Task::Text)
                | (Self::Understand, Task::Understand)
                | (Self::ThinkThenDraw, Task::ThinkThenDraw)
        )
    }
}

/// The form in which an external reward receives pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureForm {
    /// The bytes of a PNG file, in base64.
    #[default]
    Base64,
    /// The path of a PNG file.
    Path,
}

impl ExternalReward {
    /// Returns whether this reward judges an example in this mode.
    #[must_use]
    pub fn judges(&self, example: &Example, mode: Mode) -> bool {
        let task = example.task(mode);
        self.tasks.is_empty() || self.tasks.iter().any(|judged| judged.is(task))
    }

    /// Checks the reward's keys; `path` is its path in the profile.
    pub(in crate::profile) fn check(&self, path: &str) -> Result<(), Wrong> {
        let at = |key: &str| format!("{path}.{key}");
        let name = &self.name;
        let plain = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | '-');
        if name.is_empty() || name.len() > NAME_LENGTH || !name.chars().all(plain) {
            let message = format!(
                "is '{name}'; expected 1 to {NAME_LENGTH} letters, digits, _ or - for the knob reward.NAME"
            );
            return wrong(&at("name"), &message);
        }
        if rewards::find(name).is_some() || TAKEN.contains(&name.as_str()) {
            let message = format!("is {name}, which is reserved; give the reward another name");
            return wrong(&at("name"), &message);
        }
        match (&self.url, self.command.first()) {
            (None, None) => {
                let message = format!(
                    "is missing in reward {name}; expected command = [\"PROGRAM\", …] or url = \"http://…\""
                );
                return wrong(&at("command"), &message);
            }
            (Some(_), Some(_)) => {
                return wrong(
                    &at("url"),
                    &format!("is given together with command in reward {name}; leave one out"),
                );
            }
            (None, Some(program)) if program.trim().is_empty() => {
                return wrong(
                    &at("command"),
                    &format!("of reward {name} has an empty program name"),
                );
            }
            (Some(url), None) => check_address(&at("url"), name, url)?,
            (None, Some(_)) => {}
        }
        let [low, high] = self.range;
        if low >= high {
            let message =
                format!("of reward {name} is [{low}, {high}]; the first number must be less than the second");
            return wrong(&at("range"), &message);
        }
        Ok(())
    }

    /// Returns the absolute folder that the reward runs in: its `folder` below that of the profile, which is the file
    /// `origin`.
    ///
    /// # Errors
    /// An error if the folder does not exist, or if the program cannot be found.
    pub(in crate::profile) fn place(&self, path: &str, origin: &str) -> Result<PathBuf, Wrong> {
        let file = Path::new(origin);
        let beside = file
            .is_file()
            .then(|| file.parent())
            .flatten()
            .unwrap_or(Path::new(""));
        let folder = beside.join(self.folder.as_deref().unwrap_or(Path::new("")));
        let key = format!("{path}.folder");
        let folder = match std::path::absolute(if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            &folder
        }) {
            Ok(folder) => folder,
            Err(error) => return wrong(&key, &format!("folder {}: {error}", folder.display())),
        };
        if !folder.is_dir() {
            let message = format!("folder of reward {}: there is no {}", self.name, folder.display());
            return wrong(&key, &message);
        }
        match self
            .command
            .first()
            .filter(|program| !is_program(program, &folder))
        {
            None => Ok(folder),
            Some(program) => {
                let message = format!(
                    "command of reward {}: there is no program {program}, neither in {} nor on the PATH",
                    self.name,
                    folder.display()
                );
                wrong(&format!("{path}.command"), &message)
            }
        }
    }
}

/// Returns whether a program can be found from a folder, by the rules by which it will be started.
fn is_program(program: &str, folder: &Path) -> bool {
    if program.contains('/') {
        return folder.join(program).is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|within| within.join(program).is_file())
}

fn check_address(path: &str, name: &str, url: &str) -> Result<(), Wrong> {
    let (scheme, host) = url.split_once("://").unwrap_or_default();
    if matches!(scheme, "http" | "https") && !host.is_empty() {
        return Ok(());
    }
    let message =
        format!("of reward {name} is '{url}'; expected an address such as http://127.0.0.1:9000/score");
    wrong(path, &message)
}

fn zero_to_one() -> [f64; 2] {
    [0.0, 1.0]
}
fn default_batch() -> usize {
    64
}
fn default_limit() -> f64 {
    60.0
}
fn default_restarts() -> u32 {
    3
}
