//! Packing: the real tokens of left-padded rows, back to back, so that the network does not compute on padding.
//! Legend: B rows of L positions, T real tokens.

use tch::{Device, Kind};

use crate::device::kernels::fused::{self, PackedRows};
use crate::device::kernels::ragged::{self, RaggedRows};
use crate::device::kernels::rotary::{Rotary, Turns};
use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::Result;

/// The tables of packed rows on their device, in one of two forms.
#[derive(Debug)]
pub enum Packing {
    /// For our CPU kernels.
    Kernel(PackedRows),
    /// For libtorch's operators: the rotary tables of each token, [T, 1, E], and the bounds of the rows.
    Composed(Turns, RaggedRows),
}

/// Returns whether rows of this length are packed. Our CPU kernels pack short rows only; longer rows in their dtypes
/// stay rectangular, with a mask.
#[must_use]
pub fn packs(device: Device, kind: Kind, length: usize) -> bool {
    !fused::applies_to(device, kind) || fused::is_short(length)
}

/// A packing whose tables are in a packet that has not been sent yet.
#[derive(Debug)]
pub enum PlannedPacking {
    /// The indices of the real tokens and the padding of each row.
    #[doc(hidden)]
    Kernel {
        index: PacketPlace,
        pads: PacketPlace,
        batch: i64,
        length: i64,
    },
    /// The positions of the tokens and the bounds of the rows.
    #[doc(hidden)]
    Composed(PacketPlace, ragged::PlannedRagged),
}

impl PlannedPacking {
    /// Plans the packing of rows of `length` positions, with the padding of each in `pads`.
    pub fn new(pads: &[usize], length: usize, (device, kind): (Device, Kind), packet: &mut Packet) -> Self {
        if fused::applies_to(device, kind) {
            return Self::Kernel {
                index: packet.longs(real_tokens(pads, length).map(|(row, at)| (row * length + at) as i64)),
                pads: packet.longs(pads.iter().map(|&pad| pad as i64)),
                batch: pads.len() as i64,
                length: length as i64,
            };
        }
        let positions = packet.longs(real_tokens(pads, length).map(|(_, at)| at as i64));
        let lengths: Vec<usize> = pads.iter().map(|&pad| length - pad).collect();
        Self::Composed(positions, ragged::PlannedRagged::of_themselves(&lengths, packet))
    }

    /// Returns the packing, once the packet has arrived.
    ///
    /// # Errors
    /// Any error libtorch reports, for example for a position beyond the rotary tables.
    pub fn arrive(self, arrived: &Arrived, rotary: &Rotary) -> Result<Packing> {
        Ok(match self {
            Self::Kernel {
                index,
                pads,
                batch,
                length,
            } => Packing::Kernel(PackedRows {
                index_T: arrived.get(index),
                pads_B: arrived.get(pads),
                batch,
                length,
            }),
            Self::Composed(positions, rows) => {
                let turns = rotary.all().of(&arrived.get(positions))?.for_heads()?;
                Packing::Composed(turns, rows.arrive(arrived))
            }
        })
    }
}

/// Returns the row and the position of every real token.
pub(crate) fn real_tokens(pads: &[usize], length: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = pads.iter().enumerate();
    rows.flat_map(move |(row, &pad)| (pad..length).map(move |at| (row, at)))
}
