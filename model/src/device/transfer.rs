//! Transfers between the host and a device, which are counted.
//!
//! A copy from pageable memory waits for all work that was submitted to the device, and so does every read. The inputs
//! of a pass or a step are therefore packed into one [`Packet`] and sent in one asynchronous copy from pinned memory.
//! Results are concatenated on the device and read at once. On a CPU there are no transfers, but they are counted all
//! the same, so that tests can check the counts without a GPU.

use std::cell::Cell;

use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::Result;

/// The numbers of transfers of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crossings {
    /// The number of transfers from the host to the device.
    pub uploads: usize,
    /// The number of transfers back. Each waits for the device.
    pub reads: usize,
}

thread_local! {
    static CROSSINGS: Cell<Crossings> = const { Cell::new(Crossings { uploads: 0, reads: 0 }) };
}

/// Returns how often the current thread has uploaded and read.
#[must_use]
pub fn crossings() -> Crossings {
    CROSSINGS.get()
}

fn count(change: impl FnOnce(&mut Crossings)) {
    let mut crossings = CROSSINGS.get();
    change(&mut crossings);
    CROSSINGS.set(crossings);
}

/// Reads all values of a tensor as f64, in row-major order.
///
/// # Errors
/// Any error libtorch reports.
pub fn read(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(read_as(tensor, Kind::Double)?)?)
}

/// Reads all values of a tensor as f32, in row-major order.
///
/// # Errors
/// Any error libtorch reports.
pub fn read_f32(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::<f32>::try_from(read_as(tensor, Kind::Float)?)?)
}

fn read_as(tensor: &Tensor, kind: Kind) -> Result<Tensor> {
    count(|crossings| crossings.reads += 1);
    heartbeat::beat();
    Ok(tensor
        .f_detach()?
        .f_to_kind(kind)?
        .f_to_device(Device::Cpu)?
        .f_reshape([-1])?)
}

/// Lists of numbers that are sent to a device together.
#[derive(Debug, Default)]
pub struct Packet {
    parts: Vec<PacketPart>,
}

/// The index of a list in a packet, with which [`Arrived::get`] finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketPlace(usize);

#[derive(Debug)]
enum PacketPart {
    Longs(Vec<i64>),
    Ints(Vec<i32>),
    Floats(Vec<f32>),
    Doubles(Vec<f64>),
}

impl PacketPart {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Longs(values) => bytemuck::cast_slice(values),
            Self::Ints(values) => bytemuck::cast_slice(values),
            Self::Floats(values) => bytemuck::cast_slice(values),
            Self::Doubles(values) => bytemuck::cast_slice(values),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Longs(_) => Kind::Int64,
            Self::Ints(_) => Kind::Int,
            Self::Floats(_) => Kind::Float,
            Self::Doubles(_) => Kind::Double,
        }
    }

    fn tensor(&self) -> Result<Tensor> {
        Ok(match self {
            Self::Longs(values) => Tensor::f_from_slice(values)?,
            Self::Ints(values) => Tensor::f_from_slice(values)?,
            Self::Floats(values) => Tensor::f_from_slice(values)?,
            Self::Doubles(values) => Tensor::f_from_slice(values)?,
        })
    }
}

/// The alignment of each list of a packet, in bytes: a multiple of the size of every number, and of a kernel's vector
/// loads.
const ALIGNMENT: usize = 16;

impl Packet {
    /// Creates an empty packet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn push(&mut self, part: PacketPart) -> PacketPlace {
        self.parts.push(part);
        PacketPlace(self.parts.len() - 1)
    }

    /// Adds a list of i64.
    pub fn longs(&mut self, values: impl IntoIterator<Item = i64>) -> PacketPlace {
        self.push(PacketPart::Longs(values.into_iter().collect()))
    }

    /// Adds a list of i32.
    pub fn ints(&mut self, values: impl IntoIterator<Item = i32>) -> PacketPlace {
        self.push(PacketPart::Ints(values.into_iter().collect()))
    }

    /// Adds a list of f32.
    pub fn floats(&mut self, values: impl IntoIterator<Item = f32>) -> PacketPlace {
        self.push(PacketPart::Floats(values.into_iter().collect()))
    }

    /// Adds a list of f64.
    pub fn doubles(&mut self, values: impl IntoIterator<Item = f64>) -> PacketPlace {
        self.push(PacketPart::Doubles(values.into_iter().collect()))
    }

    /// Sends all lists to the device in one asynchronous copy.
    ///
    /// # Errors
    /// Any error libtorch reports.
    pub fn send(self, device: Device) -> Result<Arrived> {
        count(|crossings| crossings.uploads += 1);
        heartbeat::beat();
        let tensors = if device == Device::Cpu {
            self.parts.iter().map(PacketPart::tensor).collect::<Result<_>>()?
        } else {
            self.in_one(device)?
        };
        Ok(Arrived { tensors })
    }

    /// Copies the lists as one buffer, and views its parts as tensors.
    fn in_one(&self, device: Device) -> Result<Vec<Tensor>> {
        let mut bytes = Vec::new();
        let mut places = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0u8);
            places.push((bytes.len() as i64, part.bytes().len() as i64));
            bytes.extend_from_slice(part.bytes());
        }
        let whole = across(&Tensor::f_from_slice(&bytes)?, device)?;
        let parts = self.parts.iter().zip(places);
        parts
            .map(|(part, (at, length))| Ok(whole.f_narrow(0, at, length)?.f_view_dtype(part.kind())?))
            .collect()
    }
}

/// Copies a tensor to a device. To a GPU the copy is asynchronous, from pinned memory. libtorch's allocator owns that
/// memory and reuses it only after the copy is done.
fn across(host: &Tensor, device: Device) -> Result<Tensor> {
    if device.is_cuda() {
        let pinned = host.f_pin_memory(device)?;
        return Ok(pinned.f_to_device_(device, host.kind(), true, false)?);
    }
    Ok(host.f_to_device(device)?)
}

/// The lists of a packet, on the device.
#[derive(Debug)]
pub struct Arrived {
    tensors: Vec<Tensor>,
}

impl Arrived {
    /// Returns a list as a tensor of one dimension.
    pub fn get(&self, place: PacketPlace) -> Tensor {
        self.tensors[place.0].shallow_clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_packet_in_one_piece_holds_what_it_holds_in_many() {
        let mut packet = Packet::new();
        packet.ints([1, -2, 3]);
        packet.longs([i64::MAX, 5]);
        packet.floats([]);
        packet.floats([0.5, f32::MIN_POSITIVE, -1.0]);
        packet.doubles([1e-300]);
        packet.longs([7]);
        let apart: Vec<Tensor> = packet.parts.iter().map(|part| part.tensor().unwrap()).collect();
        for (one, other) in packet.in_one(Device::Cpu).unwrap().iter().zip(&apart) {
            assert_eq!((one.kind(), one.size()), (other.kind(), other.size()));
            assert!(one.equal(other), "{one:?} {other:?}");
        }
    }

    #[test]
    fn crossings_are_counted() {
        let before = crossings();
        let mut packet = Packet::new();
        let (longs, floats) = (packet.longs([1, 2]), packet.floats([0.5]));
        let arrived = packet.send(Device::Cpu).unwrap();
        assert_eq!(read(&arrived.get(longs)).unwrap(), [1.0, 2.0]);
        assert_eq!(read_f32(&arrived.get(floats)).unwrap(), [0.5]);
        let after = crossings();
        assert_eq!(
            (after.uploads - before.uploads, after.reads - before.reads),
            (1, 2)
        );
    }
}
