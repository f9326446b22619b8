//! `demask plan`: the memory that a run of a profile will need, by part, whether that much is available, and
//! what would reduce it. Nothing is loaded and no engine is started. The numbers are computed from shapes by
//! `demask_api::plan`, which the engine also uses to size its micro-batches.
//!
//! `stage.rs` computes what a stage needs, `run.rs` finds the stage that needs the most, and `changes.rs` what would
//! need less.

mod changes;
mod run;
mod stage;

use std::process::ExitCode;

use demask_actors::profile::Profile;
use demask_api::Shard;
use demask_api::plan::MemoryPart;
use demask_api::sharding::Ranks;
use serde::Serialize;

use super::doctor::shape;
use super::experiment::request::{named, usage};
use crate::args::{PlanArgs, Sharding};
use crate::exit::FAILED;
use crate::model::adapter::{self, TrainedAdapter};
use crate::terminal::print;
use changes::MemoryChange;
use run::{PlannedRun, fits};

#[derive(Serialize)]
struct MemoryReport {
    profile: String,
    /// `cpu` or `gpu`.
    device: &'static str,
    dtype: &'static str,
    /// The number of ranks, and what is sharded among them.
    ranks: u64,
    shard: Shard,
    /// The bytes available to one rank; `None` if that is unknown.
    memory: Option<u64>,
    /// The bytes that a rank needs.
    bytes: u64,
    fits: Option<bool>,
    recomputed: bool,
    trained: u64,
    stage: String,
    rows: u64,
    length: u64,
    parts: Vec<MemoryPart>,
    /// The parts that a rank keeps in host memory when it computes on a GPU.
    host_parts: Vec<MemoryPart>,
    changes: Vec<MemoryChange>,
}

/// Computes the plan and prints it. The exit code is 1 if it does not fit.
///
/// # Errors
/// An error if the profile is wrong or trains nothing, if a checkpoint does not exist, or if the ranks are
/// impossible.
pub fn plan(options: &PlanArgs) -> anyhow::Result<ExitCode> {
    let asked = &options.profile;
    let mut set = asked.set.clone();
    set.extend(options.ranks.map(|ranks| format!("engine.ranks={ranks}")));
    let (text, origin) = named(&asked.name, &set)?;
    let profile = Profile::parse(&text, &origin).map_err(usage)?;
    let config = shape(&profile, asked.from_scratch).map_err(|why| anyhow::anyhow!(why))?;
    let adapter = adapter::trained(&profile, asked.from_scratch)?;
    let ranks = ranks(&profile, adapter.as_ref(), options).map_err(usage)?;
    if profile.engine.shard == Shard::Weights && options.shard.is_none() && ranks.shard == Shard::State {
        print::note(
            "engine.shard is weights, but quantised weights below an adapter are whole on every rank, so this plan \
             divides only the optimizer state",
        );
    }
    let run = PlannedRun {
        profile: &profile,
        config: &config,
        device_memory: options.device_memory,
    };
    let Some(report) = report(&run, adapter.as_ref(), ranks) else {
        return Err(usage(format!(
            "{origin}: none of its stages trains the model, so there is nothing to plan"
        ))
        .into());
    };
    if options.output.json {
        print::json(&report)?;
    } else {
        tell(&report)?;
    }
    Ok(match report.fits {
        Some(false) => ExitCode::from(FAILED),
        _ => ExitCode::SUCCESS,
    })
}

/// Returns the ranks that the flags ask for, or else the profile's.
fn ranks(profile: &Profile, adapter: Option<&TrainedAdapter>, options: &PlanArgs) -> Result<Ranks, String> {
    let count = profile.engine.ranks.unwrap_or(1) as u64;
    let quantized = adapter.is_some_and(|adapter| adapter.config.frozen_base().is_quantized());
    let shard = match options.shard {
        Some(Sharding::Weights) => Shard::Weights,
        Some(Sharding::State) => Shard::State,
        // Quantised weights below an adapter are complete on every rank.
        None if quantized => Shard::State,
        None => profile.engine.shard,
    };
    if shard == Shard::Weights && quantized {
        return Err("--shard weights: quantised weights below an adapter cannot be divided; use --shard state, or lora.base = \"auto\"".into());
    }
    // A process that is no rank has all weights.
    let shard = match profile.engine.ranks {
        Some(_) => shard,
        None => Shard::State,
    };
    Ok(Ranks { count, shard })
}

/// Reports the stage that needs the most memory; `None` if no stage trains the model.
fn report(run: &PlannedRun<'_>, adapter: Option<&TrainedAdapter>, ranks: Ranks) -> Option<MemoryReport> {
    let memory = run.memory(ranks);
    let has_adapter = adapter.is_some_and(|adapter| adapter.exists);
    let (stage, plan) = run.largest(adapter.map(|adapter| &adapter.config), ranks)?;
    let bytes = plan.bytes();
    Some(MemoryReport {
        profile: run.profile.name.clone(),
        device: if run.device_memory.is_some() { "gpu" } else { "cpu" },
        dtype: if plan.number == 4 { "f32" } else { "bf16" },
        ranks: ranks.count,
        shard: ranks.shard,
        memory,
        bytes,
        fits: fits(bytes, memory),
        recomputed: plan.recomputed || ranks.has_divided_weights(),
        trained: plan.trained(),
        stage: stage.name.clone(),
        rows: plan.rows,
        length: plan.length,
        parts: plan.parts(),
        host_parts: plan.host_parts(),
        changes: changes::of(run, &plan, has_adapter),
    })
}

fn shown(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        return format!("{:.1} MB", bytes as f64 / 1e6);
    }
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn tell(report: &MemoryReport) -> anyhow::Result<()> {
    let row = |part: &MemoryPart, place: &str| vec![format!("{}{place}", part.part), shown(part.bytes)];
    let rows = report.parts.iter().map(|part| row(part, ""));
    let host = report.host_parts.iter().map(|part| row(part, " (host memory)"));
    print::table(&["part", "memory"], &rows.chain(host).collect::<Vec<_>>())?;
    let (needed, there) = (shown(report.bytes), report.memory.map(shown));
    let verdict = match (report.fits, there) {
        (Some(true), Some(there)) => format!("of {there} available: it fits"),
        (_, Some(there)) => format!("of {there} available: it does not fit"),
        _ => "are needed; the free memory is unknown".to_owned(),
    };
    let a_rank = match (report.ranks, report.shard) {
        (1, _) => String::new(),
        (ranks, Shard::State) => format!(" per rank, for {ranks} ranks that share the optimizer state,"),
        (ranks, Shard::Weights) => {
            format!(" per rank, for {ranks} ranks that share weights and optimizer state,")
        }
    };
    let recomputed = if report.recomputed {
        ", activations recomputed"
    } else {
        ""
    };
    let mut text = format!(
        "{needed}{a_rank} {verdict} ({}, {}, {} trained parameters; stage {}: {} rows of {} tokens at a time{recomputed})\n",
        report.device, report.dtype, report.trained, report.stage, report.rows, report.length
    );
    if report.fits != Some(true) {
        for change in &report.changes {
            let fits = if change.fits == Some(true) { ", fits" } else { "" };
            text += &format!("{}{fits} with {}\n", shown(change.bytes), change.change);
        }
    }
    print::say(text.trim_end_matches('\n'));
    Ok(())
}
