//! The memory that `demask plan` foresees for a measured step, and the number of layers that fits.

use demask_api::activations::logit_bytes;
use demask_api::plan::{LOGITS_AT_ONCE, TrainingPlan, logits_at_once};
use demask_api::sharding::Ranks;
use demask_api::{BackboneConfig, LoraConfig, MomentKind, Shard, memory};

/// What is computed at one time, and on what.
#[derive(Clone, Copy, Debug)]
pub struct AtOnce {
    /// Bytes of the GPU that computes; `None` if the CPU does.
    pub gpu: Option<u64>,
    /// Bytes of a number of the compute dtype.
    pub number: u64,
    /// Parts of a batch that are computed side by side.
    pub threads: u64,
    /// Rows of all these parts.
    pub rows: u64,
    /// Tokens of a row.
    pub length: u64,
}

/// Returns the plan of a step of all weights by the only rank of a world that shards them. The moments are in bf16:
/// in f32 those of eight billion parameters leave no room on a GPU of 141 GB.
pub fn sharded(config: &BackboneConfig, now: AtOnce) -> TrainingPlan<'_> {
    TrainingPlan {
        moments: MomentKind::Bf16,
        ranks: Ranks {
            count: 1,
            shard: Shard::Weights,
        },
        ..plan(config, now)
    }
}

/// Returns the plan of a step of an adapter.
pub fn adapter<'a>(config: &'a BackboneConfig, lora: &'a LoraConfig, now: AtOnce) -> TrainingPlan<'a> {
    TrainingPlan {
        lora: Some(lora),
        ..plan(config, now)
    }
}

fn plan(config: &BackboneConfig, now: AtOnce) -> TrainingPlan<'_> {
    TrainingPlan {
        config,
        number: now.number,
        lora: None,
        muon: false,
        moments: MomentKind::F32,
        offload: false,
        ranks: Ranks::default(),
        average: false,
        recomputed: true,
        kernels: now.gpu.is_none(),
        threads: now.threads,
        rows: now.rows,
        length: now.length,
        masked: now.rows * now.length,
        logits_at_once: now.gpu.map_or(LOGITS_AT_ONCE, |total| {
            logits_at_once(total, logit_bytes(config, now.number))
        }),
        reference: false,
        put_back: false,
        sampled: 0,
        samplers: 0,
        image_tokenizer: None,
    }
}

/// Returns the largest number of layers whose sharded step fits into `free` bytes, at most those of the configuration;
/// `None` if not even one does.
pub fn layers_that_fit(config: &BackboneConfig, free: u64, now: AtOnce) -> Option<usize> {
    let fits = |&layers: &usize| {
        let config = BackboneConfig {
            n_layers: layers,
            ..config.clone()
        };
        sharded(&config, now).bytes() <= memory::usable(free)
    };
    (1..=config.n_layers).rev().find(fits)
}
