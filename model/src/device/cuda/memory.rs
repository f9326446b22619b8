//! What a device has left: what there is to work out limits from.

use tch::Device;

/// A device's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// What the driver would still give, to anybody.
    pub free: u64,
    /// What the device has.
    pub total: u64,
    /// What libtorch holds of it, in use or kept for what comes next.
    pub held: u64,
    /// What of that is in use.
    pub used: u64,
    /// The most that was in use since the start, or since [`forget_peak`].
    pub peak: u64,
}

impl Memory {
    /// What new tensors may take: what is free, and what libtorch keeps without using it (in pieces, so not always as a
    /// whole).
    #[must_use]
    pub fn available(&self) -> u64 {
        self.free + self.held.saturating_sub(self.used)
    }
}

/// A device's memory; none of the CPU's, and none where the device cannot say.
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
            tracing::warn!("the memory of cuda:{number} is not known: {error}");
            None
        }
    }
}

/// Counts the most that is in use from here on; nothing to do on the CPU.
pub fn forget_peak(device: Device) {
    if let Device::Cuda(number) = device
        && super::open_cuda()
        && let Err(error) = super::shim::forget_peak(number)
    {
        tracing::warn!("cuda:{number}: {error}");
    }
}

/// Gives back to the driver what libtorch keeps of a device's memory without using it; nothing to do on the CPU.
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
