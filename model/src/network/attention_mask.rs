//! The attention mask: the three regimes of the published code (`mmada.md` 1.5).

use tch::{Device, Kind, Tensor};

use crate::device::transfer::Packet;
use crate::error::{ModelError, Result};

/// The attention regime of one forward pass. Legend: B rows, L positions.
#[derive(Debug)]
pub enum AttentionMask {
    /// All positions attend to all. There is no dense mask, so the fast kernels apply.
    None,
    /// Real tokens attend to real tokens only. The tensor is 1 at real tokens and 0 at padding, [B, L].
    Hard(Tensor),
    /// A hard mask for rows whose padding is all at the front. Kernels then skip the padding, and its hidden states
    /// are 0.
    LeftPads {
        /// The number of padding positions of each of the B rows.
        pads: Vec<usize>,
        /// The number of positions of each row, L.
        length: usize,
    },
    /// Pairs of real tokens get +1 on their score, and padding still attends: the behaviour of the published trainer.
    /// The tensor is as in [`Self::Hard`].
    LegacyPlusOne(Tensor),
}

impl AttentionMask {
    /// Creates a hard mask for rows with padding at the front, or [`Self::None`] if no row has padding.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if a row is nothing but padding.
    pub fn from_left_pads(pads: &[usize], length: usize) -> Result<Self> {
        if let Some(pad) = pads.iter().find(|&&pad| pad >= length) {
            return Err(ModelError::Refused(format!(
                "a row has {length} positions, of which {pad} are padding; expected at least one token"
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

    /// Builds the bias that is added to the scores, [B, 1, L, L] in `kind`. [`Self::None`] has no bias.
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

/// The bias of a pair that does not attend. It is finite, so that the softmax of a padding row, which attends to
/// nothing, is not NaN. It stays finite in kernels that compute in base 2, where scores are 1.44 times as large.
pub(crate) const SHUT: f64 = -1e30;

/// Returns a bias of 0 for pairs that attend and [`SHUT`] for those that do not.
fn shut_out(pairs: &Tensor, kind: Kind) -> Result<Tensor> {
    Ok(pairs.f_sub_scalar(1.0)?.f_mul_scalar(-SHUT)?.f_to_kind(kind)?)
}
