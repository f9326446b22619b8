//! The language backbone: a LLaDA-shaped bidirectional transformer (`mmada.md` 1.1 to 1.5).
//!
//! - `mod.rs`: what a backbone consists of, and its forward pass block by block; `loading.rs`: its weights, from random
//!   numbers or a folder;
//! - `sampling_weights.rs`: the packed weights of a sampler's passes; `tied_head.rs`: the gradient of a tied head.
//!
//! Not here: the full forward pass over padded rows (`../full_forward.rs`), adapters (`../lora/`).
//!
//! Pre-norm blocks with rotary attention and a gated feed-forward; no causal mask; position i predicts token i.
//! Legend: B rows, L positions, D width, H heads, E head width, F feed-forward width, V vocabulary, N chosen positions.

#![allow(non_snake_case)]

mod loading;
mod sampling_weights;
mod tied_head;

use std::cell::{OnceCell, RefCell};
use std::sync::Arc;

use demask_api::activations::{Trained, policy_tokens};
use demask_api::{BackboneConfig, Recompute, memory};
use tch::{Device, Kind, Tensor};

use crate::device::cuda;
use crate::device::heartbeat;
use crate::device::kernels::frozen_linear;
use crate::device::kernels::fused;
use crate::device::kernels::packed_weights::PackedWeights;
use crate::device::kernels::rotary::Rotary;
use crate::device::transfer::Packet;
use crate::error::{ModelError, Result};
use crate::network::chunk::Chunk;
use crate::network::kv_cache::{KvCache, Norms, Pass, PlannedPass};
use crate::network::lora::{DropoutPosition, Lora};
use crate::network::room::{Learner, Room};
use crate::network::slots::{BlockNames, PREFIX};
use crate::weights::parameters::Parameters;
use crate::weights::quantized::leaves::QuantizedLeaves;
use crate::weights::shards::gather::Gather;

/// The backbone: its configuration, its parameters and an optional adapter.
#[derive(Debug)]
pub struct Backbone {
    config: BackboneConfig,
    parameters: Parameters,
    /// The blocks' weights in a quantised format, beside an adapter. They are not among the parameters.
    quantized: QuantizedLeaves,
    lora: Option<Lora>,
    rotary: Rotary,
    names: Vec<BlockNames>,
    room: Room,
    /// Packed weights for a sampler's forward passes, made when first needed.
    packed: RefCell<Option<PackedWeights>>,
    /// The gatherer of sharded weights.
    gather: OnceCell<Arc<dyn Gather>>,
    /// A leaf of the head on the memory of the embedding's leaf, with a gradient of its own ([`Self::part_head`]).
    head_leaf: OnceCell<Tensor>,
    device: Device,
    kind: Kind,
}

impl Backbone {
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
            head_leaf: OnceCell::new(),
            device,
            kind,
        })
    }

    /// Copies the backbone. The copy's weights do not change and have no gradient; it serves as the old or
    /// the reference policy.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn frozen_copy(&self) -> Result<Self> {
        let parameters = self.parameters.frozen_copy()?;
        let mut copy = Self::assemble(self.config.clone(), parameters, self.device, self.kind)?;
        copy.quantized = self.quantized.clone();
        copy.lora = self.lora.as_ref().map(Lora::frozen_copy).transpose()?;
        if copy.parameters.sharded().is_some() {
            copy.gather = self.gather.clone();
        }
        Ok(copy)
    }

    /// Copies the backbone for sampling, with these values of the trained weights, flat and f32 as in
    /// [`Parameters::master`].
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn frozen_at(&self, master: &Tensor) -> Result<Self> {
        let copy = self.frozen_copy()?;
        for (name, value) in self.trained().named_like(master)? {
            let mut own = copy.trained().value(&name)?;
            tch::no_grad(|| own.f_copy_(&value))?;
        }
        Ok(copy)
    }

    /// Returns a backbone for another thread that shares the weights and has gradients of its own.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn twin(&self) -> Result<Self> {
        self.with_adapter(Lora::twin)
    }

    /// Returns a twin like [`Self::twin`] for another thread of a training step. Its dropout is seeded from
    /// this backbone's.
    ///
    /// # Errors
    /// Returns libtorch's errors.
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
        if self.head_leaf.get().is_some() {
            twin.part_head()?;
        }
        twin.packed = RefCell::new(self.packed.borrow().as_ref().map(PackedWeights::shared));
        Ok(twin)
    }

    /// Puts an adapter on the backbone. Only the adapter is trained from then on.
    #[must_use]
    pub fn adapted(mut self, lora: Lora) -> Self {
        self.forget_packed();
        self.lora = Some(lora);
        self
    }

    /// Returns the adapter, if there is one.
    #[must_use]
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    /// Adds the adapter's product to the weights and drops the adapter.
    ///
    /// # Errors
    /// Refuses a quantised base, and returns libtorch's errors.
    pub fn merge(&mut self) -> Result<()> {
        if !self.quantized.is_empty() {
            let message = "merge: the base is quantised, but an adapter can only be merged into a base in full precision";
            return Err(ModelError::Refused(message.into()));
        }
        self.forget_packed();
        match self.lora.take() {
            Some(lora) => lora.merge_into(&self.parameters),
            None => Ok(()),
        }
    }

    /// Returns the number of the network's parameters, without the adapter's.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.parameters.count() + self.quantized.count()
    }

    /// Returns the quantised weights of the blocks.
    #[must_use]
    pub fn quantized(&self) -> &QuantizedLeaves {
        &self.quantized
    }

    /// Returns the parameters that an optimizer updates: the adapter's if there is one, and the network's
    /// otherwise.
    #[must_use]
    pub fn trained(&self) -> &Parameters {
        self.lora.as_ref().map_or(&self.parameters, Lora::parameters)
    }

    /// Returns the parameters that an optimizer updates, mutably.
    pub fn trained_mut(&mut self) -> &mut Parameters {
        match &mut self.lora {
            Some(lora) => lora.parameters_mut(),
            None => &mut self.parameters,
        }
    }

    /// Sets the gatherer of sharded weights. Only the first call has an effect.
    pub fn gathered_by(&self, gather: Arc<dyn Gather>) {
        self.gather.set(gather).ok();
    }

    /// Returns the gatherer of sharded weights; `None` if the weights are not sharded.
    pub(crate) fn gather(&self) -> Option<&dyn Gather> {
        self.gather.get().map(AsRef::as_ref)
    }

    /// Returns the limits on how much of a batch is computed at one time.
    #[must_use]
    pub fn room(&self) -> &Room {
        &self.room
    }

    /// Returns the number of tokens of a micro-batch of a policy step. On a CPU it is small enough that a
    /// user's request is answered between two micro-batches ([`policy_tokens`]); on a GPU it is the number
    /// that fits the memory. A supervised training step does not have this limit.
    #[must_use]
    pub fn policy_tokens(&self) -> usize {
        let room = self.room.forward_tokens();
        if self.device.is_cuda() {
            return room;
        }
        let most = policy_tokens(self.count());
        room.min(usize::try_from(most).unwrap_or(room))
    }

    /// Determines how much of a batch a training step computes at one time, from the device's free memory
    /// where it is known, and whether the blocks are recomputed in the backward pass. `aside` is the number
    /// of bytes that a step needs besides activations; `tokens` is the number of tokens of its largest batch.
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
            // Weights that are gathered block by block always need recomputation: the backward pass gathers
            // each block again.
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
                let tied = match trained {
                    Trained::Whole => width * memory::tied_gradient_numbers(&self.config),
                    Trained::Adapter => 0,
                };
                let dequantized = self.quantized.form().dequantized_bytes(&self.config, width);
                let aside = aside + tied + dequantized;
                self.room.work_out((memory.free, memory.total), aside, &learner);
            }
            None => self.room.settle(tokens, &learner),
        }
    }

    /// Turns on the adapter's dropout for a training step with a seed, or turns it off.
    pub fn set_dropout(&self, seed: Option<u64>) {
        if let Some(lora) = &self.lora {
            lora.set_dropout(seed);
        }
    }

    /// Returns the position of the adapter's dropout stream, so that its masks can be drawn again.
    pub(crate) fn noise(&self) -> Option<DropoutPosition> {
        self.lora.as_ref().and_then(Lora::noise)
    }

    /// Moves the dropout stream behind the masks of one pass through the network, and returns where that pass begins.
    pub(crate) fn reserve_noise(&self) -> Option<DropoutPosition> {
        let begins = self.noise();
        if let (Some(noise), Some(lora)) = (begins, &self.lora) {
            lora.set_noise(Some(noise.after(lora.masks())));
        }
        begins
    }

    /// Sets the position of the adapter's dropout stream.
    pub(crate) fn set_noise(&self, noise: Option<DropoutPosition>) {
        if let Some(lora) = &self.lora {
            lora.set_noise(noise);
        }
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &BackboneConfig {
        &self.config
    }

    /// Returns the parameters.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Returns the parameters mutably.
    pub fn parameters_mut(&mut self) -> &mut Parameters {
        &mut self.parameters
    }

    /// Returns the device of the weights.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the dtype of the computation.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the rotary embedding of queries and keys.
    pub(crate) fn rotary(&self) -> &Rotary {
        &self.rotary
    }

    /// Plans a pass over chunks and adds its tables to the packet for the device.
    ///
    /// # Errors
    /// Refuses a row that is longer than the model's maximum or the cache, with both numbers.
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
                    "the sequence has {end} tokens; the model takes at most {longest} and the cache {room}"
                )));
            }
        }
        Ok(cache.plan(chunks, packet))
    }

    /// Runs the blocks on the chosen positions of rows, chunk by chunk, and returns the hidden states after
    /// the final norm, [T, D]. With `wanted`, [N] indices, only those states are returned, [N, D], and the
    /// others are not computed after the last attention. Keys and values of all chosen positions are written
    /// to the cache; those of other positions are read from it.
    ///
    /// # Errors
    /// Returns libtorch's errors.
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

    /// Runs all blocks. `mix` computes attention from a block's number and its stacked projection. With
    /// `wanted`, only those tokens continue after the last attention.
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

    /// Embeds token ids: [B, L] to the residual stream [B, L, D].
    pub(crate) fn embedded(&self, ids: &Tensor) -> Result<Tensor> {
        let x_BLD = Tensor::f_embedding(self.leaf("wte")?, ids, -1, false, false)?;
        if self.config.input_emb_norm {
            return Ok(x_BLD.f_mul_scalar((self.config.d_model as f64).sqrt())?);
        }
        Ok(x_BLD)
    }

    /// Starts a block: adds the previous layer's output `delta` to the residual stream, and normalises the
    /// sum. The addition happens here because one kernel can then do both.
    pub(crate) fn enter(&self, number: usize, x: Tensor, delta: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
        self.sum_norm(x, delta, &self.names[number].attn_norm)
    }

    /// Runs the rest of a block after [`Self::enter`]. Returns the residual stream and the output that is
    /// still to be added to it. `mix` computes attention from the block's number and its stacked projection;
    /// with `wanted`, only those tokens continue after it.
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

    /// Adds the last layer's output to the residual stream and applies the final norm.
    pub(crate) fn leave(&self, x: Tensor, delta: Option<&Tensor>) -> Result<Tensor> {
        Ok(self.sum_norm(x, delta, &format!("{PREFIX}.ln_f"))?.1)
    }

    /// Computes the logits of hidden states: [N, D] to [N, V], or to the columns `start..end` of V.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn head(&self, x_ND: &Tensor, columns: Option<(i64, i64)>) -> Result<Tensor> {
        let table_VD = self.head_weight()?;
        let table_VD = match columns {
            None => table_VD,
            Some((start, end)) => table_VD.f_narrow(0, start, end - start)?,
        };
        self.scaled(x_ND.f_linear(&table_VD, self.head_bias(columns)?)?)
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

    /// Returns the name of the head's weight, which is the embedding's if the two are tied.
    pub(crate) fn head_name(&self) -> String {
        let leaf = if self.config.weight_tying { "wte" } else { "ff_out" };
        format!("{PREFIX}.{leaf}.weight")
    }

    /// Returns the head's weight, [V, D], which is the embedding if the two are tied.
    ///
    /// # Errors
    /// Returns an error if the backbone lacks it, which is a bug of this crate.
    pub fn head_weight(&self) -> Result<Tensor> {
        let leaf = self.parameters.leaf(&self.head_name())?;
        Ok(self.head_leaf.get().unwrap_or(leaf).shallow_clone())
    }

    fn leaf(&self, what: &str) -> Result<&Tensor> {
        self.parameters.leaf(&format!("{PREFIX}.{what}.weight"))
    }

    fn linear(&self, x: &Tensor, name: &str, packed: Option<&PackedWeights>) -> Result<Tensor> {
        let weight_name = format!("{name}.weight");
        let bias = self.parameters.leaf(&format!("{name}.bias")).ok();
        if let Some(weight) = packed.and_then(|packed| packed.get(&weight_name)) {
            // It is dequantised, and has the adapter's product in it.
            return weight.linear(x, bias);
        }
        let quantized = self.quantized.get(&weight_name);
        let lora = self.lora.as_ref().filter(|lora| lora.adapts(name));
        if lora.is_none() && quantized.is_none() {
            return Ok(x.f_linear(self.parameters.leaf(&weight_name)?, bias)?);
        }
        // In two dimensions the result is no view, so the adapter can add to it in place.
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

    /// Computes the product of `h` with the named weight, and returns the residual stream with the product
    /// still to be added. Without gradients, and if no kernel fuses the addition with the next norm, the
    /// product is added to the stream in place in the same launch, and nothing is left to add.
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

    /// Returns the residual stream plus `delta`, and the norm of that sum.
    fn sum_norm(&self, x: Tensor, delta: Option<&Tensor>, name: &str) -> Result<(Tensor, Tensor)> {
        let gain = self.parameters.leaf(&format!("{name}.weight"))?;
        let (x, y) = fused::sum_norm(x, delta, gain, self.config.rms_norm_eps)?;
        Ok(match self.parameters.leaf(&format!("{name}.bias")) {
            Ok(bias) => (x, y.f_add(bias)?),
            Err(_) => (x, y),
        })
    }

    /// Returns the norms of queries and keys, if the model has them.
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

/// Selects tokens of [T, D], or of [B, L, D] as one row [1, N, D]. The number of dimensions is kept, because
/// later code branches on it.
fn tokens(x: &Tensor, wanted_N: &Tensor) -> Result<Tensor> {
    if x.dim() == 2 {
        return Ok(x.f_index_select(0, wanted_N)?);
    }
    Ok(x.f_flatten(0, -2)?.f_index_select(0, wanted_N)?.f_unsqueeze(0)?)
}
