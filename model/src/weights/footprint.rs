//! The check that the weights of a network fit into memory, before any of it is allocated (law L9).

use demask_api::{BackboneConfig, FrozenBase, ImageTokenizerConfig, Purpose, memory};
use tch::{Device, Kind};

use crate::device::cuda;
use crate::error::{ModelError, Result};

/// The bytes of one number of the f32 master weights that are trained.
const MASTER: u64 = 4;

/// Checks that the weights of a backbone fit. The memory of a training step is not counted.
///
/// # Errors
/// [`ModelError::Refused`] if they do not, with the bytes that are needed and those that are free.
pub(crate) fn check(config: &BackboneConfig, device: Device, kind: Kind, purpose: Purpose) -> Result<()> {
    let width = kind.elt_size_in_bytes() as u64;
    let width = match purpose {
        Purpose::Sample => width,
        Purpose::Train if kind == Kind::Float => MASTER,
        Purpose::Train => MASTER + width,
    };
    fits(memory::backbone_bytes(config, width), device)
}

/// Checks that one rank's part of the weights of a backbone fits, if they are sharded over `ranks` ranks: of the f32
/// master for training, or of frozen weights in the compute dtype.
///
/// # Errors
/// The errors of [`check`].
pub(crate) fn check_part(
    config: &BackboneConfig,
    (device, kind): (Device, Kind),
    purpose: Purpose,
    ranks: usize,
) -> Result<()> {
    let width = match purpose {
        Purpose::Train => MASTER,
        Purpose::Sample => kind.elt_size_in_bytes() as u64,
    };
    let whole = memory::backbone_bytes(config, width);
    fits(whole.map(|bytes| bytes / ranks.max(1) as u64), device)
}

/// Checks that the weights of a backbone fit that is frozen beside an adapter, in the format `form`.
///
/// # Errors
/// The errors of [`check`].
pub(crate) fn check_frozen(
    config: &BackboneConfig,
    device: Device,
    kind: Kind,
    form: FrozenBase,
) -> Result<()> {
    fits(
        form.backbone_bytes(config, kind.elt_size_in_bytes() as u64),
        device,
    )
}

/// Checks that the weights of an image tokenizer fit.
///
/// # Errors
/// [`ModelError::Refused`] if they do not, with the bytes that are needed and those that are free.
pub(crate) fn check_image_tokenizer(config: &ImageTokenizerConfig, device: Device) -> Result<()> {
    fits(memory::image_tokenizer_bytes(config), device)
}

/// Compares the needed bytes with the free host memory, or with the total memory of a GPU, because libtorch reuses what
/// its caching allocator holds there.
fn fits(needed: Option<u64>, device: Device) -> Result<()> {
    let free = match device {
        Device::Cuda(_) => cuda::memory(device).map(|memory| memory.total),
        _ => memory::free(),
    };
    memory::fits(needed, free).map_err(|error| ModelError::Refused(error.to_string()))
}
