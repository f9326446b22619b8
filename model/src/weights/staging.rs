//! Staging: the transfer of stored bytes to a GPU. Several threads read them into pinned memory, which the device
//! copies by DMA.
//!
//! A copy directly from a mapped file reaches about a third of the bandwidth of the bus: one thread faults in every
//! page, and the driver then copies through its own small pinned buffers.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use tch::{Device, Kind, Tensor};

use crate::device::heartbeat;
use crate::error::Result;

/// The size of the buffer in bytes.
const BYTES: usize = 128 << 20;
/// The number of threads that read into it.
const READERS: usize = 4;

/// A buffer in host memory, pinned for a device.
#[derive(Debug)]
pub(crate) struct Staging {
    buffer: Tensor,
}

impl Staging {
    /// Allocates a buffer for a device.
    ///
    /// # Errors
    /// Any error libtorch reports, for example if no memory can be pinned.
    pub fn new(device: Device) -> Result<Self> {
        Self::of(BYTES, device)
    }

    fn of(bytes: usize, device: Device) -> Result<Self> {
        let buffer = Tensor::f_zeros([bytes as i64], (Kind::Uint8, Device::Cpu))?;
        Ok(Self {
            buffer: if device.is_cuda() {
                buffer.f_pin_memory(device)?
            } else {
                buffer
            },
        })
    }

    /// Copies `bytes` bytes of a file, from `offset` on, into a tensor. They are numbers of dtype `kind`, and are
    /// converted to the dtype of the tensor.
    ///
    /// # Errors
    /// Any error libtorch reports. An I/O error of the file is returned inside `Ok`.
    pub fn copy(
        &mut self,
        file: &File,
        (offset, bytes): (u64, usize),
        kind: Kind,
        into: &Tensor,
    ) -> Result<io::Result<()>> {
        let width = kind.elt_size_in_bytes();
        let room = self.buffer.numel() / width * width;
        let flat = into.f_view([-1])?;
        let mut at = 0;
        while at < bytes {
            heartbeat::beat();
            let length = room.min(bytes - at);
            if let Err(error) = self.read(file, offset + at as u64, length) {
                return Ok(Err(error));
            }
            let piece = self.buffer.f_narrow(0, 0, length as i64)?.f_view_dtype(kind)?;
            let mut place = flat.f_narrow(0, (at / width) as i64, (length / width) as i64)?;
            // The dtype is converted on the device. The copy must end here, because the buffer is then overwritten.
            tch::no_grad(|| place.f_copy_(&piece.f_to_device(into.device())?))?;
            at += length;
        }
        Ok(Ok(()))
    }

    /// Reads from the file into the first `length` bytes of the buffer.
    fn read(&mut self, file: &File, offset: u64, length: usize) -> io::Result<()> {
        // SAFETY: the buffer is not shared and has at least `length` bytes, and no device reads it now.
        let bytes = unsafe { std::slice::from_raw_parts_mut(self.buffer.data_ptr().cast::<u8>(), length) };
        let share = length.div_ceil(READERS).max(1);
        std::thread::scope(|scope| {
            let readers: Vec<_> = bytes
                .chunks_mut(share)
                .enumerate()
                .map(|(number, part)| {
                    scope.spawn(move || file.read_exact_at(part, offset + (number * share) as u64))
                })
                .collect();
            readers.into_iter().try_for_each(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|_| Err(io::Error::other("a reading thread panicked")))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_staged_in_pieces_arrives_whole() {
        let numbers: Vec<f32> = (0..1013).map(|number| number as f32 * 0.5).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"head").unwrap();
        for number in &numbers {
            file.write_all(&number.to_le_bytes()).unwrap();
        }
        for (kind, room) in [(Kind::Float, 131), (Kind::Double, 4), (Kind::BFloat16, 1 << 16)] {
            let into = Tensor::zeros([1013], (kind, Device::Cpu));
            let mut staging = Staging::of(room, Device::Cpu).unwrap();
            staging
                .copy(&file, (4, 4 * 1013), Kind::Float, &into)
                .unwrap()
                .unwrap();
            assert!(
                into.equal(&Tensor::from_slice(&numbers).to_kind(kind)),
                "{kind:?}"
            );
        }
        let short = Staging::of(64, Device::Cpu).unwrap().copy(
            &file,
            (4, 4 * 1014),
            Kind::Float,
            &Tensor::zeros([1014], (Kind::Float, Device::Cpu)),
        );
        assert!(short.unwrap().is_err(), "the file ends before");
    }
}
