//! `demask plan`: what a run of a profile will take of memory, part by part, whether that is there, and what would make it less. Nothing is
//! loaded and no engine is asked: it is arithmetic over shapes, which the engine sizes its micro-batches by (`demask_api::plan`).

use std::io::Write as _;
use std::process::ExitCode;

use demask_actors::home::Home;
use demask_actors::profile::{Profile, Stage, StageKind};
use demask_api::activations::{FORWARD_TOKENS, policy_tokens};
use demask_api::memory;
use demask_api::plan::{MemoryPart, TrainingPlan};
use demask_api::{BackboneConfig, LoraConfig, MomentKind, Recompute};
use serde::Serialize;

use super::doctor::shape;
use super::experiment::request::{assigned, usage};
use crate::args::PlanArgs;
use crate::exit::FAILED;
use crate::terminal::print;

/// Of the memory that is there, what the engine leaves alone: fragments, and what libraries take for themselves.
const SPARE: f64 = 0.08;
/// Rows that are sampled at one time, at most.
const SAMPLED_ROWS: u64 = 64;
/// Tokens of a sequence beside prompt, answer and codes: what marks them.
const AROUND: usize = 8;

#[derive(Serialize)]
struct MemoryReport {
    profile: String,
    /// `cpu` or `gpu`.
    device: &'static str,
    dtype: &'static str,
    /// Bytes that are there; none where that is not known.
    memory: Option<u64>,
    bytes: u64,
    fits: Option<bool>,
    recomputed: bool,
    trained: u64,
    stage: String,
    rows: u64,
    length: u64,
    parts: Vec<MemoryPart>,
    changes: Vec<MemoryChange>,
}

/// A change of the profile that takes less.
#[derive(Serialize)]
struct MemoryChange {
    change: &'static str,
    bytes: u64,
    fits: Option<bool>,
}

/// Works it out, prints it; exits 1 where it does not fit.
///
/// # Errors
/// A profile that is wrong or trains nothing; a checkpoint that is not there.
pub fn plan(home: &Home, options: &PlanArgs) -> anyhow::Result<ExitCode> {
    let (text, origin) = Profile::find(&options.name).map_err(usage)?;
    let text = assigned(&text, &origin, &options.set)?;
    let profile = Profile::parse(&text, &origin).map_err(usage)?;
    let config = shape(home, &profile, options.from_scratch).map_err(|why| anyhow::anyhow!(why))?;
    let Some(report) = report(&profile, &config, options.device_memory) else {
        return Err(usage(format!("{origin}: no stage of it trains the model")).into());
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

/// What the stage that takes the most takes; none where no stage trains the model.
fn report(profile: &Profile, config: &BackboneConfig, device_memory: Option<u64>) -> Option<MemoryReport> {
    let gpu = device_memory.is_some();
    let memory = device_memory.or_else(memory::free);
    let fits = |bytes: u64| memory.map(|memory| bytes as f64 <= memory as f64 * (1.0 - SPARE));
    let fresh = LoraConfig::default();
    let planned = profile.stages.iter().filter_map(|stage| {
        let mut plan = of_stage(profile, config, stage, gpu)?;
        // An adapter that goes on may be of another rank than a fresh one.
        plan.lora = profile.lora.as_ref().or(profile.adapter.as_ref().map(|_| &fresh));
        if profile.recompute == Recompute::Auto && fits(plan.bytes()) == Some(false) {
            plan.recomputed = true;
        }
        Some((stage, plan))
    });
    let (stage, plan) = planned.max_by_key(|(_, plan)| plan.bytes())?;
    let change = |change, plan: TrainingPlan<'_>| MemoryChange {
        change,
        bytes: plan.bytes(),
        fits: fits(plan.bytes()),
    };
    let again = TrainingPlan {
        recomputed: true,
        ..plan.clone()
    };
    let half = TrainingPlan {
        moments: MomentKind::Bf16,
        ..plan.clone()
    };
    let muon = TrainingPlan {
        muon: true,
        ..plan.clone()
    };
    let row = TrainingPlan {
        rows: 1,
        threads: 1,
        masked: plan.length.min(plan.masked),
        ..plan.clone()
    };
    let adapter = TrainingPlan {
        lora: plan.lora.or(Some(&fresh)),
        ..plan.clone()
    };
    let all = TrainingPlan {
        recomputed: true,
        moments: MomentKind::Bf16,
        muon: true,
        ..row.clone()
    };
    let changes = [
        change(
            "recompute = \"always\": activations are computed again, a third more time",
            again,
        ),
        change("optimizer.moments = \"bf16\": moments in two bytes", half),
        change("optimizer.muon = true: no second moment of matrices", muon),
        change(
            "a batch of one row at a time (a GPU's engine makes micro-batches as small by itself)",
            row,
        ),
        change("all of these", all),
        change("lora = {}: an adapter is trained, the weights stay", adapter),
    ];
    let bytes = plan.bytes();
    Some(MemoryReport {
        profile: profile.name.clone(),
        device: if gpu { "gpu" } else { "cpu" },
        dtype: if plan.number == 4 { "f32" } else { "bf16" },
        memory,
        bytes,
        fits: fits(bytes),
        recomputed: plan.recomputed,
        trained: plan.trained(),
        stage: stage.name.clone(),
        rows: plan.rows,
        length: plan.length,
        parts: plan.parts(),
        changes: changes
            .into_iter()
            .filter(|change| change.bytes < bytes)
            .collect(),
    })
}

/// The plan of a stage that trains the model.
fn of_stage<'a>(
    profile: &'a Profile,
    config: &'a BackboneConfig,
    stage: &Stage,
    gpu: bool,
) -> Option<TrainingPlan<'a>> {
    let aligns = stage.kind == StageKind::Align;
    if !aligns && !matches!(stage.kind, StageKind::Pretrain | StageKind::Finetune) {
        return None;
    }
    let half = match profile.engine.dtype.as_str() {
        "bf16" => true,
        "f32" => false,
        _ => gpu,
    };
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if gpu {
        1
    } else {
        profile.engine.threads.unwrap_or_else(cores) as u64
    };
    let length = longest(profile).min(config.max_sequence_length) as u64;
    let rows = (stage.batch * if aligns { stage.group } else { 1 }) as u64;
    let most = match (aligns, gpu) {
        (true, false) => policy_tokens(memory::backbone_numbers(config)?).min(FORWARD_TOKENS),
        _ => FORWARD_TOKENS,
    };
    let rows = rows.min((most / length.max(1)).max(1) * threads);
    let samples = profile.stages.iter().any(|stage| {
        matches!(
            stage.kind,
            StageKind::Align | StageKind::Evaluate | StageKind::Reason
        )
    });
    Some(TrainingPlan {
        config,
        number: if half { 2 } else { 4 },
        lora: None,
        muon: profile.optimizer.muon,
        moments: profile.optimizer.moments,
        average: profile.ema > 0.0,
        recomputed: profile.recompute == Recompute::Always,
        kernels: !gpu,
        threads: threads.min(rows),
        rows,
        length,
        masked: rows * length,
        reference: aligns && stage.objective.kl != 0.0,
        put_back: aligns && stage.objective.inner_steps > 1,
        sampled: if samples { SAMPLED_ROWS * length } else { 0 },
        samplers: if aligns {
            profile.rollouts.samplers as u64
        } else {
            0
        },
        image_tokenizer: profile.image_tokenizer.as_ref(),
    })
}

/// Tokens of the longest sequence that the profile's budgets allow.
fn longest(profile: &Profile) -> usize {
    let budgets = &profile.budgets;
    [
        budgets.text_to_image,
        budgets.text,
        budgets.understand,
        budgets.think_then_draw,
    ]
    .map(|budget| budget.prompt + budget.answer.max(budget.direct_answer) + budget.codes + AROUND)
    .into_iter()
    .max()
    .unwrap_or(0)
}

fn shown(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        return format!("{:.1} MB", bytes as f64 / 1e6);
    }
    format!("{:.1} GB", bytes as f64 / 1e9)
}

fn tell(report: &MemoryReport) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = report
        .parts
        .iter()
        .map(|part| vec![part.part.to_owned(), shown(part.bytes)])
        .collect();
    print::table(&["part", "memory"], &rows)?;
    let (needed, there) = (shown(report.bytes), report.memory.map(shown));
    let verdict = match (report.fits, there) {
        (Some(true), Some(there)) => format!("of {there}: it fits"),
        (_, Some(there)) => format!("of {there}: it does not fit"),
        _ => "; how much is free is not known".to_owned(),
    };
    let recomputed = if report.recomputed {
        ", activations computed again"
    } else {
        ""
    };
    let mut text = format!(
        "{needed} {verdict} ({}, {}, {} numbers trained; stage {}: {} rows of {} tokens at one time{recomputed})\n",
        report.device, report.dtype, report.trained, report.stage, report.rows, report.length
    );
    if report.fits != Some(true) {
        for change in &report.changes {
            let fits = if change.fits == Some(true) { ", fits" } else { "" };
            text += &format!("{}{fits} with {}\n", shown(change.bytes), change.change);
        }
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
