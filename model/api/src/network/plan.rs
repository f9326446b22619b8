//! What training takes of memory, part by part, worked out from shapes alone: no weights are read, no device is asked.
//! The engine's room is arithmetic over the same [`Activations`].

use serde::Serialize;

use crate::network::activations::{Activations, Trained, logit_bytes, place_bytes};
use crate::network::config::{BackboneConfig, ImageTokenizerConfig};
use crate::network::frozen_base::FrozenBase;
use crate::network::loading::{LINEAR_LAYERS, LoraConfig};
use crate::network::memory::{
    backbone_bytes, backbone_numbers, block_numbers, image_tokenizer_bytes, layer_shapes,
    tied_gradient_numbers,
};
use crate::network::sharding::{GatheredGroups, Ranks};
use crate::training::step_settings::MomentKind;

/// Masked positions whose logits exist at one time, at most, of one part of a batch.
pub const LOGITS_AT_ONCE: u64 = 4096;
/// Fewest rows of a part of a batch, which one thread computes; over ranks, of a unit.
pub const LEAST_ROWS: u64 = 4;
/// Bytes of an f32.
const F32: u64 = 4;
/// The most bytes of weights that a sampler on a CPU keeps a packed copy of, unless a person asks for it.
pub const MOST_PACKED: u64 = 1 << 30;
/// Numbers that take Adam's update at one time where it is composed of operators.
pub const UPDATED_AT_ONCE: u64 = 1 << 22;
/// Bytes that each takes on the way: two moments and the update in f32, the dither in eight bytes and its bits.
const UPDATED_BYTES: u64 = 4 * 3 + 8 + 4;
/// Numbers of matrices whose Muon's directions are made together, at most.
pub const MATRICES_AT_ONCE: u64 = 1 << 25;
/// Bytes that each takes on the way: momentum, stack and direction in f32, three in bf16.
const MATRIX_BYTES: u64 = 4 * 4 + 2 * 3;

/// Bytes that each takes beside them where it crosses between ranks: momentum and direction in f32, as they are sent
/// and as they come.
const CROSSING_MATRIX_BYTES: u64 = 4 * 4;

/// Bytes that an update takes on its way where it is composed of operators: of so many numbers that a rank owns, of so
/// many in all. Of Muon's matrices, a rank computes whole ones.
#[must_use]
pub fn update_bytes((own, all): (u64, u64), muon: bool) -> u64 {
    let crossing = if own < all { CROSSING_MATRIX_BYTES } else { 0 };
    let matrices = if muon {
        (MATRIX_BYTES + crossing) * MATRICES_AT_ONCE.min(all)
    } else {
        0
    };
    (UPDATED_BYTES * UPDATED_AT_ONCE.min(own)).max(matrices)
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
    /// Whether moments and average stay in host memory, where weights are on a GPU.
    pub offload: bool,
    /// How many ranks there are: the plan is of one of them, the first.
    pub ranks: Ranks,
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
            recomputed: self.recomputed || self.divides_base(),
            kernels: self.kernels,
        };
        self.rows * (self.length * activations.token_bytes() + activations.probability_bytes(self.length))
    }

    /// Whether the network's weights are divided over ranks: quantised ones are not.
    fn divides_base(&self) -> bool {
        self.ranks.divides_weights() && !self.base().0.is_quantized()
    }

    /// Numbers that this rank owns the state of.
    fn owned(&self) -> u64 {
        self.ranks.part(self.trained())
    }

    /// What an update makes on its way; our own kernel makes nothing.
    fn update_bytes(&self) -> u64 {
        if self.kernels && !self.muon && self.moments == MomentKind::F32 {
            return 0;
        }
        update_bytes((self.owned(), self.trained()), self.muon)
    }

    /// Whether moments and average are elsewhere than the weights.
    fn is_offloaded(&self) -> bool {
        self.offload && !self.kernels
    }

    fn average_bytes(&self) -> u64 {
        if self.average { F32 * self.owned() } else { 0 }
    }

    /// Moments and average, twice where a step keeps what it may have to put back.
    fn state_bytes(&self) -> [(&'static str, u64); 3] {
        let (moments, average) = (self.ranks.part(self.moment_bytes()), self.average_bytes());
        let kept = if self.put_back { moments + average } else { 0 };
        [("moments", moments), ("average", average), ("put back", kept)]
    }

    /// What is kept in host memory beside a GPU.
    #[must_use]
    pub fn host_parts(&self) -> Vec<MemoryPart> {
        if !self.is_offloaded() {
            return Vec::new();
        }
        let parts = self.state_bytes().into_iter();
        let parts = parts.map(|(part, bytes)| MemoryPart { part, bytes });
        parts.filter(|part| part.bytes > 0).collect()
    }

    /// What a sampler's passes keep in another order: weights that are quantised are not among them. In bf16 only
    /// processors with instructions for it keep a copy; it is counted for all.
    fn packed_bytes(&self, form: FrozenBase) -> u64 {
        let all = backbone_bytes(self.config, self.number).unwrap_or(u64::MAX);
        let quantized = match form.is_quantized() {
            true => block_numbers(self.config).unwrap_or(0) * self.config.n_layers as u64,
            false => 0,
        };
        let packed = all.saturating_sub(self.number * quantized);
        if packed > MOST_PACKED { 0 } else { packed }
    }

    /// The base as it is kept: bytes in the dtype that is computed in, or fewer bits.
    fn base(&self) -> (FrozenBase, u64) {
        let form = self
            .lora
            .map_or_else(FrozenBase::default, LoraConfig::frozen_base);
        (
            form,
            form.backbone_bytes(self.config, self.number).unwrap_or(u64::MAX),
        )
    }

    /// Weights as they are computed with, master, gradients and what crosses between ranks.
    fn weight_parts(&self) -> [(&'static str, u64); 5] {
        let (trained, number, half) = (self.trained(), self.number, self.number < F32);
        let (form, base) = self.base();
        // Only a trained head has a gradient.
        let second = match self.lora {
            None => tied_gradient_numbers(self.config),
            Some(_) => 0,
        };
        if self.lora.is_none() && self.ranks.divides_weights() {
            let groups = GatheredGroups::of(self.config);
            return [
                ("weights", number.saturating_mul(groups.gathered())),
                ("dequantised weight", 0),
                ("master", F32 * self.owned()),
                ("gradients", F32 * self.owned() + number * second),
                (
                    "gradients on their way",
                    number.saturating_mul(groups.in_flight()),
                ),
            ];
        }
        // Frozen weights below an adapter are gathered group by group too, from what each rank keeps of them.
        let groups = GatheredGroups::of(self.config).gathered();
        let base = match self.lora {
            Some(_) if self.divides_base() => number.saturating_mul(groups) + self.ranks.part(base),
            _ => base,
        };
        let weights = match self.lora {
            // The f32 weights are their own master.
            None if !half => base.saturating_sub(F32 * trained),
            None => base,
            Some(_) => base + if half { number * trained } else { 0 },
        };
        [
            ("weights", weights),
            ("dequantised weight", form.dequantized_bytes(self.config, number)),
            ("master", F32 * trained),
            (
                "gradients",
                F32 * self.owned() + number * (trained + second) * self.threads,
            ),
            ("gradients on their way", self.ranks.exchanged_bytes(trained)),
        ]
    }

    /// Every part, those that take nothing left out: of the memory that the weights are in.
    #[must_use]
    pub fn parts(&self) -> Vec<MemoryPart> {
        let (trained, number) = (self.trained(), self.number);
        let (form, base) = self.base();
        let logits = self.masked.min(LOGITS_AT_ONCE * self.threads) * logit_bytes(self.config, number);
        // The update begins when activations and logits are gone.
        let forward = self.activation_bytes();
        let update = self.update_bytes().saturating_sub(forward + logits);
        let [moments, average, kept] = self.state_bytes().map(|(_, bytes)| match self.is_offloaded() {
            true => 0,
            false => bytes,
        });
        let master = match self.lora {
            None if self.ranks.divides_weights() => self.owned(),
            // An adapter is whole on every rank.
            _ => trained,
        };
        let put_back = if self.put_back { F32 * master + kept } else { 0 };
        let reference = match self.lora {
            // An adapter's policies share the frozen weights.
            Some(_) => number * trained,
            None if self.ranks.divides_weights() => self.ranks.part(base),
            None => base,
        };
        let packed = match self.sampled {
            0 => 0,
            // Who samples has all weights.
            _ if self.divides_base() => base,
            _ if self.kernels => self.packed_bytes(form),
            _ => 0,
        };
        // Master and accumulator of its gradient.
        let tokenizer = self
            .image_tokenizer
            .map_or(0, |config| image_tokenizer_bytes(config).unwrap_or(u64::MAX));
        let cache = self.sampled * place_bytes(self.config, number);
        // Each has weights, packed ones and a cache of its own, on the same machine.
        let sampler = base + packed + 2 * cache + tokenizer;
        let [weights, dequantised, master, gradients, on_their_way] = self.weight_parts();
        let all = [
            weights,
            dequantised,
            master,
            ("moments", moments),
            gradients,
            on_their_way,
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

/// Numbers of an adapter's A, of as many columns as the layer, and B, of as many rows.
fn adapter_numbers(config: &BackboneConfig, lora: &LoraConfig) -> u64 {
    let is_adapted = |layer: &str| lora.target_modules.iter().any(|target| target == layer);
    let layers = LINEAR_LAYERS.into_iter().zip(layer_shapes(config));
    let all: u64 = layers
        .filter(|(layer, _)| is_adapted(layer))
        .map(|(_, (rows, columns))| rows + columns)
        .sum();
    all * lora.rank as u64 * config.n_layers as u64
}
