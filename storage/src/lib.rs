//! SQLite: schema, the recorder's writer, queries; and everything that crosses a boundary as plain data: events,
//! commands and records. The same [`Record`] is what an actor hands to the recorder, what the daemon streams to
//! watchers, and what the dashboard draws, so `tui` depends on this crate only.

pub mod blobs;
pub mod command;
pub mod evaluations;
pub mod events;
pub mod live;
pub mod query;
pub mod record;
pub mod runs;
pub mod store;
pub mod vocabulary;
pub mod writer;

pub use blobs::Blobs;
pub use command::{ClientMessage, Command, Reply, ServerMessage};
pub use live::{ActorState, ActorView, DeviceView, Frame, Knob, Overview, StageView};
pub use record::{
    Alert, Checkpoint, CleanCheck, Envelope, Eval, EvalItem, Evaluation, ExampleRecord, GateVerdict, Labels,
    Level, Lifecycle, Metric, Parent, QueueAction, QueueChange, Queued, Record, Relabelled, RolloutSample,
    Run, RunEnd, RunRequest, Steer, Trace, TrainUse,
};
pub use runs::journal;
pub use store::StoreError;
pub use writer::Writer;

/// The version of the control protocol; it is in every reply.
pub const PROTOCOL: u32 = 2;
pub use vocabulary::{Decision, Gate, Modality, RunState, SteerAction, UnknownWord};
