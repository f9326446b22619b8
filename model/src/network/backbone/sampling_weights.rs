//! The packed weights of a sampler's passes: when they are made, and what uses them.

#![allow(non_snake_case)]

use std::cell::Ref;

use tch::{Kind, Tensor};

use super::Backbone;
use crate::device::heartbeat;
use crate::device::kernels::fused;
use crate::device::kernels::packed_weights::{self, PackedWeights};
#[cfg(fused)]
use crate::device::kernels::sampling_blocks::{BlockConstants, BlockWeights, NormWeights, SamplingBlocks};
use crate::error::{ModelError, Result};
use crate::network::slots::PREFIX;

impl Backbone {
    /// Returns the packed weights for a sampler's passes, which exist on a CPU. They are made here if
    /// they are missing or older than the network's weights or an adapter that is merged into them.
    ///
    /// The packed weights of the blocks have the adapter's product merged in, as a merged checkpoint has, if the compute
    /// dtype is f32; those of a quantised base are dequantised. The copy is a sampler's own, and at most as large as the
    /// network in the compute dtype. If a quantised base is too large for that, only what is not quantised (the head) is
    /// packed, and each product dequantises its weight and adds the adapter's.
    pub(super) fn packed_weights(&self) -> Result<Option<Ref<'_, PackedWeights>>> {
        if !fused::applies_to(self.device, self.kind) {
            return Ok(None);
        }
        let number = self.kind.elt_size_in_bytes() as u64;
        let are_kept = |count: u64| packed_weights::are_kept(self.kind, count * number);
        let is_whole = are_kept(self.count());
        let is_kept = is_whole || (!self.quantized.is_empty() && are_kept(self.parameters.count()));
        if !is_kept {
            return Ok(None);
        }
        // Neither version ever falls, so the sum changes with each of them.
        let merged = self.lora.as_ref().filter(|_| self.merges_adapter());
        let adapter = merged.map(|lora| lora.parameters().version());
        let version = self.parameters.version()? + adapter.transpose()?.unwrap_or(0);
        let known = self.packed.borrow().as_ref().map(PackedWeights::version);
        if known != Some(version) {
            // An older copy is freed first, so that there are never two in memory.
            self.packed.replace(None);
            let matrices = self.sampled_matrices(is_whole);
            let codes = self.config.codebook_size as i64;
            let first = i64::from(self.config.image_offset());
            let pictures = (codes > 0).then_some((first, first + codes));
            let packed = PackedWeights::new(version, matrices, &self.head_weight()?, pictures.as_slice())?;
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

    /// Makes the matrices, [O, I], by which a sampler's pass multiplies, one after another, by the names of their first
    /// layers' weights: with the adapter's product merged in and, if `is_whole`, also those that are quantised. In bf16
    /// those that an adapter changes are left out, and it is added to each of their products: a merged weight would lose
    /// what is smaller than half a step of bf16, 0.2 to 0.4 % of the weight, and the sampler would lag behind training.
    fn sampled_matrices(&self, is_whole: bool) -> impl Iterator<Item = Result<(&str, Tensor)>> {
        let head = self.head_name();
        let table = format!("{PREFIX}.wte.weight");
        let adapter = move |name: &str| {
            let product = name.strip_suffix(".weight")?;
            let lora = self.lora.as_ref().filter(|lora| lora.adapts(product))?;
            Some((lora, product.to_owned()))
        };
        let stays_apart = move |name: &str| !self.merges_adapter() && adapter(name).is_some();
        // The embedding is looked up row by row and need not be packed, unless it is also the head.
        let leaves = self
            .parameters
            .leaves()
            .filter(move |(name, leaf)| leaf.dim() == 2 && (*name != table || *name == head))
            .filter(move |(name, _)| !stays_apart(name))
            .map(|(name, leaf)| Ok::<_, ModelError>((name, leaf.shallow_clone())));
        let quantized = self.quantized.leaves();
        let quantized = quantized.filter(move |(name, _)| is_whole && !stays_apart(name));
        let dequantized = quantized.map(|(name, weight)| weight.made().map(|made_OI| (name, made_OI)));
        leaves.chain(dequantized).map(move |matrix| {
            heartbeat::beat();
            let (name, weight_OI) = matrix?;
            let merged_OI = match adapter(name) {
                Some((lora, product)) => lora.merged(&product, weight_OI)?,
                None => weight_OI,
            };
            Ok((name, merged_OI))
        })
    }

    /// Returns whether a sampler's weights have the adapter's product in them ([`Self::sampled_matrices`]).
    fn merges_adapter(&self) -> bool {
        self.kind != Kind::BFloat16
    }

    /// Collects all blocks for one call, or `None` if the weights of a block are not packed.
    #[cfg(fused)]
    fn sampling_blocks(&self, packed: &PackedWeights) -> Result<Option<SamplingBlocks>> {
        let bias = |name: &str| self.parameters.leaf(&format!("{name}.bias")).ok();
        let norm = |name: &str| {
            Ok::<_, ModelError>(NormWeights {
                gain: self.parameters.leaf(&format!("{name}.weight"))?,
                bias: bias(name),
            })
        };
        let mut blocks = Vec::with_capacity(self.names.len());
        for names in &self.names {
            let layers = [&names.q, &names.attn_out, &names.gate, &names.down];
            let matrices = layers.map(|name| packed.get(&format!("{name}.weight")));
            let [Some(q), Some(attn_out), Some(gate), Some(down)] = matrices else {
                return Ok(None);
            };
            blocks.push(BlockWeights {
                attn_norm: norm(&names.attn_norm)?,
                ff_norm: norm(&names.ff_norm)?,
                qk_norms: match self.config.attention_layer_norm {
                    true => Some([norm(&names.q_norm)?, norm(&names.k_norm)?]),
                    false => None,
                },
                matrices: [q, attn_out, gate, down],
                biases: layers.map(|name| bias(name)),
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
        let last_norm = norm(&format!("{PREFIX}.ln_f"))?;
        SamplingBlocks::new(self.leaf("wte")?, last_norm, constants, &blocks).map(Some)
    }

    /// Makes the packed weights, so that twins share them.
    ///
    /// # Errors
    /// Returns libtorch's errors.
    pub fn ready_to_sample(&self) -> Result<()> {
        self.packed_weights().map(|_| ())
    }

    /// Drops the packed weights of a sampler's passes.
    pub(crate) fn forget_packed(&self) {
        self.packed.replace(None);
    }

    /// Computes logits for a sampler's pass ([`Self::run`]). They may differ from those of training in the
    /// last bits.
    ///
    /// # Errors
    /// Returns libtorch's errors.
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
}
