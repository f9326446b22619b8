//! Which positions attend to which: the three regimes of the published code (`mmada.md` 1.5).

use tch::{Kind, Tensor};

use crate::error::Result;

/// The attention regime of one forward pass. Legend: B rows, L positions.
#[derive(Debug)]
pub enum AttentionMask {
    /// Everything attends to everything: no dense mask, the fast kernels apply.
    None,
    /// Pairs of real tokens attend; all that touches padding is shut out. Holds 1 where real, [B, L].
    Hard(Tensor),
    /// Pairs of real tokens get +1 on their score, padding is merely weaker: what the published trainer did.
    LegacyPlusOne(Tensor),
}

impl AttentionMask {
    /// A hard mask where rows begin with padding; [`Self::None`] when none does.
    ///
    /// # Errors
    /// libtorch's.
    pub fn from_left_pads(pads: &[usize], length: usize) -> Result<Self> {
        if pads.iter().all(|&pad| pad == 0) {
            return Ok(Self::None);
        }
        let real: Vec<f32> = pads
            .iter()
            .flat_map(|&pad| (0..length).map(move |at| if at < pad { 0.0 } else { 1.0 }))
            .collect();
        Ok(Self::Hard(
            Tensor::f_from_slice(&real)?.f_view([pads.len() as i64, length as i64])?,
        ))
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
            Self::Hard(real_bl) => {
                // Finite, so that a padded row (all of its keys shut out) stays a number.
                let shut = if kind == Kind::Float { -3.0e38 } else { -3.0e37 };
                let bias = (pairs(real_bl)?.f_sub_scalar(1.0)?).f_mul_scalar(-shut)?;
                Ok(Some(bias.f_to_kind(kind)?))
            }
        }
    }
}
