//! The language backbone: a LLaDA-shaped bidirectional transformer (`mmada.md` 1.1 to 1.5).
//!
//! Pre-norm blocks with rotary attention and a gated feed-forward; no causal mask; position i predicts token i.
//! Legend: B rows, L positions, D width, H heads, E head width, F feed-forward width, V vocabulary, N chosen positions.

#![allow(non_snake_case)]

use std::cell::{OnceCell, Ref, RefCell};
use std::path::Path;
use std::sync::Arc;

use demask_api::activations::{Trained, policy_tokens};
use demask_api::checkpoint::CONFIG;
use demask_api::{BackboneConfig, FrozenBase, Growth, Purpose, Recompute};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

use crate::device::cuda;
use crate::device::heartbeat;
use crate::device::kernels::frozen_linear;
use crate::device::kernels::fused;
use crate::device::kernels::packed_weights::{self, PackedWeights};
use crate::device::kernels::rotary::Rotary;
#[cfg(fused)]
use crate::device::kernels::sampling_blocks::{BlockConstants, BlockWeights, SamplingBlocks};
use crate::device::transfer::Packet;
use crate::error::{ModelError, Result};
use crate::network::chunk::Chunk;
use crate::network::folder_config::{check, ignored, read_config, source, text_tokens};
use crate::network::growth;
use crate::network::kv_cache::{KvCache, Norms, Pass, PlannedPass};
use crate::network::lora::{Lora, Noise};
use crate::network::room::{Learner, Room};
use crate::network::slots::{BlockNames, PREFIX, groups, initial, is_block_layer, slots};
use crate::weights::fit;
use crate::weights::footprint;
use crate::weights::parameters::Parameters;
use crate::weights::quantized::leaves::QuantizedLeaves;
use crate::weights::shards::gather::Gather;
use crate::weights::shards::{RankOf, ShardMap};
use crate::weights::slot::Slot;
use crate::weights::stored::StoredTensors;

/// The backbone: configuration and parameters.
#[derive(Debug)]
pub struct Backbone {
    config: BackboneConfig,
    parameters: Parameters,
    /// Weights of the blocks that are kept in fewer bits beside an adapter, and are none of the parameters.
    quantized: QuantizedLeaves,
    lora: Option<Lora>,
    rotary: Rotary,
    names: Vec<BlockNames>,
    room: Room,
    /// For a sampler's passes; made when one wants it.
    packed: RefCell<Option<PackedWeights>>,
    /// Who brings its weights together, where each rank keeps a part of them.
    gather: OnceCell<Arc<dyn Gather>>,
    device: Device,
    kind: Kind,
}

impl Backbone {
    /// Random weights from a seed (LLaDA's `mitchell` initialisation, `mmada.md` 1.4).
    ///
    /// # Errors
    /// A configuration that makes no network.
    pub fn fresh(config: &BackboneConfig, seed: u64, device: Device, kind: Kind) -> Result<Self> {
        Self::fresh_on(config, seed, (device, kind), None)
    }

    /// The same weights, of which this rank keeps its part where it is told so.
    ///
    /// # Errors
    /// Those of [`Self::fresh`]; a head that is the embedding, which then has two places.
    pub fn fresh_on(
        config: &BackboneConfig,
        seed: u64,
        (device, kind): (Device, Kind),
        part: Option<RankOf>,
    ) -> Result<Self> {
        check(config)?;
        let map = part.map(|own| cut(config, own, device)).transpose()?;
        if map.is_none() {
            footprint::check(config, device, kind, Purpose::Train)?;
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let fill = |slot: &Slot, into: &mut Tensor| Ok(into.f_copy_(&initial(config, slot, &mut rng)?)?);
        let parameters = match map {
            None => Parameters::build(slots(config), device, kind, Purpose::Train, fill)?,
            Some(map) => Parameters::build_part(slots(config), device, kind, map, fill)?,
        };
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Random weights for sampling alone, drawn where they are kept, with nothing beside them: a network to measure.
    ///
    /// # Errors
    /// A configuration that makes no network; libtorch's, out of memory among them.
    pub fn random(config: &BackboneConfig, seed: i64, device: Device, kind: Kind) -> Result<Self> {
        check(config)?;
        footprint::check(config, device, kind, Purpose::Sample)?;
        tch::manual_seed(seed);
        let deviation = 1.0 / (config.d_model as f64).sqrt();
        let fill = |slot: &Slot, into: &mut Tensor| {
            let _ = match slot.shape.len() {
                1 => into.f_fill_(1.0)?,
                _ => into.f_normal_(0.0, deviation)?,
            };
            Ok(())
        };
        let parameters = Parameters::build(slots(config), device, kind, Purpose::Sample, fill)?;
        Self::assemble(config.clone(), parameters, device, kind)
    }

    /// Reads a folder, published or ours, for training: `config.json` and its weights, in one file or several.
    ///
    /// # Errors
    /// A broken file, missing, extra and misshapen tensors, each named.
    pub fn load(dir: &Path, device: Device, kind: Kind) -> Result<Self> {
        Self::load_for(dir, device, kind, Purpose::Train)
    }

    /// Loads a folder for training or for sampling; for sampling nothing is kept beside the weights in `kind`.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn load_for(dir: &Path, device: Device, kind: Kind, purpose: Purpose) -> Result<Self> {
        Self::load_grown(dir, (device, kind), purpose, None, None)
    }

    /// Loads a folder and adds picture codes where that is asked for; for training, this rank keeps its `part` where it is told so.
    ///
    /// # Errors
    /// The errors of [`Self::load`]; those of [`growth::grown`]; a head that is the embedding, of a part.
    pub fn load_grown(
        dir: &Path,
        (device, kind): (Device, Kind),
        purpose: Purpose,
        growth: Option<&Growth>,
        part: Option<RankOf>,
    ) -> Result<Self> {
        let stored_config = read_config(dir)?;
        let config = match growth {
            Some(growth) => growth::grown(&stored_config, growth, text_tokens(dir, &stored_config)?)?,
            None => stored_config.clone(),
        };
        check(&config)?;
        let map = part.filter(|_| purpose == Purpose::Train);
        let map = map.map(|own| cut(&config, own, device)).transpose()?;
        if map.is_none() {
            footprint::check(&config, device, kind, purpose)
                .map_err(|error| ModelError::checkpoint(&dir.join(CONFIG), error.to_string()))?;
        }
        let stored = StoredTensors::in_folder(dir)?;
        let source = source(&stored_config, &stored);
        fit::check(&slots(&stored_config), &stored, &source, &ignored(&stored_config))?;
        let mut rng = ChaCha8Rng::seed_from_u64(growth.map_or(0, |growth| growth.seed));
        let fill = |slot: &Slot, into: &mut Tensor| {
            let name = source(&slot.name);
            let old = stored.shape(&name).map_or(0, |shape| shape[0]);
            if old == slot.shape[0] {
                return stored.copy_to(&name, into);
            }
            stored.copy_to(&name, &mut into.f_narrow(0, 0, old)?)?;
            growth::fill(into, old, &mut rng)
        };
        let parameters = match map {
            None => Parameters::build(slots(&config), device, kind, purpose, fill)?,
            Some(map) => Parameters::build_part(slots(&config), device, kind, map, fill)?,
        };
        Self::assemble(config, parameters, device, kind)
    }

    /// Loads a folder to stand frozen beside an adapter, its blocks' linear layers in the form that is asked for.
    ///
    /// # Errors
    /// The errors of [`Self::load`].
    pub fn load_frozen(dir: &Path, device: Device, kind: Kind, form: FrozenBase) -> Result<Self> {
        if !form.is_quantized() {
            return Self::load_for(dir, device, kind, Purpose::Sample);
        }
        let config = read_config(dir)?;
        check(&config)?;
        footprint::check_frozen(&config, device, kind, form)
            .map_err(|error| ModelError::checkpoint(&dir.join(CONFIG), error.to_string()))?;
        let stored = StoredTensors::in_folder(dir)?;
        let source = source(&config, &stored);
        fit::check(&slots(&config), &stored, &source, &ignored(&config))?;
        let fill = |slot: &Slot, into: &mut Tensor| stored.copy_to(&source(&slot.name), into);
        let (layers, others): (Vec<Slot>, Vec<Slot>) = slots(&config).into_iter().partition(is_block_layer);
        let quantized = QuantizedLeaves::build(&layers, form, (device, kind), fill)?;
        let parameters = Parameters::build(others, device, kind, Purpose::Sample, fill)?;
        let mut backbone = Self::assemble(config.clone(), parameters, device, kind)?;
        backbone.quantized = quantized;
        Ok(backbone)
    }

    fn assemble(config: BackboneConfig, parameters: Parameters, device: Device, kind: Kind) -> Result<Self> {
        let rotary = Rotary::new(
            config.head_dim(),
            config.max_sequence_length,
            config.rope_theta,
            device,
        )?;
        let names = (0..config.n_layers).map(BlockNames::new).collect();
        Ok(Self {
            config,
            parameters,
            quantized: QuantizedLeaves::default(),
            lora: None,
            rotary,
            names,
            room: Room::default(),
            packed: RefCell::default(),
            gather: OnceCell::new(),
            device,
            kind,
        })
    }

    /// A copy whose weights do not change and ask for no gradient: the old or the reference policy.
    ///
    /// # Errors
    /// libtorch's.
    pub fn frozen_copy(&self) -> Result<Self> {
        let parameters = self.parameters.frozen_copy()?;
        let mut copy = Self::assemble(self.config.clone(), parameters, self.device, self.kind)?;
        copy.quantized = self.quantized.clone();
        copy.lora = self.lora.as_ref().map(Lora::frozen_copy).transpose()?;
        Ok(copy)
    }

    /// A copy for sampling alone whose trained weights have these values, flat and f32 as [`Parameters::master`] has them.
    ///
    /// # Errors
    /// libtorch's.
    pub fn frozen_at(&self, master: &Tensor) -> Result<Self> {
        let copy = self.frozen_copy()?;
        for (name, value) in self.trained().named_like(master)? {
            let mut own = copy.trained().value(&name)?;
            tch::no_grad(|| own.f_copy_(&value))?;
        }
        Ok(copy)
    }

    /// A backbone on the same weights, whose gradients are taken apart from these: for another thread.
    ///
    /// # Errors
    /// libtorch's.
    pub fn twin(&self) -> Result<Self> {
        self.with_adapter(Lora::twin)
    }

    /// The same for another thread of a training step, with dropout of its own, drawn from this one's.
    ///
    /// # Errors
    /// libtorch's.
    pub fn training_twin(&self) -> Result<Self> {
        self.with_adapter(Lora::training_twin)
    }

    fn with_adapter(&self, adapter: fn(&Lora) -> Result<Lora>) -> Result<Self> {
        let parameters = self.parameters.twin()?;
        let mut twin = Self::assemble(self.config.clone(), parameters, self.device, self.kind)?;
        twin.quantized = self.quantized.clone();
        twin.lora = self.lora.as_ref().map(adapter).transpose()?;
        twin.room = self.room.clone();
        twin.gather = self.gather.clone();
        twin.packed = RefCell::new(self.packed.borrow().as_ref().map(PackedWeights::shared));
        Ok(twin)
    }

    /// The backbone with an adapter on it, which is what is trained then.
    #[must_use]
    pub fn adapted(mut self, lora: Lora) -> Self {
        self.lora = Some(lora);
        self
    }

    /// Its adapter, if it has one.
    #[must_use]
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Adds the adapter's product to the weights and drops the adapter.
    ///
    /// # Errors
    /// Weights that are kept in fewer bits; libtorch's.
    pub fn merge(&mut self) -> Result<()> {
        if !self.quantized.is_empty() {
            let message =
                "merge: the base is quantised; an adapter is merged with its base in full precision";
            return Err(ModelError::Refused(message.into()));
        }
        match self.lora.take() {
            Some(lora) => lora.merge_into(&self.parameters),
            None => Ok(()),
        }
    }

    /// How many numbers the network has, the adapter's left out.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.parameters.count() + self.quantized.count()
    }

    /// The weights of its blocks that are kept in fewer bits.
    #[must_use]
    pub fn quantized(&self) -> &QuantizedLeaves {
        &self.quantized
    }

    /// What an optimiser works on: the adapter's parameters where there is one, else the network's own.
    #[must_use]
    pub fn trained(&self) -> &Parameters {
        self.lora.as_ref().map_or(&self.parameters, Lora::parameters)
    }

    /// What an optimiser works on, to be changed.
    pub fn trained_mut(&mut self) -> &mut Parameters {
        match &mut self.lora {
            Some(lora) => lora.parameters_mut(),
            None => &mut self.parameters,
        }
    }

    /// Has its weights, of which each rank keeps a part, brought together by somebody. The first to be named stays.
    pub fn gathered_by(&self, gather: Arc<dyn Gather>) {
        self.gather.set(gather).ok();
    }

    /// Who brings its weights together before they are computed with; none where they are here.
    pub(crate) fn gather(&self) -> Option<&dyn Gather> {
        self.gather.get().map(AsRef::as_ref)
    }

    /// Lets go of what is kept of the weights for a sampler's passes.
    pub(crate) fn forget_packed(&self) {
        self.packed.replace(None);
    }

    /// How much of a batch goes through it at one time.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Tokens of a micro-batch of a policy step: on a processor so few that a person's question is answered between two of them
    /// ([`policy_tokens`]), on a GPU as many as there is room for. A training step's are not held to it.
    #[must_use]
    pub fn policy_tokens(&self) -> usize {
        let room = self.room.forward_tokens();
        if self.device.is_cuda() {
            return room;
        }
        let most = policy_tokens(self.count());
        room.min(usize::try_from(most).unwrap_or(room))
    }

    /// Works out how much of a batch goes through for training, where the device says how much memory is free, and whether blocks are
    /// computed again in the backward pass. `aside`: bytes that a step takes beside activations; `tokens`: those of its largest batch.
    pub fn work_room_out(&self, aside: u64, tokens: usize, recompute: Recompute) {
        let trained = if self.lora.is_some() {
            Trained::Adapter
        } else {
            Trained::Whole
        };
        let learner = Learner {
            config: &self.config,
            kind: self.kind,
            trained,
            // Of weights that are gathered block by block nothing else can be done.
            recompute: if self.parameters.sharded().is_some() {
                Recompute::Always
            } else {
                recompute
            },
            kernels: fused::applies_to(self.device, self.kind),
        };
        match cuda::memory(self.device) {
            Some(memory) => {
                let width = self.kind.elt_size_in_bytes() as u64;
                let aside = aside + self.quantized.form().dequantized_bytes(&self.config, width);
                self.room.work_out((memory.free, memory.total), aside, &learner);
            }
            None => self.room.settle(tokens, &learner),
        }
    }

    /// Turns the adapter's dropout on for a training step, drawn from a seed, or off.
    pub fn set_dropout(&self, seed: Option<u64>) {
        if let Some(lora) = &self.lora {
            lora.set_dropout(seed);
        }
    }

    /// Where the adapter's dropout stands, so that it can be drawn again.
    pub(crate) fn noise(&self) -> Option<Noise> {
        self.lora.as_ref().and_then(Lora::noise)
    }

    /// Has the adapter's dropout go on from where it stood.
    pub(crate) fn set_noise(&self, noise: Option<Noise>) {
        if let Some(lora) = &self.lora {
            lora.set_noise(noise);
        }
    }

    /// The shape.
    #[must_use]
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// The parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters, to be changed by an optimiser.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// The device that holds it.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// What it computes in.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What queries and keys are turned by.
    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// How a pass over some chunks is brought to the device.
    ///
    /// # Errors
    /// A row longer than the model's longest sequence or than the cache, with both numbers.
    pub(crate) fn plan_pass(
        &self,
        cache: &KvCache,
        chunks: &[Chunk],
        packet: &mut Packet,
    ) -> Result<PlannedPass> {
        let longest = self.config.max_sequence_length;
        for chunk in chunks {
            let (end, room) = (chunk.offset + chunk.keys, cache.capacity());
            if end > longest || chunk.keys > room {
                return Err(ModelError::Refused(format!(
                    "a sequence of {end} tokens; the model takes at most {longest}, the cache {room}"
                )));
            }
        }
        Ok(cache.plan(chunks, packet))
    }

    /// Hidden states after the last norm of the chosen places of some rows, chunk by chunk: [T, D], or of the `wanted` of them
    /// alone, [N, D], by their numbers [N]: what nobody reads is not computed behind the last attention. Keys and values of all
    /// chosen places are written to the cache, the others are read from it.
    ///
    /// # Errors
    /// libtorch's.
    pub fn run(&self, cache: &KvCache, pass: &Pass, wanted: Option<&Tensor>) -> Result<Tensor> {
        let (turns, heads) = (self.rotary.all(), self.config.n_heads as i64);
        let packed = self.packed_weights()?;
        #[cfg(fused)]
        if let (Some(blocks), Some(wanted)) = (packed.as_deref().and_then(PackedWeights::blocks), wanted)
            && let Some(hidden_ND) = cache.run_blocks(blocks, turns, pass, wanted)?
        {
            return Ok(hidden_ND);
        }
        tch::no_grad(|| {
            self.blocks(&pass.ids_T, packed.as_deref(), wanted, |block, joined| {
                cache.attend(block, &joined, self.norms(block)?, turns, heads, pass)
            })
        })
    }

    /// The blocks; `mix` is given each block's number and stacked projection and attends. Behind the last attention only the
    /// `wanted` tokens go on, where they are named.
    pub(crate) fn blocks(
        &self,
        ids: &Tensor,
        packed: Option<&PackedWeights>,
        wanted: Option<&Tensor>,
        mix: impl Fn(usize, Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (mut x_BLD, mut delta_BLD) = (self.embedded(ids)?, None);
        let count = self.names.len();
        for number in 0..count {
            heartbeat::beat();
            let entered = self.enter(number, x_BLD, delta_BLD.as_ref())?;
            let wanted = wanted.filter(|_| number + 1 == count);
            (x_BLD, delta_BLD) = self.block(number, entered, (packed, wanted), &mix)?;
        }
        self.leave(x_BLD, delta_BLD.as_ref())
    }

    /// The stream that the first block finds: token ids [B, L] to [B, L, D].
    pub(crate) fn embedded(&self, ids: &Tensor) -> Result<Tensor> {
        let x_BLD = Tensor::f_embedding(self.leaf("wte")?, ids, -1, false, false)?;
        if self.config.input_emb_norm {
            return Ok(x_BLD.f_mul_scalar((self.config.d_model as f64).sqrt())?);
        }
        Ok(x_BLD)
    }

    /// A block's beginning: the stream with what the layer before adds to it, and its norm. What a layer adds is summed where the
    /// next norm reads it.
    pub(crate) fn enter(&self, number: usize, x: Tensor, delta: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.sum_norm(x, delta, &self.names[number].attn_norm)
    }

    /// The rest of a block, from what [`Self::enter`] gave: the stream, and what is to be added to it. `mix` is given the block's
    /// number and stacked projection and attends; behind attention only the `wanted` tokens go on, where they are named.
    pub(crate) fn block(
        &self,
        number: usize,
        (mut x_BLD, h_BLD): (Tensor, Tensor),
        (packed, wanted): (Option<&PackedWeights>, Option<&Tensor>),
        mix: &impl Fn(usize, Tensor) -> Result<Tensor>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let names = &self.names[number];
        let mut mixed_BLD = mix(number, self.linear(&h_BLD, &names.q, packed)?)?;
        drop(h_BLD);
        if let Some(wanted) = wanted {
            mixed_BLD = tokens(&mixed_BLD, wanted)?;
            x_BLD = tokens(&x_BLD, wanted)?;
        }
        let (x_BLD, delta_BLD) = self.residual(x_BLD, &mixed_BLD, &names.attn_out, packed)?;
        let (x_BLD, h_BLD) = self.sum_norm(x_BLD, delta_BLD.as_ref(), &names.ff_norm)?;
        let gated_BLF = fused::gate(&self.linear(&h_BLD, &names.gate, packed)?)?;
        self.residual(x_BLD, &gated_BLF, &names.down, packed)
    }

    /// The last norm of the stream with what the last layer adds to it.
    pub(crate) fn leave(&self, x: Tensor, delta: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.sum_norm(x, delta, &format!("{PREFIX}.ln_f"))?.1)
    }

    /// Logits of chosen hidden states: [N, D] to [N, V], or to the columns `start..end` of V.
    ///
    /// # Errors
    /// libtorch's.
    pub fn head(&self, x_ND: &Tensor, columns: Option<(i64, i64)>) -> Result<Tensor> {
        let table_VD = self.head_weight()?;
        let table_VD = match columns {
            None => table_VD,
            Some((start, end)) => table_VD.f_narrow(0, start, end - start)?,
        };
        self.scaled(x_ND.f_linear(&table_VD, self.head_bias(columns)?)?)
    }

    /// Logits for a sampler's pass ([`Self::run`]), whose numbers need not be those of training to the last bit.
    ///
    /// # Errors
    /// libtorch's.
    pub fn sampled_head(&self, x_ND: &Tensor, columns: Option<(i64, i64)>) -> Result<Tensor> {
        let packed = self.packed_weights()?;
        let weight = packed.as_ref().and_then(|packed| match columns {
            None => packed.get(&self.head_name()),
            Some((0, end)) if end == self.config.rows() as i64 => packed.get(&self.head_name()),
            Some(columns) => packed.span(columns),
        });
        let Some(weight) = weight else {
            return self.head(x_ND, columns);
        };
        let bias_V = self.head_bias(columns)?;
        self.scaled(weight.linear(x_ND, bias_V.as_ref())?)
    }

    fn head_bias(&self, columns: Option<(i64, i64)>) -> Result<Option<Tensor>> {
        let Ok(bias_V) = self.parameters.leaf(&format!("{PREFIX}.ff_out.bias")) else {
            return Ok(None);
        };
        Ok(Some(match columns {
            None => bias_V.shallow_clone(),
            Some((start, end)) => bias_V.f_narrow(0, start, end - start)?,
        }))
    }

    fn scaled(&self, logits: Tensor) -> Result<Tensor> {
        if self.config.scale_logits {
            return Ok(logits.f_mul_scalar(1.0 / (self.config.d_model as f64).sqrt())?);
        }
        Ok(logits)
    }

    /// The weights as a sampler's passes want them, where they are kept so: on a CPU in f32. Made here when they are not there
    /// yet, or no longer those of the network.
    fn packed_weights(&self) -> Result<Option<Ref<'_, PackedWeights>>> {
        let bytes = 4 * self.parameters.count();
        let wanted = fused::applies_to(self.device, self.kind) && self.kind == Kind::Float;
        if !wanted || !packed_weights::are_kept(bytes) {
            return Ok(None);
        }
        let version = self.parameters.version()?;
        let known = self.packed.borrow().as_ref().map(PackedWeights::version);
        if known != Some(version) {
            let head = self.head_name();
            let table = format!("{PREFIX}.wte.weight");
            // The embedding is read row by row, unless it is the head too.
            let leaves = self
                .parameters
                .leaves()
                .filter(|(name, _)| *name != table || *name == head);
            let codes = self.config.codebook_size as i64;
            let first = i64::from(self.config.image_offset());
            let pictures = (codes > 0).then_some((first, first + codes));
            let packed = PackedWeights::new(version, leaves, &self.head_weight()?, pictures.as_slice())?;
            #[cfg(fused)]
            let packed = packed
                .map(|mut packed| {
                    if let Some(blocks) = self.sampling_blocks(&packed)? {
                        packed.set_blocks(blocks);
                    }
                    Ok::<_, ModelError>(packed)
                })
                .transpose()?;
            self.packed.replace(packed);
        }
        Ok(Ref::filter_map(self.packed.borrow(), Option::as_ref).ok())
    }

    /// Collects all blocks for one call, or `None` if the network has something that the call does not compute: biases, an
    /// adapter, a quantised base.
    #[cfg(fused)]
    fn sampling_blocks(&self, packed: &PackedWeights) -> Result<Option<SamplingBlocks>> {
        let has_bias = self.parameters.leaves().any(|(name, _)| name.ends_with(".bias"));
        if has_bias || self.lora.is_some() || !self.quantized.is_empty() {
            return Ok(None);
        }
        let gain = |name: &str| self.parameters.leaf(&format!("{name}.weight"));
        let mut blocks = Vec::with_capacity(self.names.len());
        for (number, names) in self.names.iter().enumerate() {
            let matrix = |name: &str| packed.get(&format!("{name}.weight"));
            let matrices = [&names.q, &names.attn_out, &names.gate, &names.down].map(|name| matrix(name));
            let [Some(q), Some(attn_out), Some(gate), Some(down)] = matrices else {
                return Ok(None);
            };
            blocks.push(BlockWeights {
                attn_gain: gain(&names.attn_norm)?,
                ff_gain: gain(&names.ff_norm)?,
                qk_gains: self.norms(number)?.map(|norms| (norms.q, norms.k)),
                matrices: [q, attn_out, gate, down],
            });
        }
        let scale = match self.config.input_emb_norm {
            true => (self.config.d_model as f64).sqrt(),
            false => 1.0,
        };
        let constants = BlockConstants {
            embedding_scale: scale,
            eps: self.config.rms_norm_eps,
            heads: self.config.n_heads as i64,
            width: self.config.head_dim() as i64,
        };
        let last_gain = gain(&format!("{PREFIX}.ln_f"))?;
        SamplingBlocks::new(self.leaf("wte")?, last_gain, constants, &blocks).map(Some)
    }

    /// Has the weights ready for a sampler's passes, so that twins share them.
    ///
    /// # Errors
    /// libtorch's.
    pub fn ready_to_sample(&self) -> Result<()> {
        self.packed_weights().map(|_| ())
    }

    /// The name of the head's weight: the embedding's where the two are tied.
    pub(crate) fn head_name(&self) -> String {
        let leaf = if self.config.weight_tying { "wte" } else { "ff_out" };
        format!("{PREFIX}.{leaf}.weight")
    }

    /// The head's weight, [V, D]: the embedding where the two are tied.
    ///
    /// # Errors
    /// A backbone without one (a fault of this crate).
    pub fn head_weight(&self) -> Result<Tensor> {
        Ok(self.parameters.leaf(&self.head_name())?.shallow_clone())
    }

    fn leaf(&self, what: &str) -> Result<&Tensor> {
        self.parameters.leaf(&format!("{PREFIX}.{what}.weight"))
    }

    fn linear(&self, x: &Tensor, name: &str, packed: Option<&PackedWeights>) -> Result<Tensor> {
        let weight_name = format!("{name}.weight");
        let bias = self.parameters.leaf(&format!("{name}.bias")).ok();
        let quantized = self.quantized.get(&weight_name);
        let lora = self.lora.as_ref().filter(|lora| lora.adapts(name));
        if lora.is_none() && quantized.is_none() {
            return match packed.and_then(|packed| packed.get(&weight_name)) {
                Some(weight) => weight.linear(x, bias),
                None => Ok(x.f_linear(self.parameters.leaf(&weight_name)?, bias)?),
            };
        }
        // In two dimensions, so that what the adapter adds is added in place to no view.
        let mut shape = x.size();
        let ins = shape.pop().unwrap_or_default();
        let x_TI = x.f_reshape([-1, ins])?;
        let mut y_TO = match quantized {
            Some(weight) => frozen_linear::linear(&x_TI, weight, bias)?,
            None => x_TI.f_linear(self.parameters.leaf(&weight_name)?, bias)?,
        };
        if let Some(lora) = lora {
            y_TO = lora.add(name, &x_TI, y_TO)?;
        }
        shape.push(y_TO.size()[1]);
        Ok(y_TO.f_view(&shape[..])?)
    }

    /// The stream, and what the product of that name of `h` adds to it. Where a pass computes without gradient and no kernel
    /// sums the two with the next norm, the product is added to the stream where it lies, in its own launch, and nothing is
    /// left to add.
    fn residual(
        &self,
        mut x: Tensor,
        h: &Tensor,
        name: &str,
        packed: Option<&PackedWeights>,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let plain = self.lora.is_none()
            && self.quantized.is_empty()
            && self.parameters.leaf(&format!("{name}.bias")).is_err();
        if x.dim() != 2 || x.requires_grad() || fused::applies(&x) || !plain {
            let delta = self.linear(h, name, packed)?;
            return Ok((x, Some(delta)));
        }
        let weight = self.parameters.leaf(&format!("{name}.weight"))?;
        let _ = x.f_addmm_(h, &weight.f_tr()?)?;
        Ok((x, None))
    }

    /// The stream with `delta` added, and its norm.
    fn sum_norm(&self, x: Tensor, delta: Option<&Tensor>, name: &str) -> Result<(Tensor, Tensor)> {
        let gain = self.parameters.leaf(&format!("{name}.weight"))?;
        let (x, y) = fused::sum_norm(x, delta, gain, self.config.rms_norm_eps)?;
        Ok(match self.parameters.leaf(&format!("{name}.bias")) {
            Ok(bias) => (x, y.f_add(bias)?),
            Err(_) => (x, y),
        })
    }

    /// What queries and keys are normalised with, where the model does that.
    pub(crate) fn norms(&self, block: usize) -> Result<Option<Norms<'_>>> {
        if !self.config.attention_layer_norm {
            return Ok(None);
        }
        let names = &self.names[block];
        let leaf = |name: &str, part: &str| self.parameters.leaf(&format!("{name}.{part}"));
        let biases = leaf(&names.q_norm, "bias").and_then(|q| Ok((q, leaf(&names.k_norm, "bias")?)));
        Ok(Some(Norms {
            q: leaf(&names.q_norm, "weight")?,
            k: leaf(&names.k_norm, "weight")?,
            biases: biases.ok(),
            eps: self.config.rms_norm_eps,
        }))
    }
}

/// Some tokens of [T, D], or of [B, L, D] as one row [1, N, D]: with as many dimensions as before, since what computes on them
/// chooses its way by that.
fn tokens(x: &Tensor, wanted_N: &Tensor) -> Result<Tensor> {
    if x.dim() == 2 {
        return Ok(x.f_index_select(0, wanted_N)?);
    }
    Ok(x.f_flatten(0, -2)?.f_index_select(0, wanted_N)?.f_unsqueeze(0)?)
}

/// Who owns what of a network's weights where each rank keeps a part of every group.
fn cut(config: &BackboneConfig, own: RankOf, device: Device) -> Result<ShardMap> {
    if config.weight_tying {
        return Err(ModelError::Refused(
            "weights sharded over ranks: the head is the embedding (weight_tying), which is computed with in two places; use shard = \"state\""
                .into(),
        ));
    }
    footprint::check_part(config, device, own.size)?;
    Ok(ShardMap::of_groups(&groups(&slots(config)), own))
}
