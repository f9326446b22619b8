//! Training steps of the whole published 8B shape:
//!
//! - `memory.rs`: what `demask plan` foresees, and the number of layers that fits;
//! - `step.rs`: all weights, as the only rank of a world that shards them: gathered and recomputed block by block;
//! - `qlora.rs`: an adapter over a quantised base.

mod memory;
pub mod qlora;
pub mod step;

use demask_api::plan::TrainingPlan;

use crate::clock::Memory;
use crate::figure::Teller;

/// Prints the memory that was taken beside the planned memory, in GB.
fn tell_memory(teller: &Teller, what: &str, taken: Option<&Memory>, plan: &TrainingPlan<'_>) {
    let mut parts = plan.parts();
    parts.sort_by_key(|part| std::cmp::Reverse(part.bytes));
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let largest: Vec<String> = parts
        .iter()
        .take(4)
        .map(|part| format!("{} {:.1}", part.part, gigabytes(part.bytes)))
        .collect();
    let planned = gigabytes(plan.bytes());
    teller.found(
        &format!("{what}: memory planned"),
        planned,
        "GB",
        &largest.join(", "),
    );
    let Some(memory) = taken else {
        return teller.skipped(&format!("{what}: memory taken"), "it is not known here");
    };
    teller.found(
        &format!("{what}: memory taken at most"),
        memory.taken,
        "GB",
        "of tensors",
    );
    if let Some(reserved) = memory.reserved {
        teller.found(&format!("{what}: memory reserved"), reserved, "GB", "by libtorch");
    }
    teller.found(
        &format!("{what}: taken / planned"),
        memory.taken / planned,
        "times",
        "",
    );
}
