//! The full forward pass of the backbone: every position of every row, without a cache. Training, scoring and
//! verification use it. A sampler's passes are in `kv_cache.rs`.
//!
//! Legend: B rows, L positions, T real tokens of packed rows, D width, H query heads, K key and value heads, E head
//! width.

#![allow(non_snake_case)]

use tch::Tensor;

use crate::device::kernels::fused::{self, PackedRows};
use crate::device::kernels::ragged::RaggedRows;
use crate::device::kernels::rotary::Turns;
use crate::device::transfer::Packet;
use crate::error::{ModelError, Result};
use crate::network::attention_mask::AttentionMask;
use crate::network::backbone::Backbone;
use crate::network::packing::{self, Packing, real_tokens};

/// A full forward pass: the tokens, and how they attend.
#[derive(Debug)]
pub(crate) struct FullPass {
    /// [B, L], or [1, T] of packed rows.
    ids_BL: Tensor,
    attending: Attending,
    /// The numbers of the tokens whose hidden states are read, [N]; none where all are.
    wanted_N: Option<Tensor>,
}

/// The way in which the blocks attend.
#[derive(Debug)]
enum Attending {
    /// Rows of one length, with a bias on their scores.
    Rectangle(Turns, Option<Tensor>),
    /// Packed rows, with our CPU kernels.
    Kernel(Turns, PackedRows),
    /// Packed rows, with libtorch's operators.
    Composed(Turns, RaggedRows),
}

impl FullPass {
    /// Creates a pass over unpacked rows, [B, L] token ids.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the rows are longer than the model's longest sequence, or any error libtorch reports.
    pub fn of_rows(backbone: &Backbone, ids_BL: Tensor, mask: &AttentionMask) -> Result<Self> {
        let length = admitted(backbone, &ids_BL)?;
        let bias = mask.bias(backbone.kind(), backbone.device())?;
        let attending = Attending::Rectangle(backbone.rotary().at(length)?, bias);
        Ok(Self {
            ids_BL,
            attending,
            wanted_N: None,
        })
    }

    /// Creates a pass over packed rows, [T] token ids.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn of_packed(backbone: &Backbone, ids_T: &Tensor, packing: Packing) -> Result<Self> {
        let attending = match packing {
            Packing::Kernel(rows) => Attending::Kernel(backbone.rotary().at(rows.length)?, rows),
            Packing::Composed(turns, rows) => Attending::Composed(turns, rows),
        };
        let ids_BL = ids_T.f_unsqueeze(0)?;
        Ok(Self {
            ids_BL,
            attending,
            wanted_N: None,
        })
    }

    /// Restricts the hidden states to those of some tokens, by their numbers [N]: behind the last attention nothing is
    /// computed for the others.
    pub fn reading(self, wanted_N: Tensor) -> Self {
        Self {
            wanted_N: Some(wanted_N),
            ..self
        }
    }

    /// The numbers of the tokens whose hidden states are read, [N], unless all are.
    pub fn wanted(&self) -> Option<&Tensor> {
        self.wanted_N.as_ref()
    }

    /// Returns the token ids, [B, L].
    pub fn ids(&self) -> &Tensor {
        &self.ids_BL
    }

    /// Computes the attention of a block from its stacked projection of queries, keys and values.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn attend(&self, backbone: &Backbone, block: usize, joined: Tensor) -> Result<Tensor> {
        let joined = match backbone.norms(block)? {
            Some(norms) => norms.apply(&joined)?,
            None => joined,
        };
        match &self.attending {
            Attending::Rectangle(turns, bias) => backbone.attend(&joined, turns, bias.as_ref()),
            Attending::Kernel(turns, rows) => backbone.attend_packed(&joined, turns, rows),
            Attending::Composed(turns, rows) => backbone.attend_ragged(&joined, turns, rows),
        }
    }
}

/// Returns the length of the rows, or an error if it exceeds the model's longest sequence.
fn admitted(backbone: &Backbone, ids_BL: &Tensor) -> Result<i64> {
    let (_, length) = ids_BL.size2()?;
    let longest = backbone.config().max_sequence_length;
    if length as usize > longest {
        return Err(ModelError::Refused(format!(
            "the sequence has {length} tokens; the model takes at most {longest}"
        )));
    }
    Ok(length)
}

impl Backbone {
    /// Computes the hidden states after the last norm: [B, L] token ids to [B, L, D].
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the rows are longer than the model's longest sequence, or any error libtorch reports.
    pub fn hidden(&self, ids_BL: &Tensor, mask: &AttentionMask) -> Result<Tensor> {
        admitted(self, ids_BL)?;
        if let AttentionMask::LeftPads { pads, length } = mask
            && packing::packs(self.device(), self.kind(), *length)
        {
            return self.unpacked(ids_BL, pads, *length);
        }
        self.whole(&FullPass::of_rows(self, ids_BL.shallow_clone(), mask)?)
    }

    /// Computes the hidden states on the packed real tokens and unpacks them. The hidden states of padding are 0.
    fn unpacked(&self, ids_BL: &Tensor, pads: &[usize], length: usize) -> Result<Tensor> {
        let place = (self.device(), self.kind());
        let mut packet = Packet::new();
        let planned = packing::PlannedPacking::new(pads, length, place, &mut packet);
        let index = packet.longs(real_tokens(pads, length).map(|(row, at)| (row * length + at) as i64));
        let arrived = packet.send(place.0)?;
        let (packing, index_T) = (planned.arrive(&arrived, self.rotary())?, arrived.get(index));
        let ids_T = ids_BL.f_flatten(0, 1)?.f_index_select(0, &index_T)?;
        let x_BTD = self.whole(&FullPass::of_packed(self, &ids_T, packing)?)?;
        let x_TD = x_BTD.f_squeeze_dim(0)?;
        let (batch, length, width) = (pads.len() as i64, length as i64, x_TD.size()[1]);
        Ok(Tensor::f_zeros([batch * length, width], (place.1, place.0))?
            .f_index_copy(0, &index_T, &x_TD)?
            .f_view([batch, length, width])?)
    }

    /// Plans the packing of left-padded rows. Returns `None` if there is no padding or rows of this length are not
    /// packed.
    pub(crate) fn plan_packing(
        &self,
        pads: &[usize],
        length: usize,
        packet: &mut Packet,
    ) -> Option<packing::PlannedPacking> {
        let place = (self.device(), self.kind());
        let packs = pads.iter().any(|&pad| pad > 0) && packing::packs(place.0, place.1, length);
        packs.then(|| packing::PlannedPacking::new(pads, length, place, packet))
    }

    /// Computes the hidden states after the last norm without keeping keys and values: in the shape of the pass's
    /// tokens, or [1, N, D] where the pass reads N of them.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub(crate) fn whole(&self, pass: &FullPass) -> Result<Tensor> {
        self.blocks(pass.ids(), None, pass.wanted(), |block, joined| {
            pass.attend(self, block, joined)
        })
    }

    /// Returns the numbers of query heads and of key and value heads, and the head width.
    fn heads(&self) -> (i64, i64, i64) {
        let config = self.config();
        (
            config.n_heads as i64,
            config.kv_heads() as i64,
            config.head_dim() as i64,
        )
    }

    fn attend(&self, joined: &Tensor, turns: &Turns, bias: Option<&Tensor>) -> Result<Tensor> {
        let (heads, kv_heads, width) = self.heads();
        let [q_BHLE, k_BKLE, v_BKLE] = fused::split_turn(joined, turns, heads, kv_heads, width, None)?;
        fused::attend(&q_BHLE, &k_BKLE, &v_BKLE, bias, None)
    }

    /// Attends over packed rows with our CPU kernels.
    fn attend_packed(&self, joined: &Tensor, turns: &Turns, rows: &PackedRows) -> Result<Tensor> {
        let (heads, kv_heads, width) = self.heads();
        let [q_BHLE, k_BKLE, v_BKLE] = fused::split_turn(joined, turns, heads, kv_heads, width, Some(rows))?;
        fused::attend(&q_BHLE, &k_BKLE, &v_BKLE, None, Some(rows))
    }

    /// Attends over packed rows with libtorch's operators.
    fn attend_ragged(&self, joined: &Tensor, turns: &Turns, rows: &RaggedRows) -> Result<Tensor> {
        let (heads, kv_heads, width) = self.heads();
        let joined_TP = joined.f_squeeze_dim(0)?;
        let [q_THE, k_TKE, v_TKE] = fused::split_turn_composed(&joined_TP, turns, heads, kv_heads, width)?;
        Ok(rows.attend(&q_THE, &k_TKE, &v_TKE)?.f_unsqueeze(0)?)
    }
}
