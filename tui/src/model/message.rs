//! The messages to the dashboard, and the effects that it asks for.

use demask_storage::{Command, Envelope, Reply};

/// The notice that a command could not be sent.
pub(crate) const AWAY: &str = "the daemon is away: nothing was asked of it";

/// A message.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A pressed key, named as in the table; characters are themselves.
    Key(String),
    /// A text that was pasted into the terminal.
    Paste(String),
    /// An event from the daemon.
    Event(Box<Envelope>),
    /// A reply to a command.
    Reply(Box<Reply>),
    /// The result of a query.
    Rows {
        /// The query.
        sql: String,
        /// Column names.
        columns: Vec<String>,
        /// The values, row by row in the order of the columns.
        rows: Vec<Vec<serde_json::Value>>,
    },
    /// A query was refused.
    NoRows {
        /// The query.
        sql: String,
        /// The reason.
        message: String,
    },
    /// The number of missed events.
    Lagged(u64),
    /// The connection was established.
    Connected,
    /// The connection was lost.
    Away,
    /// A quarter of a second passed.
    Tick,
    /// A mouse click at this column and row.
    Click(u16, u16),
    /// The mouse wheel was turned; true is up.
    Wheel(bool),
    /// The terminal's size in columns and rows.
    Size(u16, u16),
}

/// An effect outside the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Send a command to the daemon.
    Ask(Command),
    /// Leave the dashboard.
    Quit,
}
