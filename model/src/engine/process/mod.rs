//! The engine as a process: how it is started, what it may do, and how it ends.
//!
//! - `arguments.rs`: the command line;
//! - `sandbox.rs`: the restrictions on the process (Landlock and seccomp);
//! - `shutdown.rs`: the end of the process; `fault.rs`: faults that a test injects.
//!
//! Not here: what it does for its clients (`server/`, `dispatch/`).

pub mod arguments;
pub mod fault;
pub mod sandbox;
pub mod shutdown;
