//! The control socket's language: JSON, one message a line.
//!
//! A client sends [`ClientMessage`]s; the daemon answers each with a [`ServerMessage::Reply`] of the same id. After
//! `subscribe` the connection also carries [`ServerMessage::Event`]s from the asked sequence number on.

use serde::{Deserialize, Serialize};

use crate::live::{ActorView, Overview};
use crate::record::{Envelope, RunRequest};
use crate::vocabulary::SteerAction;

/// A client's line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientMessage {
    /// Returned with the reply; the same command with the same id is done once.
    pub id: String,
    /// The client's protocol; another one is refused with both numbers.
    pub protocol: u32,
    /// Who: user name and client, for the audit row.
    pub by: String,
    /// What.
    pub command: Command,
}

/// What can be asked of the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Where is the run?
    Status,
    /// The actor tree.
    Actors,
    /// Start a run. Refused while one is running.
    Run(RunRequest),
    /// Start a run once those before it have ended, whatever becomes of them.
    Enqueue(RunRequest),
    /// Put a run that waits at another place, from 1.
    QueueMove {
        /// The run, as a person names it.
        run: String,
        /// The place.
        place: u64,
    },
    /// Take a run that waits out of the queue.
    QueueCancel {
        /// The run, as a person names it.
        run: String,
    },
    /// Go on with a run that was stopped or failed, from its last checkpoint. Refused while another one is running.
    ResumeRun {
        /// The run's id.
        run: String,
    },
    /// Hold at the next step boundary.
    Pause,
    /// Go on.
    Resume,
    /// Checkpoint and end the run at the next step boundary.
    Stop,
    /// Checkpoint at the next step boundary.
    Checkpoint,
    /// Turn a knob at the next step boundary.
    Set {
        /// The knob.
        key: String,
        /// Its new value.
        value: f64,
    },
    /// Sample this prompt now, watched: beside what the run is sampling, else after the engine's present request.
    Sample {
        /// The prompt.
        prompt: String,
        /// Draw rather than write.
        picture: bool,
    },
    /// Ask the run's model as it is now, and wait for what it says: beside what the run is sampling, else after the engine's
    /// present request.
    Ask {
        /// The prompt.
        prompt: String,
        /// Draw rather than write.
        draw: bool,
        /// The picture that is asked about: a file's whole path.
        image: Option<String>,
        /// Answer without reasoning.
        direct: bool,
        /// The right answer, if it is known: the verdict comes with the answer.
        reference: Option<String>,
    },
    /// Send events from this sequence number on (0: from now on, live).
    Subscribe {
        /// The last sequence number that the client has.
        since: u64,
    },
    /// Send what somebody who comes in the middle has missed, the run's curves, benchmarks and last events, then events live.
    Follow {
        /// How many of the last events.
        recent: u64,
    },
    /// Read-only SQL (the dashboard's Query screen).
    Query {
        /// One SELECT.
        sql: String,
        /// Most rows.
        limit: u64,
    },
    /// End the daemon: stop at the step boundary, checkpoint, flush, exit 0.
    Shutdown,
}

impl Command {
    /// Turns a knob, as a person types it.
    ///
    /// # Errors
    /// In words: the value is not a finite number.
    pub fn set(key: &str, value: &str) -> Result<Self, String> {
        match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self::Set {
                key: key.trim().to_owned(),
                value: number,
            }),
            _ => Err(format!(
                "{}: expected a number, found '{}'",
                key.trim(),
                value.trim()
            )),
        }
    }

    /// What a command steers in a run; none for what only looks, and for what concerns the daemon.
    #[must_use]
    pub fn action(&self) -> Option<SteerAction> {
        match self {
            Self::Pause => Some(SteerAction::Pause),
            Self::Resume => Some(SteerAction::Resume),
            Self::Stop => Some(SteerAction::Stop),
            Self::Checkpoint => Some(SteerAction::Checkpoint),
            Self::Set { .. } => Some(SteerAction::Set),
            Self::Sample { .. } | Self::Ask { .. } => Some(SteerAction::Sample),
            _ => None,
        }
    }
}

/// What the daemon says.
// Nearly all messages are events: a box around each would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The answer to a client's message.
    Reply {
        /// The message's id.
        id: String,
        /// The daemon's protocol.
        protocol: u32,
        /// The daemon's version.
        version: String,
        /// The answer.
        reply: Reply,
    },
    /// Something happened.
    Event(Envelope),
    /// The client was too slow: this many events were not sent; read them from the store.
    Lagged {
        /// How many.
        missed: u64,
        /// The next sequence number that will be sent.
        next: u64,
    },
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Where the run is.
    Status(Box<Overview>),
    /// The actor tree.
    Actors {
        /// Parents before children.
        actors: Vec<ActorView>,
    },
    /// Taken; it takes effect at a step boundary, and a `Steer` record then says at which.
    Accepted {
        /// In words.
        message: String,
        /// The present step.
        step: u64,
    },
    /// What the run's model said.
    Said {
        /// The text, reasoning included.
        text: String,
        /// What follows the reasoning, or what the detector reads in a drawing.
        answer: String,
        /// The drawing: the path of a PNG file.
        picture: Option<String>,
        /// Whether the answer is right; none where nobody can tell.
        right: Option<bool>,
        /// Steps that were done.
        step: u64,
        /// From the question to the answer.
        seconds: f64,
    },
    /// A run was started.
    Started {
        /// Its id.
        run: String,
    },
    /// A run waits for its turn, or has begun if none is before it.
    Queued {
        /// Its id.
        run: String,
        /// Runs before it, the one under way among them.
        ahead: u64,
    },
    /// A query's result.
    Rows {
        /// Column names.
        columns: Vec<String>,
        /// Values.
        rows: Vec<Vec<serde_json::Value>>,
    },
    /// Not done, and why, and what to do.
    Refused {
        /// In words.
        message: String,
    },
}
