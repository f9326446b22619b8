//! How an engine that the daemon did not start serves it (`demask-engine --join FILE`): rank 0 of a world, or an engine
//! that only samples, dials the daemon.
//!
//! - `pinned.rs`: TLS to the one daemon whose certificate the join file names;
//! - `relay.rs`: the thread that keeps the connection and carries lines between the daemon and the server;
//! - `clients.rs`: where the server's clients come from.
//!
//! Not here: the frames and their limits (`demask_api::join`), and the daemon's side (the `actors` crate).

pub mod clients;
mod pinned;
pub mod relay;
