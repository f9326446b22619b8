//! What happens to the dashboard, and what has to be done outside.

use demask_storage::{Command, Envelope, Reply};

/// What happened.
#[derive(Clone, Debug)]
pub enum Msg {
    /// A key, as the table names it; characters are themselves.
    Key(String),
    /// The daemon said something.
    Event(Box<Envelope>),
    /// An answer to a command.
    Reply(Box<Reply>),
    /// A query was refused.
    NoRows {
        /// The query.
        sql: String,
        /// Why.
        message: String,
    },
    /// Events were missed.
    Lagged(u64),
    /// The connection is there.
    Connected,
    /// The connection is gone.
    Away,
    /// A quarter of a second went by.
    Tick,
    /// The mouse was pressed at this column and row.
    Click(u16, u16),
    /// The wheel was turned, up or down.
    Wheel(bool),
    /// The terminal has so many columns and rows.
    Size(u16, u16),
}

/// What has to be done outside.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask the daemon.
    Ask(Command),
    /// Leave.
    Quit,
}
