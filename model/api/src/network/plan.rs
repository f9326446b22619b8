//! The memory of training, part by part, computed from shapes: the plan reads no weights and queries no device.
//!
//! `demask plan` prints the parts. The engine chooses the size of its micro-batches with the same [`Activations`].

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

/// The most masked positions of one part of a batch whose logits exist at one time.
pub const LOGITS_AT_ONCE: u64 = 4096;
/// The fewest of them on a GPU.
const LEAST_LOGITS_AT_ONCE: u64 = 64;
/// The part of a GPU's memory that they may take at most: one of this many.
const LOGITS_SHARE: u64 = 32;
/// The fewest rows of a part of a batch, which one thread computes; over ranks, the fewest of a unit.
pub const LEAST_ROWS: u64 = 4;
/// The bytes of an f32.
const F32: u64 = 4;
/// The most bytes of weights of which a sampler on a CPU keeps a packed copy by default.
pub const MOST_PACKED: u64 = 1 << 30;
/// The elements that Adam updates at one time, where the update is composed of libtorch's operators.
pub const UPDATED_AT_ONCE: u64 = 1 << 22;
/// The temporary bytes per element of such an update: two moments and the update in f32, and the dither of stochastic
/// rounding in eight bytes with its bits.
const UPDATED_BYTES: u64 = 4 * 3 + 8 + 4;
/// The most elements of matrices whose Muon directions are computed in one batch.
pub const MATRICES_AT_ONCE: u64 = 1 << 25;
/// The temporary bytes per element of such a batch: four f32 copies (momentum, stack and directions) and three in bf16.
const MATRIX_BYTES: u64 = 4 * 4 + 2 * 3;
/// The further bytes per element where matrices cross between ranks: momentum and direction in f32, each in a buffer to
/// send and in one to receive.
const CROSSING_MATRIX_BYTES: u64 = 4 * 4;

/// Returns the masked positions whose logits exist at one time on a GPU of `total` bytes, where those of one position
/// take `logit_bytes` bytes: a power of two of at most [`LOGITS_AT_ONCE`].
#[must_use]
pub fn logits_at_once(total: u64, logit_bytes: u64) -> u64 {
    let most = (total / LOGITS_SHARE / logit_bytes.max(1)).next_power_of_two() / 2;
    most.clamp(LEAST_LOGITS_AT_ONCE, LOGITS_AT_ONCE)
}

/// Returns the temporary bytes of an optimizer update that is composed of libtorch's operators, for a rank that owns
/// the state of `own` elements out of `all`. With Muon, a rank computes whole matrices.
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

/// Names of the parts that are made at more than one place.
const MASTER: &str = "f32 master weights";
const DEQUANTIZED: &str = "dequantised weight";
const EXCHANGE: &str = "gradient exchange buffers";
const MOMENTS: &str = "optimizer moments";
const AVERAGE: &str = "moving average of weights";
const SNAPSHOT: &str = "snapshot of weights and state";

/// A model, and the settings of its training that determine the memory.
#[derive(Clone, Debug)]
pub struct TrainingPlan<'a> {
    /// The configuration of the backbone.
    pub config: &'a BackboneConfig,
    /// The bytes of a number in the compute dtype: 4 or 2.
    pub number: u64,
    /// The adapter, if one is trained in place of the weights.
    pub lora: Option<&'a LoraConfig>,
    /// Whether Muon updates the matrices.
    pub muon: bool,
    /// The storage dtype of the optimizer moments.
    pub moments: MomentKind,
    /// Whether moments and moving average stay in host memory while the weights are on a GPU.
    pub offload: bool,
    /// The ranks of the training. The plan is that of the first rank, whose part is the largest.
    pub ranks: Ranks,
    /// Whether a moving average of the weights is kept.
    pub average: bool,
    /// Whether the backward pass recomputes the activations of the blocks.
    pub recomputed: bool,
    /// Whether our own CPU kernels compute the network.
    pub kernels: bool,
    /// The parts of a batch that are computed at the same time, each with its own gradients.
    pub threads: u64,
    /// The rows of a forward pass, summed over all parts.
    pub rows: u64,
    /// The tokens of each row.
    pub length: u64,
    /// The most masked positions of all rows together.
    pub masked: u64,
    /// The most masked positions of one part whose logits exist at one time: [`LOGITS_AT_ONCE`], or on a GPU what
    /// [`logits_at_once`] returns.
    pub logits_at_once: u64,
    /// Whether a frozen reference policy is kept, for the KL penalty.
    pub reference: bool,
    /// Whether a step keeps a snapshot of weights and optimizer state, to restore them if an inner step fails.
    pub put_back: bool,
    /// The places of the KV cache of sampling; 0 if nothing is sampled.
    pub sampled: u64,
    /// The engines that only sample, besides the one that trains.
    pub samplers: u64,
    /// The image tokenizer, if the model has one.
    pub image_tokenizer: Option<&'a ImageTokenizerConfig>,
}

/// One part of the memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryPart {
    /// Its name, which `demask plan` prints.
    pub part: &'static str,
    /// Its size in bytes.
    pub bytes: u64,
}

impl TrainingPlan<'_> {
    /// Returns the number of trained parameters.
    #[must_use]
    pub fn trained(&self) -> u64 {
        match self.lora {
            Some(lora) => adapter_numbers(self.config, lora),
            None => backbone_numbers(self.config).unwrap_or(u64::MAX),
        }
    }

    /// Returns the number of trained parameters without a second moment: those of the matrices that Muon updates.
    fn numbers_without_second_moment(&self) -> u64 {
        match self.lora {
            _ if !self.muon => 0,
            // The A and B of every adapted layer are matrices themselves.
            Some(_) => self.trained(),
            None => block_numbers(self.config).unwrap_or(0) * self.config.n_layers as u64,
        }
    }

    /// Returns the bytes of all optimizer moments, summed over the ranks.
    fn moment_bytes(&self) -> u64 {
        let width = match self.moments {
            MomentKind::F32 => 4,
            MomentKind::Bf16 => 2,
        };
        let trained = self.trained();
        width * (trained + trained.saturating_sub(self.numbers_without_second_moment()))
    }

    /// Returns the bytes that a forward pass keeps for the backward pass, without the logits.
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
            recomputed: self.recomputed || self.has_divided_base(),
            kernels: self.kernels,
        };
        self.rows * (self.length * activations.token_bytes() + activations.probability_bytes(self.length))
    }

    /// Returns whether the backbone's weights are divided among the ranks. Quantised weights never are.
    fn has_divided_base(&self) -> bool {
        self.ranks.has_divided_weights() && !self.base().0.is_quantized()
    }

    /// Returns the number of parameters whose optimizer state this rank owns.
    fn owned(&self) -> u64 {
        self.ranks.part(self.trained())
    }

    /// Returns the temporary bytes of an optimizer update. Our own kernel needs none.
    fn update_bytes(&self) -> u64 {
        if self.kernels && !self.muon && self.moments == MomentKind::F32 {
            return 0;
        }
        update_bytes((self.owned(), self.trained()), self.muon)
    }

    /// Returns whether moments and moving average are in another memory than the weights.
    fn is_offloaded(&self) -> bool {
        self.offload && !self.kernels
    }

    /// Returns the bytes of this rank's part of the moving average.
    fn average_bytes(&self) -> u64 {
        if self.average { F32 * self.owned() } else { 0 }
    }

    /// Returns the optimizer state of this rank: its moments, its moving average, and the snapshot of both.
    fn state_bytes(&self) -> [(&'static str, u64); 3] {
        let (moments, average) = (self.ranks.part(self.moment_bytes()), self.average_bytes());
        let kept = if self.put_back { moments + average } else { 0 };
        [(MOMENTS, moments), (AVERAGE, average), (SNAPSHOT, kept)]
    }

    /// Returns the parts in host memory if the weights are on a GPU; empty without offloading.
    #[must_use]
    pub fn host_parts(&self) -> Vec<MemoryPart> {
        if !self.is_offloaded() {
            return Vec::new();
        }
        let parts = self.state_bytes().into_iter();
        let parts = parts.map(|(part, bytes)| MemoryPart { part, bytes });
        parts.filter(|part| part.bytes > 0).collect()
    }

    /// Returns the most bytes of the packed copy of the weights for sampling. It has the adapter merged in, and quantised
    /// weights in the compute dtype; where it would be too large, they are left out. In bf16, only processors with bf16
    /// instructions keep the copy, and without the weights that an adapter changes, but the plan counts it in full for
    /// every processor.
    fn packed_bytes(&self, form: FrozenBase) -> u64 {
        let whole = backbone_bytes(self.config, self.number).unwrap_or(u64::MAX);
        if whole <= MOST_PACKED {
            return whole;
        }
        let blocks = block_numbers(self.config).unwrap_or(0) * self.config.n_layers as u64;
        let others = whole.saturating_sub(self.number * blocks);
        if form.is_quantized() && others <= MOST_PACKED {
            others
        } else {
            0
        }
    }

    /// Returns the storage format of the base weights and the bytes that they take in it.
    fn base(&self) -> (FrozenBase, u64) {
        let form = self
            .lora
            .map_or_else(FrozenBase::default, LoraConfig::frozen_base);
        (
            form,
            form.backbone_bytes(self.config, self.number).unwrap_or(u64::MAX),
        )
    }

    /// Returns the weights in the compute dtype, the largest dequantised weight, the f32 master weights, the gradients
    /// and the buffers that exchange gradients between ranks.
    fn weight_parts(&self) -> [(&'static str, u64); 5] {
        let (trained, number, half) = (self.trained(), self.number, self.number < F32);
        let (form, base) = self.base();
        // Only a trained head has a gradient.
        let second = match self.lora {
            None => tied_gradient_numbers(self.config),
            Some(_) => 0,
        };
        if self.lora.is_none() && self.ranks.has_divided_weights() {
            let groups = GatheredGroups::of(self.config);
            return [
                ("weights", number.saturating_mul(groups.gathered())),
                (DEQUANTIZED, 0),
                (MASTER, F32 * self.owned()),
                ("gradients", F32 * self.owned() + number * second),
                (EXCHANGE, number.saturating_mul(groups.in_flight())),
            ];
        }
        // The frozen weights below an adapter are gathered group by group too, from the part that each rank keeps.
        let groups = GatheredGroups::of(self.config).gathered();
        let base = match self.lora {
            Some(_) if self.has_divided_base() => number.saturating_mul(groups) + self.ranks.part(base),
            _ => base,
        };
        let weights = match self.lora {
            // f32 weights are their own master weights and are counted there.
            None if !half => base.saturating_sub(F32 * trained),
            None => base,
            Some(_) => base + if half { number * trained } else { 0 },
        };
        [
            ("weights", weights),
            (DEQUANTIZED, form.dequantized_bytes(self.config, number)),
            (MASTER, F32 * trained),
            (
                "gradients",
                F32 * self.owned() + number * (trained + second) * self.threads,
            ),
            (EXCHANGE, self.ranks.exchanged_bytes(trained)),
        ]
    }

    /// Returns the parts in the memory that holds the weights, without those of size 0.
    #[must_use]
    pub fn parts(&self) -> Vec<MemoryPart> {
        let (trained, number) = (self.trained(), self.number);
        let (form, base) = self.base();
        let positions = self.masked.min(self.logits_at_once * self.threads);
        let logits = positions * logit_bytes(self.config, number);
        // The update begins after activations and logits are freed, so only its excess over them counts.
        let forward = self.activation_bytes();
        let update = self.update_bytes().saturating_sub(forward + logits);
        let [moments, average, kept] = self.state_bytes().map(|(_, bytes)| match self.is_offloaded() {
            true => 0,
            false => bytes,
        });
        let master = match self.lora {
            None if self.ranks.has_divided_weights() => self.owned(),
            // Every rank has the whole adapter.
            _ => trained,
        };
        let put_back = if self.put_back { F32 * master + kept } else { 0 };
        let reference = match self.lora {
            // An adapter's policies share the frozen weights.
            Some(_) => number * trained,
            None if self.ranks.has_divided_weights() => self.ranks.part(base),
            None => base,
        };
        let packed = match self.sampled {
            1.. if self.kernels => self.packed_bytes(form),
            _ => 0,
        };
        // Sampling needs all weights on one rank, which packs its copy of them besides.
        let gathered = match self.sampled {
            1.. if self.has_divided_base() => base,
            _ => 0,
        };
        let tokenizer = self
            .image_tokenizer
            .map_or(0, |config| image_tokenizer_bytes(config).unwrap_or(u64::MAX));
        let cache = self.sampled * place_bytes(self.config, number);
        // Every sampling engine has its own weights, packed copy and cache on the same machine. A cache counts twice.
        let sampler = base + packed + 2 * cache + tokenizer;
        let [weights, dequantised, master, gradients, exchange] = self.weight_parts();
        let all = [
            weights,
            dequantised,
            master,
            (MOMENTS, moments),
            gradients,
            exchange,
            (AVERAGE, average),
            ("activations kept for backward", forward),
            ("logits", logits),
            ("temporary buffers of the update", update),
            (SNAPSHOT, put_back),
            ("reference policy", if self.reference { reference } else { 0 }),
            ("weights for sampling", gathered.saturating_add(packed)),
            ("KV cache for sampling", 2 * cache),
            ("sampling engines", self.samplers * sampler),
            // The tokenizer's weights, and the accumulator of their gradients.
            ("image tokenizer", 2 * tokenizer),
        ];
        let parts = all.into_iter().map(|(part, bytes)| MemoryPart { part, bytes });
        parts.filter(|part| part.bytes > 0).collect()
    }

    /// Returns the bytes of all parts together.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.parts()
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.bytes))
    }
}

/// Returns the number of parameters of an adapter's matrices: A has a layer's columns, B its rows.
fn adapter_numbers(config: &BackboneConfig, lora: &LoraConfig) -> u64 {
    let is_adapted = |layer: &str| lora.target_modules.iter().any(|target| target == layer);
    let layers = LINEAR_LAYERS.into_iter().zip(layer_shapes(config));
    let all: u64 = layers
        .filter(|(layer, _)| is_adapted(layer))
        .map(|(_, (rows, columns))| rows + columns)
        .sum();
    all * lora.rank as u64 * config.n_layers as u64
}
