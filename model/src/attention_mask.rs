//! Which positions attend to which: the three regimes of the published code (`mmada.md` 1.5).

use tch::{Kind, Tensor};

use crate::error::{ModelError, Result};

/// The attention regime of one forward pass. Legend: B rows, L positions.
#[derive(Debug)]
pub enum AttentionMask {
    /// Everything attends to everything: no dense mask, the fast kernels apply.
    None,
    /// Pairs of real tokens attend; all that touches padding is shut out. Holds 1 where real, [B, L].
    Hard(Tensor),
    /// The same where all padding is at the front: how many positions of it each of the B rows of L positions has. The
    /// kernels then never see padding; hidden states there are zero.
    LeftPads {
        /// Padding of each row.
        pads: Vec<usize>,
        /// L.
        length: usize,
    },
    /// Pairs of real tokens get +1 on their score, padding is merely weaker: what the published trainer did.
    LegacyPlusOne(Tensor),
}

impl AttentionMask {
    /// A hard mask where rows begin with padding; [`Self::None`] when none does.
    ///
    /// # Errors
    /// A row that is nothing but padding.
    pub fn from_left_pads(pads: &[usize], length: usize) -> Result<Self> {
        if let Some(pad) = pads.iter().find(|&&pad| pad >= length) {
            return Err(ModelError::Refused(format!(
                "a row of {length} positions with {pad} of padding: nothing is left"
            )));
        }
        Ok(if pads.iter().all(|&pad| pad == 0) {
            Self::None
        } else {
            Self::LeftPads {
                pads: pads.to_vec(),
                length,
            }
        })
    }

    /// The bias added to the scores, [B, 1, L, L] in `kind`, if there is one.
    ///
    /// # Errors
    /// libtorch's.
    pub fn bias(&self, kind: Kind, device: tch::Device) -> Result<Option<Tensor>> {
        let pairs = |real_bl: &Tensor| -> Result<Tensor> {
            let real_bl = real_bl.f_to_device(device)?.f_to_kind(Kind::Float)?;
            Ok(real_bl
                .f_unsqueeze(2)?
                .f_mul(&real_bl.f_unsqueeze(1)?)?
                .f_unsqueeze(1)?)
        };
        match self {
            Self::None => Ok(None),
            Self::LegacyPlusOne(real_bl) => Ok(Some(pairs(real_bl)?.f_to_kind(kind)?)),
            Self::Hard(real_bl) => Ok(Some(shut_out(&pairs(real_bl)?, kind)?)),
            Self::LeftPads { pads, length } => {
                let real: Vec<f32> = pads
                    .iter()
                    .flat_map(|&pad| (0..*length).map(move |at| if at < pad { 0.0 } else { 1.0 }))
                    .collect();
                let real_bl = Tensor::f_from_slice(&real)?.f_view([pads.len() as i64, *length as i64])?;
                Ok(Some(shut_out(&pairs(&real_bl)?, kind)?))
            }
        }
    }
}

/// 0 where a pair attends, a very low score where it does not. Finite, so that a padded row (all of its keys shut out)
/// stays a number.
fn shut_out(pairs: &Tensor, kind: Kind) -> Result<Tensor> {
    let shut = if kind == Kind::Float { -3.0e38 } else { -3.0e37 };
    Ok(pairs.f_sub_scalar(1.0)?.f_mul_scalar(-shut)?.f_to_kind(kind)?)
}

/// The real tokens of left-padded rows, back to back: what the fused kernels compute on. Legend: B rows of L positions,
/// T real tokens.
#[derive(Debug)]
pub struct Packing {
    /// Where in B x L each real token stands, [T], i64.
    pub index_t: Tensor,
    /// Padding of each row, [B], i64.
    pub pads_b: Tensor,
    /// B.
    pub batch: i64,
    /// L.
    pub length: i64,
}

impl Packing {
    /// The packing of left-padded rows.
    ///
    /// # Errors
    /// libtorch's.
    pub fn new(pads: &[usize], length: usize) -> Result<Self> {
        let index: Vec<i64> = pads
            .iter()
            .enumerate()
            .flat_map(|(row, &pad)| (pad..length).map(move |at| (row * length + at) as i64))
            .collect();
        let pads: Vec<i64> = pads.iter().map(|&pad| pad as i64).collect();
        Ok(Self {
            index_t: Tensor::f_from_slice(&index)?,
            pads_b: Tensor::f_from_slice(&pads)?,
            batch: pads.len() as i64,
            length: length as i64,
        })
    }
}
