//! Requests of runs: what a run computes, its labels and its parent; to be started at once or queued.

use serde::{Deserialize, Serialize};

/// The most characters of a run's name, and of a tag.
const LONGEST_NAME: usize = 100;
/// The most characters of a note.
const LONGEST_NOTE: usize = 10_000;

/// A request of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The profile as TOML text, with the `--set`s applied.
    pub profile: String,
    /// The place from which it was read, for messages.
    pub origin: String,
    /// Whether to start from random weights instead of the shipped checkpoint.
    pub from_scratch: bool,
    /// The checkpoint of another run from which its weights come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// The run's labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The checkpoint from which a run's weights come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: String,
    /// The step of the parent's checkpoint.
    pub step: u64,
}

/// The user's labels of a run, beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// The name; several runs may share one.
    #[serde(default)]
    pub name: Option<String>,
    /// The tags, unique and sorted.
    #[serde(default)]
    pub tags: Vec<String>,
    /// A free note.
    #[serde(default)]
    pub note: String,
}

impl Labels {
    /// Returns whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a tag unless it exists.
    pub fn tag(&mut self, tag: &str) {
        if let Err(place) = self.tags.binary_search_by(|one| one.as_str().cmp(tag)) {
            self.tags.insert(place, tag.to_owned());
        }
    }

    /// Removes a tag if it exists.
    pub fn untag(&mut self, tag: &str) {
        self.tags.retain(|one| one != tag);
    }

    /// Checks the name, the tags and the note.
    ///
    /// # Errors
    /// A message that says which is invalid, what is allowed and what was found.
    pub fn check(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        self.tags.iter().try_for_each(|tag| check_name("tag", tag))?;
        let length = self.note.chars().count();
        if length > LONGEST_NOTE {
            return Err(format!(
                "the note has {length} characters, expected at most {LONGEST_NOTE}"
            ));
        }
        Ok(())
    }
}

/// Checks a name. It may be written in the place of an id (`RUN@STEP`) and of a repository (`OWNER/NAME`), so it must
/// look like neither.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let length = name.chars().count();
    let wrong = |sign: char| sign == '@' || sign == '/' || sign.is_control();
    if name.trim() != name || name.is_empty() || name == "latest" || name.contains(wrong) {
        return Err(format!(
            "the {what} '{name}': expected a text without @ and / and without spaces at its ends, other than the word latest"
        ));
    }
    if length > LONGEST_NAME {
        return Err(format!(
            "the {what} has {length} characters, expected at most {LONGEST_NAME}"
        ));
    }
    Ok(())
}

/// A queued run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// The run's id.
    pub run: String,
    /// The user name and client.
    pub by: String,
    /// The profile's name.
    pub profile: String,
    /// The BLAKE3 of the run's configuration.
    pub config_hash: String,
    /// The request.
    pub request: RunRequest,
}

/// A change of the queue by a user or the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueChange {
    /// The command's id.
    pub id: String,
    /// The user name and client.
    pub by: String,
    /// The change.
    pub change: QueueAction,
}

/// A change of the queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum QueueAction {
    /// A new order.
    Order {
        /// All waiting runs, the next one first.
        runs: Vec<String>,
    },
    /// A waiting run was cancelled.
    Cancel {
        /// The run.
        run: String,
        /// The reason.
        reason: String,
    },
}

/// A run has new labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// The run.
    pub run: String,
    /// The user name and client.
    pub by: String,
    /// All its labels.
    pub labels: Labels,
}
