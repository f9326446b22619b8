//! What training takes of memory, part by part, worked out from shapes alone: no weights are read, no device is asked. The engine's room is
//! arithmetic over the same [`Activations`].

use serde::Serialize;

use crate::network::activations::{Activations, Trained, logit_bytes, place_bytes};
use crate::network::config::{BackboneConfig, ImageTokenizerConfig};
use crate::network::loading::LoraConfig;
use crate::network::memory::{backbone_bytes, backbone_numbers, block_numbers, image_tokenizer_bytes};
use crate::training::step_settings::MomentKind;

/// Masked positions whose logits exist at one time, at most, of one part of a batch.
pub const LOGITS_AT_ONCE: u64 = 4096;
/// Bytes of an f32.
const F32: u64 = 4;
/// Numbers that take Adam's update at one time where it is composed of operators.
pub const UPDATED_AT_ONCE: u64 = 1 << 22;
/// Bytes that each takes on the way: two moments and the update in f32, the dither in eight bytes and its bits.
const UPDATED_BYTES: u64 = 4 * 3 + 8 + 4;
/// Numbers of matrices whose Muon's directions are made together, at most.
pub const MATRICES_AT_ONCE: u64 = 1 << 25;
/// Bytes that each takes on the way: momentum, stack and direction in f32, three in bf16.
const MATRIX_BYTES: u64 = 4 * 4 + 2 * 3;

/// Bytes that an update of so many numbers takes on its way where it is composed of operators.
#[must_use]
pub fn update_bytes(numbers: u64, muon: bool) -> u64 {
    let matrices = if muon {
        MATRIX_BYTES * MATRICES_AT_ONCE.min(numbers)
    } else {
        0
    };
    (UPDATED_BYTES * UPDATED_AT_ONCE.min(numbers)).max(matrices)
}

/// A model and how it is trained.
#[derive(Clone, Debug)]
pub struct TrainingPlan<'a> {
    /// Its shape.
    pub config: &'a BackboneConfig,
    /// Bytes of a number that it computes in: 4 or 2.
    pub number: u64,
    /// The adapter that is trained in place of the weights.
    pub lora: Option<&'a LoraConfig>,
    /// Whether matrices take Muon's update.
    pub muon: bool,
    /// What moments are kept in.
    pub moments: MomentKind,
    /// Whether a moving average is kept.
    pub average: bool,
    /// Whether blocks are computed again in the backward pass.
    pub recomputed: bool,
    /// Whether a CPU's kernels compute it.
    pub kernels: bool,
    /// Parts of a batch that are done at the same time, each with gradients of its own.
    pub threads: u64,
    /// Rows of a forward pass, of all parts together.
    pub rows: u64,
    /// Tokens of each.
    pub length: u64,
    /// Masked positions of them all, at most.
    pub masked: u64,
    /// Whether a frozen copy of the policy is kept to be compared with.
    pub reference: bool,
    /// Whether a step of several inner steps keeps what it may have to put back.
    pub put_back: bool,
    /// Places of the sampling cache; 0 where nothing is sampled.
    pub sampled: u64,
    /// Engines that only sample, beside the one that trains.
    pub samplers: u64,
    /// The image tokenizer beside it.
    pub image_tokenizer: Option<&'a ImageTokenizerConfig>,
}

/// One thing that memory is taken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// What it is.
    pub part: &'static str,
    /// Bytes.
    pub bytes: u64,
}

impl TrainingPlan<'_> {
    /// Numbers that are trained.
    #[must_use]
    pub fn trained(&self) -> u64 {
        match self.lora {
            Some(lora) => adapter_numbers(self.config, lora),
            None => backbone_numbers(self.config).unwrap_or(u64::MAX),
        }
    }

    /// Numbers of matrices that have no second moment.
    fn without_second(&self) -> u64 {
        match self.lora {
            // A and B of every layer of the blocks are matrices themselves.
            _ if !self.muon => 0,
            Some(_) => self.trained(),
            None => block_numbers(self.config).unwrap_or(0) * self.config.n_layers as u64,
        }
    }

    fn moment_bytes(&self) -> u64 {
        let width = match self.moments {
            MomentKind::F32 => 4,
            MomentKind::Bf16 => 2,
        };
        let trained = self.trained();
        width * (trained + trained.saturating_sub(self.without_second()))
    }

    fn activation_bytes(&self) -> u64 {
        let trained = if self.lora.is_some() {
            Trained::Adapter
        } else {
            Trained::Whole
        };
        let activations = Activations {
            config: self.config,
            number: self.number,
            trained,
            recomputed: self.recomputed,
            kernels: self.kernels,
        };
        self.rows * (self.length * activations.token_bytes() + activations.probability_bytes(self.length))
    }

    /// What an update makes on its way; our own kernel makes nothing.
    fn update_bytes(&self) -> u64 {
        if self.kernels && !self.muon && self.moments == MomentKind::F32 {
            return 0;
        }
        update_bytes(self.trained(), self.muon)
    }

    /// Every part, those that take nothing left out.
    #[must_use]
    pub fn parts(&self) -> Vec<MemoryPart> {
        let (trained, number) = (self.trained(), self.number);
        let half = number < F32;
        let base = backbone_bytes(self.config, number).unwrap_or(u64::MAX);
        let weights = match self.lora {
            // The f32 weights are their own master.
            None if !half => base.saturating_sub(F32 * trained),
            None => base,
            Some(_) => base + if half { number * trained } else { 0 },
        };
        let logits = self.masked.min(LOGITS_AT_ONCE * self.threads) * logit_bytes(self.config, number);
        // The update begins when activations and logits are gone.
        let forward = self.activation_bytes();
        let update = self.update_bytes().saturating_sub(forward + logits);
        let average = if self.average { F32 * trained } else { 0 };
        let put_back = if self.put_back {
            F32 * trained + self.moment_bytes() + average
        } else {
            0
        };
        // An adapter's policies share the frozen weights.
        let reference = if self.lora.is_some() {
            number * trained
        } else {
            base
        };
        let packed = if self.kernels && !half && self.sampled > 0 {
            base
        } else {
            0
        };
        // Master and accumulator of its gradient.
        let tokenizer = self
            .image_tokenizer
            .map_or(0, |config| image_tokenizer_bytes(config).unwrap_or(u64::MAX));
        let cache = self.sampled * place_bytes(self.config, number);
        // Each has weights, packed ones and a cache of its own, on the same machine.
        let sampler = base + packed + 2 * cache + tokenizer;
        let all = [
            ("weights", weights),
            ("master", F32 * trained),
            ("moments", self.moment_bytes()),
            ("gradients", F32 * trained + number * trained * self.threads),
            ("average", average),
            ("activations", forward),
            ("logits", logits),
            ("update", update),
            ("put back", put_back),
            ("reference", if self.reference { reference } else { 0 }),
            ("sampling weights", packed),
            ("sampling cache", 2 * cache),
            ("sampling engines", self.samplers * sampler),
            ("image tokenizer", 2 * tokenizer),
        ];
        let parts = all.into_iter().map(|(part, bytes)| MemoryPart { part, bytes });
        parts.filter(|part| part.bytes > 0).collect()
    }

    /// Bytes of all parts.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts()
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// Numbers of an adapter's A and B.
fn adapter_numbers(config: &BackboneConfig, lora: &LoraConfig) -> u64 {
    let (model, hidden) = (config.d_model as u64, config.hidden() as u64);
    let kv = (config.kv_heads() * config.head_dim()) as u64;
    let sides = |module: &str| match module {
        "q_proj" | "attn_out" => 2 * model,
        "k_proj" | "v_proj" => model + kv,
        "ff_proj" | "up_proj" | "ff_out" => model + hidden,
        _ => 0,
    };
    let all: u64 = lora.target_modules.iter().map(|module| sides(module)).sum();
    all * lora.rank as u64 * config.n_layers as u64
}
