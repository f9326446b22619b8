//! Engines that the daemon did not start: worlds of ranks and sampling engines on other machines, which dial it
//! (`demask daemon start --listen ADDR --join-file FILE`, `demask-engine --join FILE`).
//!
//! - `listen.rs`: the address to listen on; `secrets.rs`: the certificate and the token, which exist in memory only,
//!   and the join file;
//! - `door.rs`: the port: TLS, the greeting, and the refusal of other peers;
//! - `lobby.rs`: engines that have come and wait for a run, and runs that wait for them;
//! - `session.rs`: the connection to one engine; `bridge.rs`: its lines behind a Unix socket, by which the rest of the
//!   daemon uses it like an engine of its own;
//! - `folder_mark.rs`: a file by which engines show that they see the daemon's folder.
//!
//! Not here: the frames and limits (`demask_api::join`), and the engine's side (`model`'s `world/join`).

pub mod bridge;
pub mod door;
pub mod folder_mark;
pub mod listen;
pub mod lobby;
mod secrets;
pub mod session;
