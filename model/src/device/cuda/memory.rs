//! The memory of a device, from which limits are computed.

use tch::Device;

/// The memory of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The memory that the driver has free for any process.
    pub free: u64,
    /// The memory of the device.
    pub total: u64,
    /// The memory that libtorch's caching allocator holds, in use or not.
    pub held: u64,
    /// The part of `held` that is in use.
    pub used: u64,
    /// The largest `used` since the start, or since [`forget_peak`].
    pub peak: u64,
}

impl Memory {
    /// Returns the memory for new tensors: what is free, and what libtorch holds but does not use. The latter is
    /// fragmented, so a single tensor may not get all of it.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free + self.held.saturating_sub(self.used)
    }
}

/// Returns the memory of a GPU, or `None` for a CPU or if the GPU's memory is not known.
#[must_use]
pub fn memory(device: Device) -> Option<Memory> {
    let Device::Cuda(number) = device else {
        return None;
    };
    if !super::open_cuda() {
        return None;
    }
    match super::shim::memory(number) {
        Ok(memory) => Some(memory),
        Err(error) => {
            tracing::warn!("the memory of cuda:{number} is unknown: {error}");
            None
        }
    }
}

/// Resets the peak of a GPU's memory. Does nothing on a CPU.
pub fn forget_peak(device: Device) {
    if let Device::Cuda(number) = device
        && super::open_cuda()
        && let Err(error) = super::shim::forget_peak(number)
    {
        tracing::warn!("cuda:{number}: {error}");
    }
}

/// Returns the memory that libtorch holds but does not use to the driver. Does nothing on a CPU.
pub fn release(device: Device) {
    if device.is_cuda()
        && super::open_cuda()
        && let Err(error) = super::shim::release()
    {
        tracing::warn!("{error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_has_no_memory_of_its_own() {
        assert_eq!(memory(Device::Cpu), None);
    }

    #[test]
    fn what_is_kept_and_not_used_is_available() {
        let memory = Memory {
            free: 10,
            total: 80,
            held: 30,
            used: 25,
            peak: 28,
        };
        assert_eq!(memory.available(), 15);
    }
}
