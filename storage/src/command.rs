//! The protocol of the control socket: JSON, one message a line.
//!
//! A client sends [`ClientMessage`]s; the daemon answers each with a [`ServerMessage::Reply`] of the same id. After
//! `subscribe`, the connection also carries [`ServerMessage::Event`]s from the requested sequence number on. Commands of one
//! connection are done in their order, but `status`, `actors`, `stop` and `shutdown` do not wait for those before them.

use serde::{Deserialize, Serialize};

use crate::live::{ActorView, Overview};
use crate::record::{Envelope, RunRequest};
use crate::vocabulary::SteerAction;

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientMessage {
    /// The message's id, which the reply repeats: a UUID of version 7 or any other text that is the client's own for this
    /// command. A command that is sent again with the same id is executed once. For `run` and `enqueue` that holds for good,
    /// also over the daemon's death: the run's id is made from it. Another command under an id that is known is refused.
    pub id: String,
    /// The client's protocol version. Another version is refused with a message that names both.
    pub protocol: u32,
    /// The user name and client, for the audit row.
    pub by: String,
    /// The command.
    pub command: Command,
}

/// A command to the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Report the state of the run.
    Status,
    /// Report the actor tree.
    Actors,
    /// Start a run. Refused while another one is running.
    Run(RunRequest),
    /// Start a run after those before it have ended, however they end.
    Enqueue(RunRequest),
    /// Move a waiting run to another place of the queue, from 1.
    QueueMove {
        /// The run, as the user names it.
        run: String,
        /// The place.
        place: u64,
    },
    /// Remove a waiting run from the queue.
    QueueCancel {
        /// The run, as the user names it.
        run: String,
    },
    /// Resume a stopped or failed run from its last checkpoint. Refused while another one is running.
    ResumeRun {
        /// The run's id.
        run: String,
    },
    /// Pause at the next step boundary.
    Pause,
    /// Resume after a pause.
    Resume,
    /// Write a checkpoint and end the run at the next step boundary. While the run is being stopped, another one changes
    /// nothing, and has no row of its own.
    Stop,
    /// Write a checkpoint at the next step boundary.
    Checkpoint,
    /// Set a knob at the next step boundary.
    Set {
        /// The knob.
        key: String,
        /// The knob's new value.
        value: f64,
    },
    /// Sample this prompt now with its denoising frames: together with what the run is sampling, else after the
    /// engine's current request.
    Sample {
        /// The prompt.
        prompt: String,
        /// Draw a picture instead of writing a text.
        picture: bool,
    },
    /// Ask the run's current model and wait for its answer: together with what the run is sampling, else after the
    /// engine's current request.
    Ask {
        /// The prompt.
        prompt: String,
        /// Draw a picture instead of writing a text.
        draw: bool,
        /// The absolute path of the picture that is asked about.
        image: Option<String>,
        /// Answer without reasoning.
        direct: bool,
        /// The right answer, if it is known; the reply then has a verdict.
        reference: Option<String>,
    },
    /// Send events from this sequence number on (0: only new ones), then live.
    Subscribe {
        /// The last sequence number that the client has.
        since: u64,
    },
    /// Send what a late client has missed (the run's curves, benchmarks and last events), then events live.
    Follow {
        /// The number of last events.
        recent: u64,
    },
    /// Run read-only SQL (the dashboard's Query screen).
    Query {
        /// One SELECT.
        sql: String,
        /// The most rows.
        limit: u64,
    },
    /// End the daemon: stop at the step boundary, write a checkpoint, flush, exit 0. Under another id it means as well that
    /// the daemon is to end without the rows that a disk which does not answer has not confirmed; none of them is
    /// acknowledged.
    Shutdown,
}

impl Command {
    /// Parses a `set` command as the user types it.
    ///
    /// # Errors
    /// A message if the value is not a finite number.
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

    /// Returns the steer action of a command; `None` for queries and for commands to the daemon itself.
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

/// A message of the daemon.
// Nearly all messages are events, so boxing them would cost more than it saves.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub enum ServerMessage {
    /// The reply to a client's message.
    Reply {
        /// The message's id.
        id: String,
        /// The daemon's protocol version.
        protocol: u32,
        /// The daemon's version.
        version: String,
        /// The reply.
        reply: Reply,
    },
    /// An event.
    Event(Envelope),
    /// The client was too slow and some events were not sent; they can be read from the store.
    Lagged {
        /// The number of events that were not sent.
        missed: u64,
        /// The next sequence number that will be sent.
        next: u64,
    },
}

/// A reply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// The state of the run.
    Status(Box<Overview>),
    /// The actor tree.
    Actors {
        /// The actors, parents before children.
        actors: Vec<ActorView>,
    },
    /// The command was accepted. It takes effect at a step boundary, and a `Steer` record then says which.
    Accepted {
        /// A message for the user.
        message: String,
        /// The current step.
        step: u64,
    },
    /// A stop was taken and the run is being stopped, but the disk has not confirmed the order's row. If the daemon dies
    /// before it does, the order may be lost, and the next daemon continues the run. The same command with the same id
    /// asks whether the row is there by now.
    Taken {
        /// A message for the user.
        message: String,
        /// The current step.
        step: u64,
    },
    /// The answer of the run's model.
    Said {
        /// The text with its reasoning.
        text: String,
        /// The text after the reasoning, or what the detector reads in a drawing.
        answer: String,
        /// The path of the drawing, a PNG file.
        picture: Option<String>,
        /// Whether the answer is right; `None` if it cannot be checked.
        right: Option<bool>,
        /// The number of completed steps.
        step: u64,
        /// Seconds from the question to the answer.
        seconds: f64,
    },
    /// A run has started.
    Started {
        /// The run's id.
        run: String,
    },
    /// A run is queued, or has begun if none is before it.
    Queued {
        /// The run's id.
        run: String,
        /// The number of runs before it, including the running one.
        ahead: u64,
    },
    /// The result of a query.
    Rows {
        /// Column names.
        columns: Vec<String>,
        /// The values, row by row in the order of the columns.
        rows: Vec<Vec<serde_json::Value>>,
    },
    /// The command was refused.
    Refused {
        /// The reason and the remedy.
        message: String,
    },
}

impl Reply {
    /// Makes the reply that refuses a command for this reason.
    #[must_use]
    pub fn refused(message: &str) -> Self {
        let message = message.to_owned();
        Self::Refused { message }
    }
}
