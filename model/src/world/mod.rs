//! Worlds: processes that train one model together, one rank each, on libtorch's c10d (Gloo on CPUs, NCCL on
//! GPUs).
//!
//! - `environment.rs`: the variables of the daemon, torchrun or Slurm that give a process its place;
//! - `store.rs`: the key-value store in which ranks find one another; `group.rs`: collective calls; `ffi.rs`:
//!   the C functions of both;
//! - `interface.rs`: the network interface for Gloo; `nccl.rs`: the settings for NCCL, and the watch over its calls;
//! - `member.rs`: this process as a member: joining, orders of rank 0; `agreement.rs`: agreement of all ranks
//!   on a result;
//! - `exit.rs`: how a rank leaves at once;
//! - `pulse.rs`: rank 0's signs of life, for ranks that wait for its orders;
//! - `report.rs`: what each rank reports of itself and of a step;
//! - `join/`: how rank 0 reaches a daemon that did not start it.
//!
//! A process joins a world only if it is started with `--world` or `--join`, never because a variable was left in a
//! shell. All ranks share one fate. A rank whose call fails leaves at once with [`exit::PEER_LOST`], and
//! its closed sockets notify the others within milliseconds. The process that started the ranks then restarts
//! all of them from the last checkpoint (law L1).
//!
//! Neither c10d's store nor Gloo nor NCCL authenticates its peers: the network between the ranks must be
//! trusted.
//!
//! Not here: the division of a step among ranks (`training/ranks/`), and starting the ranks.

mod agreement;
pub mod environment;
pub mod exit;
mod ffi;
pub mod group;
mod interface;
pub mod join;
pub mod member;
mod nccl;
mod pulse;
mod report;
pub mod store;

pub use environment::{Membership, Rendezvous};
pub use group::{Fabric, PendingCalls, ProcessGroup, Reduce};
pub use member::World;
pub use store::{Store, cannot_join};
