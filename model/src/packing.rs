//! The real tokens of left-padded rows, back to back: what the network then computes on. Legend: B rows of L positions, T real
//! tokens.

use tch::{Device, Kind, Tensor};

use crate::error::Result;
use crate::fused;
use crate::ragged::{self, RaggedRows};
use crate::rotary::{Rotary, Turns};
use crate::transfer::{Arrived, Packet, Place};

/// Packed rows on their device.
#[derive(Debug)]
pub struct Packing {
    /// Where in B x L each real token stands, [T], i64.
    pub index_t: Tensor,
    /// B.
    pub batch: i64,
    /// L.
    pub length: i64,
    /// Who attends.
    pub way: Way,
}

/// Who turns and attends.
#[derive(Debug)]
pub enum Way {
    /// The CPU's kernels, from the padding of each row, [B], i64.
    Kernel(Tensor),
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
pub struct Planned {
    index: Place,
    batch: usize,
    length: usize,
    way: PlannedWay,
}

#[derive(Debug)]
enum PlannedWay {
    Kernel(Place),
    Composed(Place, ragged::Planned),
}

impl Planned {
    /// Plans rows with so much padding each, all of `length` positions.
    pub fn new(pads: &[usize], length: usize, (device, kind): (Device, Kind), packet: &mut Packet) -> Self {
        let places = || {
            pads.iter()
                .enumerate()
                .flat_map(|(row, &pad)| (pad..length).map(move |at| (row, at)))
        };
        let index = packet.longs(places().map(|(row, at)| (row * length + at) as i64));
        let way = if fused::applies_to(device, kind) {
            PlannedWay::Kernel(packet.longs(pads.iter().map(|&pad| pad as i64)))
        } else {
            let positions = packet.longs(places().map(|(_, at)| at as i64));
            let lengths: Vec<usize> = pads.iter().map(|&pad| length - pad).collect();
            PlannedWay::Composed(positions, ragged::Planned::of_themselves(&lengths, packet))
        };
        Self {
            index,
            batch: pads.len(),
            length,
            way,
        }
    }

    /// The packing, once the packet has arrived.
    ///
    /// # Errors
    /// libtorch's, beyond the longest sequence that the tables have.
    pub fn arrive(self, arrived: &Arrived, rotary: &Rotary) -> Result<Packing> {
        let way = match self.way {
            PlannedWay::Kernel(pads) => Way::Kernel(arrived.get(pads)),
            PlannedWay::Composed(positions, rows) => {
                let turns = rotary.all().of(&arrived.get(positions))?.for_heads()?;
                Way::Composed(turns, rows.arrive(arrived))
            }
        };
        Ok(Packing {
            index_t: arrived.get(self.index),
            batch: self.batch as i64,
            length: self.length as i64,
            way,
        })
    }
}
