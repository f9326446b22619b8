//! The words that rows, the event stream, the screen and control flow share, each defined once.
//!
//! A word is spelled the same in the store, on the socket and on the screen.

use std::fmt;
use std::str::FromStr;

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};

/// A word that this version does not know.
#[derive(Debug, thiserror::Error)]
#[error("'{found}' is no {what}; expected one of {known}")]
pub struct UnknownWord {
    /// What was expected.
    pub what: &'static str,
    /// What was found.
    pub found: String,
    /// The words there are.
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
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in rows, on the socket and on the screen.
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
    /// A gate of curation: a row, an example or a trace passes it or is turned away at it.
    Gate, "gate":
    /// The row can be read, and fits the model's lengths.
    "parse" => Parse,
    /// No row before it says the same.
    "exact_dedup" => ExactDedup,
    /// No row before it says nearly the same.
    "near_dedup" => NearDedup,
    /// It shares nothing with a registered benchmark (law L6).
    "decontaminate" => Decontaminate,
    /// The trace's steps and its result are right.
    "verify" => Verify,
    /// No equal trace was accepted before.
    "dedup" => Dedup,
    /// The trace is in the pool; the row can be trained on.
    "accept" => Accept,
}

vocabulary! {
    /// What an example asks for, as the sequence layout and the loss see it.
    Modality, "modality":
    /// Text for text.
    "text" | "word_problem" | "instruction" => Text,
    /// Text about a picture.
    "ask" | "caption" | "scene" | "question" | "picture_instruction" => Ask,
    /// A picture for text.
    "draw" | "text_to_image" => Draw,
    /// Reasoning, then a picture.
    "think_draw" | "think_then_draw" => ThinkDraw,
}

vocabulary! {
    /// Where a run is. `done`, `stopped` and `failed` are its ends.
    RunState, "run state":
    /// There is no run.
    "idle" => Idle,
    /// A life of the run is loading its checkpoint.
    "starting" => Starting,
    /// Steps are done.
    "running" => Running,
    /// A person holds it at a step boundary.
    "paused" => Paused,
    /// The disk is full; it goes on once there is room.
    "waiting_disk" => WaitingDisk,
    /// The daemon is ending.
    "stopping" => Stopping,
    /// The daemon ended; the next one goes on with it.
    "interrupted" => Interrupted,
    /// All stages are done.
    "done" => Done,
    /// A person stopped it.
    "stopped" => Stopped,
    /// It could not go on.
    "failed" => Failed,
}

vocabulary! {
    /// What a person does to a run.
    SteerAction, "steer action":
    /// Turns a knob.
    "set" => Set,
    /// Holds it.
    "pause" => Pause,
    /// Lets it go on.
    "resume" => Resume,
    /// Ends it, with a checkpoint.
    "stop" => Stop,
    /// Has a checkpoint written.
    "checkpoint" => Checkpoint,
    /// Has a prompt sampled.
    "sample" => Sample,
}

vocabulary! {
    /// What an evaluation decides about a checkpoint.
    Decision, "decision":
    /// There was none to compare it with: it is what later ones are compared with.
    "baseline" => Baseline,
    /// It is the best now.
    "promote" => Promote,
    /// The best stays the best; the run goes on with what it has.
    "hold" => Hold,
    /// The run goes back to the best.
    "roll_back" => RollBack,
}

/// A decision in a record: the empty word where nothing was decided.
pub(crate) mod decided {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use super::Decision;

    // serde's signature.
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
            error.starts_with("'read' is no gate; expected one of parse, exact_dedup"),
            "{error}"
        );
    }
}
