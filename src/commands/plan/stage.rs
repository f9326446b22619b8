//! The memory plan of one stage, from the stage's batch and the profile's lengths.

use demask_actors::profile::{Profile, Stage, StageKind};
use demask_api::activations::{FORWARD_TOKENS, logit_bytes, policy_tokens};
use demask_api::plan::{LEAST_ROWS, LOGITS_AT_ONCE, TrainingPlan, logits_at_once};
use demask_api::sharding::Ranks;
use demask_api::{BackboneConfig, Recompute, memory};

use crate::commands::doctor::number_bytes;

/// The largest number of rows that are sampled at one time.
const SAMPLED_ROWS: u64 = 64;
/// The number of tokens of a sequence besides prompt, answer and codes: the marks around them.
const AROUND: usize = 8;

/// Returns the plan of a stage on a GPU of so many bytes, or on the CPU; `None` if the stage does not train the model.
pub(super) fn plan<'a>(
    profile: &'a Profile,
    config: &'a BackboneConfig,
    stage: &Stage,
    (device_memory, ranks): (Option<u64>, Ranks),
) -> Option<TrainingPlan<'a>> {
    let gpu = device_memory.is_some();
    let aligns = stage.kind == StageKind::Align;
    if !aligns && !matches!(stage.kind, StageKind::Pretrain | StageKind::Finetune) {
        return None;
    }
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let all = || {
        profile
            .engine
            .threads
            .map_or_else(cores, |threads| threads as u64)
    };
    let threads = if gpu || ranks.has_divided_weights() {
        1
    } else if profile.engine.threads.is_none() {
        (all() / ranks.count).max(1)
    } else {
        all()
    };
    let length = longest(profile).min(config.max_sequence_length) as u64;
    let rows = (stage.batch * if aligns { stage.group } else { 1 }) as u64;
    let most = match (aligns, gpu) {
        (true, false) => policy_tokens(memory::backbone_numbers(config)?).min(FORWARD_TOKENS),
        _ => FORWARD_TOKENS,
    };
    // The only rank of a world divides its batch into units, as one of several does.
    let is_in_world = ranks.count > 1 || profile.engine.ranks.is_some();
    let (rows, threads) = at_once(rows, threads, is_in_world.then_some(ranks.count));
    let rows = rows.min((most / length.max(1)).max(1) * threads);
    let samples = profile.stages.iter().any(|stage| {
        matches!(
            stage.kind,
            StageKind::Align | StageKind::Evaluate | StageKind::Reason
        )
    });
    let number = number_bytes(profile, gpu);
    Some(TrainingPlan {
        config,
        number,
        lora: None,
        muon: profile.optimizer.muon,
        moments: profile.optimizer.moments,
        offload: profile.optimizer.offload,
        ranks,
        average: profile.ema > 0.0,
        recomputed: profile.recompute == Recompute::Always,
        kernels: !gpu,
        threads: threads.min(rows),
        rows,
        length,
        masked: rows * length,
        logits_at_once: device_memory.map_or(LOGITS_AT_ONCE, |total| {
            logits_at_once(total, logit_bytes(config, number))
        }),
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

/// Returns how many rows of a batch a process computes at one time, and on how many of its threads. Each thread computes
/// a part of the batch. A process without ranks divides its batch among its threads; a rank, one of `ranks`, divides it
/// into units.
fn at_once(rows: u64, threads: u64, ranks: Option<u64>) -> (u64, u64) {
    let units = (rows / LEAST_ROWS).max(1);
    let Some(ranks) = ranks else {
        return (rows, threads.min(units));
    };
    let threads = threads.min(units.div_ceil(ranks));
    (rows.min(rows.div_ceil(units) * threads), threads)
}

/// Returns the number of tokens of the longest sequence that the profile's budgets allow.
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
