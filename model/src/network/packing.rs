//! The real tokens of left-padded rows, back to back: what the network then computes on. Legend: B rows of L positions, T real
//! tokens.

use tch::{Device, Kind};

use crate::device::kernels::fused::{self, PackedRows};
use crate::device::kernels::ragged::{self, RaggedRows};
use crate::device::kernels::rotary::{Rotary, Turns};
use crate::device::transfer::{Arrived, Packet, PacketPlace};
use crate::error::Result;

/// Packed rows on their device, by who turns and attends.
#[derive(Debug)]
pub enum Packing {
    /// The CPU's kernels.
    Kernel(PackedRows),
    /// libtorch's operators: what each token is turned by, [T, 1, E], and which tokens are a row.
    Composed(Turns, RaggedRows),
}

/// Whether rows of that length are packed there. The CPU's kernels take short rows; longer ones of their dtypes stay in
/// their rectangle, under a mask.
#[must_use]
pub fn packs(device: Device, kind: Kind, length: usize) -> bool {
    !fused::applies_to(device, kind) || fused::is_short(length)
}

/// A packing whose tables are in a packet that has not been sent.
#[derive(Debug)]
pub enum PlannedPacking {
    /// The index and the padding, of so many rows and positions.
    #[doc(hidden)]
    Kernel {
        index: PacketPlace,
        pads: PacketPlace,
        batch: i64,
        length: i64,
    },
    /// The positions and the rows.
    #[doc(hidden)]
    Composed(PacketPlace, ragged::PlannedRagged),
}

impl PlannedPacking {
    /// Plans rows with so much padding each, all of `length` positions.
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

    /// The packing, once the packet has arrived.
    ///
    /// # Errors
    /// libtorch's, beyond the longest sequence that the tables have.
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

/// The row and the position of every real token.
pub(crate) fn real_tokens(pads: &[usize], length: usize) -> impl Iterator<Item = (usize, usize)> {
    let rows = pads.iter().enumerate();
    rows.flat_map(move |(row, &pad)| (pad..length).map(move |at| (row, at)))
}
