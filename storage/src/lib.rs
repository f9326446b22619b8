//! SQLite: schema, the recorder's writer, queries; and everything that crosses a boundary as plain data: events,
//! commands and records. The same [`Record`] is what an actor hands to the recorder, what the daemon streams to
//! watchers, and what the dashboard draws, so `tui` depends on this crate only.

pub mod command;
pub mod live;
pub mod record;

pub use command::{ClientMessage, Command, Reply, ServerMessage};
pub use live::{ActorState, ActorView, DeviceView, Frame, Knob, Overview, StageView};
pub use record::{
    Alert, Checkpoint, CleanCheck, Envelope, Eval, Example, Level, Log, Lifecycle, Metric, Record, RolloutSample, Run,
    RunEnd, Score, Steer, Trace, TrainUse, Verdict,
};

/// The version of the control protocol; it is in every reply.
pub const PROTOCOL: u32 = 1;
