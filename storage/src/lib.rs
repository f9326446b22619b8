//! The experiment store in SQLite (schema, writer, queries), and the plain data that crosses process boundaries:
//! events, commands and records.
//!
//! An actor hands a [`Record`] to the recorder, the daemon streams the same type to watchers, and the dashboard draws
//! it. Therefore `tui` depends on this crate only.

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
pub use live::{ActorState, ActorView, DeviceView, Frame, Knob, Overview, RankView, StageView};
pub use query::visible;
pub use record::{
    Alert, Checkpoint, CleanCheck, Envelope, Eval, EvalItem, Evaluation, ExampleRecord, GateVerdict, Labels,
    Level, Lifecycle, Metric, Parent, QueueAction, QueueChange, Queued, Record, Relabelled, RolloutSample,
    Run, RunEnd, RunRequest, Steer, StepRanks, Trace, TrainUse,
};
pub use runs::journal;
pub use store::StoreError;
pub use writer::Writer;

/// The version of the control protocol; every reply contains it.
pub const PROTOCOL: u32 = 4;
pub use vocabulary::{Decision, Gate, Modality, RunState, SteerAction, UnknownWord};
