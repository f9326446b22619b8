//! A run that is asked for: what it computes, what people call it, where it comes from; at once, or when its turn comes.

use serde::{Deserialize, Serialize};

/// Most characters of a run's name and of a tag.
const LONGEST_NAME: usize = 100;
/// Most characters of a note.
const LONGEST_NOTE: usize = 10_000;

/// A run that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRequest {
    /// The profile as TOML text, `--set`s applied.
    pub profile: String,
    /// Where it was read, for messages.
    pub origin: String,
    /// From random weights rather than the shipped checkpoint.
    pub from_scratch: bool,
    /// The checkpoint of another run that its weights come from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// The checkpoint that a run's weights come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run.
    pub run: String,
    /// Its step.
    pub step: u64,
}

/// What people call a run, beside its id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Its name; several runs may have the same.
    #[serde(default)]
    pub name: Option<String>,
    /// Its tags, each once, in order.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What somebody wrote down about it.
    #[serde(default)]
    pub note: String,
}

impl Labels {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a tag, unless it is there.
    pub fn tag(&mut self, tag: &str) {
        if let Err(place) = self.tags.binary_search_by(|one| one.as_str().cmp(tag)) {
            self.tags.insert(place, tag.to_owned());
        }
    }

    /// Takes a tag away, if it is there.
    pub fn untag(&mut self, tag: &str) {
        self.tags.retain(|one| one != tag);
    }

    /// Whether a name, the tags and the note are such as may be kept.
    ///
    /// # Errors
    /// In words: which of them, what is allowed, what was found.
    pub fn check(&self) -> Result<(), String> {
        if let Some(name) = &self.name {
            check_name("name", name)?;
        }
        self.tags.iter().try_for_each(|tag| check_name("tag", tag))?;
        let length = self.note.chars().count();
        if length > LONGEST_NOTE {
            return Err(format!(
                "the note has {length} characters; allowed are {LONGEST_NOTE}"
            ));
        }
        Ok(())
    }
}

/// A name stands where an id may (`RUN@STEP`) and beside a repository's (`OWNER/NAME`): it must look like neither.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let length = name.chars().count();
    let wrong = |sign: char| sign == '@' || sign == '/' || sign.is_control();
    if name.trim() != name || name.is_empty() || name == "latest" || name.contains(wrong) {
        return Err(format!(
            "the {what} '{name}': expected some words without @ and /, no space at the ends, not the word latest"
        ));
    }
    if length > LONGEST_NAME {
        return Err(format!(
            "the {what} has {length} characters; allowed are {LONGEST_NAME}"
        ));
    }
    Ok(())
}

/// A run waits for its turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Queued {
    /// Its id, from now on.
    pub run: String,
    /// Who asked: user name and client.
    pub by: String,
    /// The profile's name.
    pub profile: String,
    /// BLAKE3 of the configuration, as the run will have it.
    pub config_hash: String,
    /// What was asked.
    pub request: RunRequest,
}

/// What a person, or the daemon, did to those that wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QueueChange {
    /// The command's id.
    pub id: String,
    /// Who.
    pub by: String,
    /// What.
    pub change: QueueAction,
}

/// How those that wait change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum QueueAction {
    /// They wait in this order.
    Order {
        /// All runs that wait, the next one first.
        runs: Vec<String>,
    },
    /// One will not be begun.
    Cancel {
        /// The run.
        run: String,
        /// Why.
        reason: String,
    },
}

/// A run is called otherwise from now on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Relabelled {
    /// The run.
    pub run: String,
    /// Who.
    pub by: String,
    /// All its labels.
    pub labels: Labels,
}
