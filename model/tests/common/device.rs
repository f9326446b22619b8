//! The device that `tests/cuda.rs` is about: a GPU, or what stands in for one.
//!
//! `DEMASK_TEST_DEVICE` says `cuda:N`, which must be there then, or `cpu`: the tests run on the CPU in f64, which goes the way
//! that CUDA goes (composed of libtorch's operators, without the CPU's kernels), so that the tests themselves are tested.
//! Without it the first GPU is taken where there is one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_model::device::cuda::open_cuda;
use tch::{Device, Kind};

/// One test at a time: a device has one queue, and what is recorded must not meet another's work.
static TURN: Mutex<()> = Mutex::new(());

/// A device to be tested.
pub struct Tested {
    /// Where.
    pub device: Device,
    /// In which numbers it must be the CPU to 1e-4.
    pub exact: Kind,
    _turn: MutexGuard<'static, ()>,
}

impl Tested {
    /// The place of exact numbers.
    pub fn exact(&self) -> (Device, Kind) {
        (self.device, self.exact)
    }

    /// The place of half-precision numbers.
    pub fn half(&self) -> (Device, Kind) {
        (self.device, Kind::BFloat16)
    }
}

/// The CPU, which everything is compared with.
pub const CPU: (Device, Kind) = (Device::Cpu, Kind::Float);

/// The device; without one a line that says so.
pub fn tested() -> Option<Tested> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = std::env::var("DEMASK_TEST_DEVICE").ok();
    let (device, exact) = match asked.as_deref() {
        Some("cpu") => (Device::Cpu, Kind::Double),
        // Before anything else asks libtorch for CUDA, which looks for it once.
        _ if open_cuda() => {
            let number = asked.as_deref().and_then(|name| name.strip_prefix("cuda:"));
            let number = number.map_or(0, |number| number.parse().expect("DEMASK_TEST_DEVICE: cuda:N"));
            (Device::Cuda(number), Kind::Float)
        }
        Some(other) => panic!("DEMASK_TEST_DEVICE={other}: no such device here; expected cpu or cuda:N"),
        None => {
            println!("skipped: no GPU here (DEMASK_TEST_DEVICE=cpu tests the test)");
            return None;
        }
    };
    Some(Tested {
        device,
        exact,
        _turn: turn,
    })
}
