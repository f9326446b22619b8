//! The changes of a profile that reduce its memory, with the memory that each would need.

use demask_api::Shard;
use demask_api::plan::TrainingPlan;
use demask_api::sharding::Ranks;
use demask_api::{BaseDtype, LoraConfig, MomentKind};
use serde::Serialize;

use super::run::{PlannedRun, fits};

/// The numbers of ranks that are proposed.
const WORLDS: [u64; 3] = [2, 4, 8];

/// A change of the profile that needs less memory.
#[derive(Serialize)]
pub(super) struct MemoryChange {
    pub change: String,
    /// The bytes that a rank then needs.
    pub bytes: u64,
    pub fits: Option<bool>,
}

/// Returns every change after which a rank needs less than the plan, which is that of the run. No other adapter is
/// proposed where the run continues one that exists.
pub(super) fn of(run: &PlannedRun<'_>, plan: &TrainingPlan<'_>, has_adapter: bool) -> Vec<MemoryChange> {
    let fresh = LoraConfig::default();
    let lora = plan.lora.unwrap_or(&fresh);
    let quantized = LoraConfig {
        base: BaseDtype::Nf4,
        double_quantization: true,
        ..lora.clone()
    };
    // A quantised base is whole on every rank.
    let undivided = Ranks {
        shard: Shard::State,
        ..plan.ranks
    };
    let adapters = [
        (
            "lora = {}: train an adapter and freeze the weights",
            lora,
            plan.ranks,
        ),
        (
            "lora = { base = \"nf4\", double_quantization = true }: an adapter over weights of 4.13 bits each (QLoRA)",
            &quantized,
            undivided,
        ),
    ];
    let adapters = adapters.into_iter().filter(|_| !has_adapter);
    let mut plans = own(plan);
    plans.extend(adapters.filter_map(|(words, lora, ranks)| {
        let (_, plan) = run.largest(Some(lora), ranks)?;
        Some((words.to_owned(), plan))
    }));
    plans.extend(worlds(run, plan));
    let before = plan.bytes();
    plans
        .into_iter()
        .map(|(change, plan)| MemoryChange {
            change,
            bytes: plan.bytes(),
            fits: fits(plan.bytes(), run.memory(plan.ranks)),
        })
        .filter(|change| change.bytes < before)
        .collect()
}

/// Returns the changes of what is computed and stored, for the same number of ranks.
fn own<'a>(plan: &TrainingPlan<'a>) -> Vec<(String, TrainingPlan<'a>)> {
    let row = TrainingPlan {
        rows: 1,
        threads: 1,
        masked: plan.length.min(plan.masked),
        ..plan.clone()
    };
    let all = TrainingPlan {
        recomputed: true,
        moments: MomentKind::Bf16,
        muon: true,
        ..row.clone()
    };
    let plans = vec![
        (
            "recompute = \"always\": recompute activations in the backward pass, which takes a third more time",
            TrainingPlan {
                recomputed: true,
                ..plan.clone()
            },
        ),
        (
            "optimizer.moments = \"bf16\": store the optimizer moments in two bytes each",
            TrainingPlan {
                moments: MomentKind::Bf16,
                ..plan.clone()
            },
        ),
        (
            "optimizer.muon = true: no second moments for matrices",
            TrainingPlan {
                muon: true,
                ..plan.clone()
            },
        ),
        (
            "optimizer.offload = true: optimizer moments and moving average in host memory, copied to the GPU in every step",
            TrainingPlan {
                offload: true,
                ..plan.clone()
            },
        ),
        (
            "one row at a time (on a GPU the engine reduces its micro-batches to this by itself)",
            row,
        ),
        ("all of the changes above except optimizer.offload", all),
    ];
    plans
        .into_iter()
        .map(|(change, plan)| (change.to_owned(), plan))
        .collect()
}

/// Returns the plans with more ranks, and those with sharded weights. Rows and threads of a rank follow from its world.
fn worlds<'a>(run: &PlannedRun<'a>, plan: &TrainingPlan<'a>) -> Vec<(String, TrainingPlan<'a>)> {
    let more = WORLDS.into_iter().filter(|&count| count > plan.ranks.count);
    let mut worlds: Vec<_> = more
        .map(|count| {
            let words = format!("--ranks {count}: each rank owns a part of the optimizer state");
            (words, Ranks { count, ..plan.ranks })
        })
        .collect();
    let quantized = plan.lora.is_some_and(|lora| lora.frozen_base().is_quantized());
    if !quantized && plan.ranks.shard == Shard::State {
        let as_many = WORLDS.into_iter().filter(|&count| count >= plan.ranks.count);
        worlds.extend(as_many.map(|count| {
            let ranks = Ranks {
                count,
                shard: Shard::Weights,
            };
            (
                format!("--ranks {count} --shard weights: each rank owns a part of the weights too"),
                ranks,
            )
        }));
    }
    let planned = worlds.into_iter().filter_map(|(words, ranks)| {
        let (_, plan) = run.largest(plan.lora, ranks)?;
        Some((words, plan))
    });
    planned.collect()
}
