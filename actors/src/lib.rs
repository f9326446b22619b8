//! Who does what: one actor a file, their messages, supervision, the control socket.

pub mod client;
pub mod control;
pub mod curator;
pub mod daemon;
pub mod engine;
pub mod engine_host;
pub mod evaluator;
pub mod gateway;
pub mod home;
pub mod profile;
pub mod recorder;
pub mod shipped;
pub mod sources;
pub mod supervisor;
pub mod teacher;
pub mod trainer;
pub mod workbench;
