//! The groups of a UniGRPO step: `rollout_groups.rs` draws, records and converts them, `ahead.rs` has the groups of the
//! next steps drawn while a step is trained.
//!
//! Not here: the weights that sampling engines load to draw them (`publication.rs`).

pub(super) mod ahead;
pub(super) mod rollout_groups;
