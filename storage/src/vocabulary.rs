//! The shared vocabulary of rows, the event stream, the screen and control flow. Each word is defined once and spelled
//! the same everywhere.

use std::fmt;
use std::str::FromStr;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// An unknown word.
#[derive(Debug, thiserror::Error)]
#[error("'{found}' is not a {what}; expected one of {known}")]
pub struct UnknownWord {
    /// The vocabulary that was expected.
    pub what: &'static str,
    /// The word that was found.
    pub found: String,
    /// The known words.
    pub known: String,
}

macro_rules! vocabulary {
    ($(#[$about:meta])* $name:ident, $what:literal: $($(#[$doc:meta])* $word:literal $(| $old:literal)* => $variant:ident,)+) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$doc])* #[serde(rename = $word $(, alias = $old)*)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the word in rows, on the socket and on the screen.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str(self.word())
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                let found = Self::ALL.iter().find(|one| one.word() == text);
                found.copied().ok_or_else(|| UnknownWord {
                    what: $what,
                    found: text.to_owned(),
                    known: Self::ALL.iter().map(|one| one.word()).collect::<Vec<_>>().join(", "),
                })
            }
        }

        impl ToSql for $name {
            fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
                Ok(self.word().into())
            }
        }

        impl FromSql for $name {
            fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
                value.as_str()?.parse().map_err(FromSqlError::other)
            }
        }
    };
}

vocabulary! {
    /// A gate of curation, which a row, an example or a trace passes or fails.
    Gate, "gate":
    /// The row can be read and fits the model's lengths.
    "parse" => Parse,
    /// No earlier row has the same text.
    "exact_dedup" => ExactDedup,
    /// No earlier row has nearly the same text.
    "near_dedup" => NearDedup,
    /// It shares nothing with a registered benchmark (law L6).
    "decontaminate" => Decontaminate,
    /// The trace's steps and result are right.
    "verify" => Verify,
    /// No equal trace was accepted before.
    "dedup" => Dedup,
    /// The trace enters the pool; the row can be trained on.
    "accept" => Accept,
}

vocabulary! {
    /// The modality of an example, which determines the sequence layout and the loss.
    Modality, "modality":
    /// Text to text.
    "text" | "word_problem" | "instruction" => Text,
    /// Text and picture to text.
    "ask" | "caption" | "scene" | "question" | "picture_instruction" => Ask,
    /// Text to picture.
    "draw" | "text_to_image" => Draw,
    /// Reasoning, then a picture.
    "think_draw" | "think_then_draw" => ThinkDraw,
}

vocabulary! {
    /// The state of a run. `done`, `stopped` and `failed` are final.
    RunState, "run state":
    /// There is no run.
    "idle" => Idle,
    /// The run is loading its checkpoint.
    "starting" => Starting,
    /// Steps are being executed.
    "running" => Running,
    /// The user paused it at a step boundary.
    "paused" => Paused,
    /// The disk is full; the run continues when there is space.
    "waiting_disk" => WaitingDisk,
    /// The daemon is ending.
    "stopping" => Stopping,
    /// The daemon ended; the next one resumes the run.
    "interrupted" => Interrupted,
    /// All stages are complete.
    "done" => Done,
    /// The user stopped it.
    "stopped" => Stopped,
    /// It cannot continue.
    "failed" => Failed,
}

vocabulary! {
    /// A user's action on a run.
    SteerAction, "steer action":
    /// Sets a knob.
    "set" => Set,
    /// Pauses it.
    "pause" => Pause,
    /// Resumes it.
    "resume" => Resume,
    /// Ends it, with a checkpoint.
    "stop" => Stop,
    /// Writes a checkpoint.
    "checkpoint" => Checkpoint,
    /// Samples a prompt.
    "sample" => Sample,
}

vocabulary! {
    /// The promotion gate's decision about a checkpoint.
    Decision, "decision":
    /// The first checkpoint, with which later ones are compared.
    "baseline" => Baseline,
    /// The new best checkpoint.
    "promote" => Promote,
    /// The best checkpoint stays; the run continues.
    "hold" => Hold,
    /// The run returns to the best checkpoint.
    "roll_back" => RollBack,
}

/// Serialises the decision in a record; the empty word means that nothing was decided.
pub(crate) mod decided {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::Decision;

    // The signature is serde's.
    #[allow(clippy::ref_option)]
    pub(crate) fn serialize<S: Serializer>(decision: &Option<Decision>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(decision.map_or("", Decision::word))
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Decision>, D::Error> {
        let word = String::deserialize(from)?;
        if word.is_empty() {
            return Ok(None);
        }
        word.parse().map(Some).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_word_is_the_same_on_the_socket_and_in_a_row_and_old_spellings_are_still_read() {
        for gate in Gate::ALL {
            assert_eq!(serde_json::to_value(gate).unwrap(), gate.word());
            assert_eq!(gate.word().parse::<Gate>().unwrap(), *gate);
        }
        let old: Modality = serde_json::from_str("\"word_problem\"").unwrap();
        assert_eq!(old, Modality::Text);
        let error = "read".parse::<Gate>().unwrap_err().to_string();
        assert!(
            error.starts_with("'read' is not a gate; expected one of parse, exact_dedup"),
            "{error}"
        );
    }
}
