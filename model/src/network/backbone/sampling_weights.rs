//! The packed weights of a sampler's passes: when they are made, and what uses them.

#![allow(non_snake_case)]

use std::cell::Ref;

use tch::Tensor;

use super::Backbone;
use crate::device::kernels::fused;
use crate::device::kernels::packed_weights::{self, PackedWeights};
#[cfg(fused)]
use crate::device::kernels::sampling_blocks::{BlockConstants, BlockWeights, SamplingBlocks};
#[cfg(fused)]
use crate::error::ModelError;
use crate::error::Result;
use crate::network::slots::PREFIX;

impl Backbone {
    /// Returns the packed weights for a sampler's passes, which exist on a CPU. They are made here if
    /// they are missing or older than the network's weights.
    pub(super) fn packed_weights(&self) -> Result<Option<Ref<'_, PackedWeights>>> {
        let bytes = self.parameters.count() * self.kind.elt_size_in_bytes() as u64;
        if !fused::applies_to(self.device, self.kind) || !packed_weights::are_kept(self.kind, bytes) {
            return Ok(None);
        }
        let version = self.parameters.version()?;
        let known = self.packed.borrow().as_ref().map(PackedWeights::version);
        if known != Some(version) {
            // An older copy is freed first, so that there are never two in memory.
            self.packed.replace(None);
            let head = self.head_name();
            let table = format!("{PREFIX}.wte.weight");
            // The embedding is looked up row by row and need not be packed, unless it is also the head.
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

    /// Collects all blocks for one call, or `None` if the network has something that the call does not compute: biases,
    /// an adapter, a quantised base.
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
