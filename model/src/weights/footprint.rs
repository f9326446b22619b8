//! Whether a network's weights find room where they are to lie (law L9), before any of it is asked for.

use demask_api::{BackboneConfig, ImageTokenizerConfig, Purpose, memory};
use tch::{Device, Kind};

use crate::device::cuda;
use crate::error::{ModelError, Result};

/// Bytes of a number of the f32 master that is trained.
const MASTER: u64 = 4;

/// Whether a backbone's weights fit. What a step takes beside them is not counted.
///
/// # Errors
/// [`ModelError::Refused`] with the bytes that it takes and those that are free.
pub(crate) fn check(config: &BackboneConfig, device: Device, kind: Kind, purpose: Purpose) -> Result<()> {
    let width = kind.elt_size_in_bytes() as u64;
    let width = match purpose {
        Purpose::Sample => width,
        Purpose::Train if kind == Kind::Float => MASTER,
        Purpose::Train => MASTER + width,
    };
    fits(memory::backbone_bytes(config, width), device)
}

/// Whether a part of a backbone's weights fits that one of `ranks` keeps, for training.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_part(config: &BackboneConfig, device: Device, ranks: usize) -> Result<()> {
    let whole = memory::backbone_bytes(config, MASTER);
    fits(whole.map(|bytes| bytes / ranks.max(1) as u64), device)
}

/// Whether an image tokenizer's weights fit.
///
/// # Errors
/// As [`check`].
pub(crate) fn check_image_tokenizer(config: &ImageTokenizerConfig, device: Device) -> Result<()> {
    fits(memory::image_tokenizer_bytes(config), device)
}

/// On a GPU its whole memory is what counts: what libtorch keeps of it is used again.
fn fits(needed: Option<u64>, device: Device) -> Result<()> {
    let free = match device {
        Device::Cuda(_) => cuda::memory(device).map(|memory| memory.total),
        _ => memory::free(),
    };
    memory::fits(needed, free).map_err(|error| ModelError::Refused(error.to_string()))
}
