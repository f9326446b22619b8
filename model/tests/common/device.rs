//! The device that `tests/cuda.rs` tests: a GPU, or the CPU as a stand-in for one.
//!
//! `DEMASK_TEST_DEVICE=cuda:N` selects a GPU and panics if it is not there. `DEMASK_TEST_DEVICE=cpu` runs the
//! tests on the CPU in f64. The f64 path is composed of libtorch's operators, as on CUDA, and uses none of
//! the CPU kernels, so it exercises the tests themselves. Without the variable the tests use the first GPU,
//! and are skipped where there is none.

use std::sync::{Mutex, MutexGuard, PoisonError};

use demask_model::device::cuda::open_cuda;
use tch::{Device, Kind};

/// Serializes the tests. A device has one queue, and work of another test must not enter a CUDA graph
/// capture.
static TURN: Mutex<()> = Mutex::new(());

/// The device under test.
pub struct Tested {
    /// The device.
    pub device: Device,
    /// The kind in which results must match the CPU to 1e-4: f32 on a GPU, f64 on the CPU.
    pub exact: Kind,
    _turn: MutexGuard<'static, ()>,
}

impl Tested {
    /// Returns the device and the kind for comparisons to 1e-4.
    pub fn exact(&self) -> (Device, Kind) {
        (self.device, self.exact)
    }

    /// Returns the device and bf16.
    pub fn half(&self) -> (Device, Kind) {
        (self.device, Kind::BFloat16)
    }
}

/// The reference that every result is compared with: the CPU in f32.
pub const CPU: (Device, Kind) = (Device::Cpu, Kind::Float);

/// Returns the device under test, or prints that the test is skipped and returns `None`.
pub fn tested() -> Option<Tested> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = std::env::var("DEMASK_TEST_DEVICE").ok();
    let (device, exact) = match asked.as_deref() {
        Some("cpu") => (Device::Cpu, Kind::Double),
        // libtorch looks for CUDA once, so CUDA is opened before anything else asks libtorch for it.
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
