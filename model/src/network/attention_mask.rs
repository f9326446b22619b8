//! Which positions attend to which: the three regimes of the published code (`mmada.md` 1.5).

use tch::{Device, Kind, Tensor};

use crate::device::transfer::Packet;
use crate::error::{ModelError, Result};

/// The attention regime of one forward pass. Legend: B rows, L positions.
#[derive(Debug)]
pub enum AttentionMask {
    /// Everything attends to everything: no dense mask, the fast kernels apply.
    None,
    /// Pairs of real tokens attend; all that touches padding is shut out. Holds 1 where real, [B, L].
    Hard(Tensor),
    /// A hard mask where all padding is at the front: how many positions of it each of the B rows of L positions has. The
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
    /// Any error libtorch reports.
    pub fn bias(&self, kind: Kind, device: Device) -> Result<Option<Tensor>> {
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
                let real = pads
                    .iter()
                    .flat_map(|&pad| (0..*length).map(move |at| if at < pad { 0.0 } else { 1.0 }));
                let mut packet = Packet::new();
                let real = packet.floats(real);
                let real_bl = packet
                    .send(device)?
                    .get(real)
                    .f_view([pads.len() as i64, *length as i64])?;
                Ok(Some(shut_out(&pairs(&real_bl)?, kind)?))
            }
        }
    }
}

/// The score of a pair that does not attend. Finite, so that a padded row (all of its keys shut out) stays a number, also in
/// kernels that compute in base 2, whose scores are 1.44 times as far from 0.
pub(crate) const SHUT: f64 = -1e30;

/// 0 where a pair attends, a very low score where it does not.
fn shut_out(pairs: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(pairs.f_sub_scalar(1.0)?.f_mul_scalar(-SHUT)?.f_to_kind(kind)?)
}
