//! Processes that train one model together: a rank each, on libtorch's own c10d (Gloo on CPUs, NCCL on GPUs).
//!
//! - `environment.rs`: what the daemon, torchrun or Slurm told this process about its place;
//! - `store.rs`: where ranks find one another; `group.rs`: what they do together; `ffi.rs`: both across the language border;
//! - `interface.rs`: the network interface that Gloo is to use;
//! - `member.rs`: this process as a member: orders of rank 0, one verdict of all, the end;
//! - `report.rs`: what each rank reports of itself and of a step.
//!
//! A process joins a world only when it is told to (`--world`), never because a variable was left in a shell. One world has one
//! fate: whoever sees a call fail leaves at once with [`member::PEER_LOST`], whose closed sockets tell the others within
//! milliseconds, and whoever started them starts all again from the last checkpoint (law L1).
//!
//! Neither c10d's store nor Gloo nor NCCL asks who speaks: the network between the ranks is to be trusted.
//!
//! Not here: how a step is divided among ranks (`training/ranks/`), and who starts them.

pub mod environment;
mod ffi;
pub mod group;
mod interface;
pub mod member;
mod report;
pub mod store;

pub use environment::{Membership, Rendezvous};
pub use group::{Fabric, PendingCalls, ProcessGroup, Reduce};
pub use member::World;
pub use store::Store;
