//! libtorch's CUDA libraries: they are loaded at start-up if there are any, configured, and asked for a device's
//! memory.
//!
//! The programs are linked with libtorch's CPU libraries only, so that one build runs on machines with and without a
//! GPU. libtorch looks for CUDA once in a process. [`open`] must therefore run before anything that asks libtorch for
//! CUDA (`tch::Cuda`, `tch::manual_seed`, any backward pass). If it runs too late, it reports [`Cuda::AskedTooEarly`].
//!
//! - `opening.rs`: finding and loading the libraries; `library.rs`: dynamic loading; `driver.rs`: the query of the
//!   driver;
//! - `shim.rs`: calls into the loaded libraries; `memory.rs`: the memory of a device;
//! - `determinism.rs`: deterministic operators; `graph.rs`: CUDA graphs.

mod determinism;
mod driver;
pub mod graph;
mod library;
mod memory;
mod opening;
mod shim;

use std::sync::OnceLock;

use demask_api::Cuda;
use tch::Device;

use crate::error::Result as ModelResult;

pub use determinism::{DETERMINISTIC, deterministic, leniently, set_deterministic, strictly};
pub use library::library_folder;
pub use memory::{Memory, forget_peak, memory, release};
pub use opening::open_library;

/// The environment variable that keeps the engine from looking for CUDA.
pub const NO_CUDA: &str = "DEMASK_NO_CUDA";

static FOUND: OnceLock<Cuda> = OnceLock::new();

/// Loads the CUDA libraries if they can be used, once in a process, and configures them. Returns what was found.
pub fn open() -> &'static Cuda {
    FOUND.get_or_init(|| {
        if std::env::var_os(NO_CUDA).is_some() {
            let because = format!("{NO_CUDA} is set");
            return Cuda::Off { because };
        }
        look().unwrap_or_else(|fault| fault)
    })
}

/// Loads the CUDA libraries as [`open`] does, and returns whether CUDA can be used.
pub fn open_cuda() -> bool {
    open().is_ready()
}

/// Returns whether something asked libtorch for CUDA before the libraries were loaded. The process then stays without
/// CUDA.
#[must_use]
pub fn asked_too_early() -> bool {
    shim::asked()
}

/// Returns the version of the libtorch that is loaded.
#[must_use]
pub fn torch_version() -> String {
    shim::version()
}

/// Returns whether there are NVIDIA device files, whatever else is missing.
#[must_use]
pub fn has_device_files() -> bool {
    driver::has_nodes()
}

/// Makes a GPU the current one of this thread, which computes. The first one is current from the start.
///
/// # Errors
/// Returns libtorch's errors.
pub fn make_current(number: usize) -> ModelResult<()> {
    match number {
        0 => Ok(()),
        _ => shim::make_current(number),
    }
}

/// Returns the identity of a GPU, or of the part of it that the process sees. No other GPU has it on any machine. `None`
/// for a CPU, or if the driver does not tell it.
#[must_use]
pub fn identity(device: Device) -> Option<String> {
    let Device::Cuda(number) = device else {
        return None;
    };
    open_cuda().then(|| driver::identity(number)).flatten()
}

/// Checks one requirement after the other, and returns the first fault.
fn look() -> Result<Cuda, Cuda> {
    if asked_too_early() {
        return Err(Cuda::AskedTooEarly);
    }
    let found = driver::ask()?;
    if let Some(runtime) = opening::runtime_version() {
        opening::serves(found.cuda, runtime)?;
    }
    opening::open_library()?;
    let runtime = opening::runtime_version();
    opening::serves(found.cuda, runtime.unwrap_or(0))?;
    let failed = |message: String| Cuda::NotOpened {
        library: "libtorch's CUDA half".into(),
        message,
    };
    let (seen, counted) = (tch::Cuda::device_count(), found.devices.len());
    if usize::try_from(seen).unwrap_or(0) < counted {
        let message = format!("libtorch sees {seen} devices, but the driver reports {counted}");
        return Err(driver::no_device(message));
    }
    shim::settle().map_err(|error| failed(error.to_string()))?;
    set_deterministic(deterministic()).map_err(|error| failed(error.to_string()))?;
    let mut driver = driver::version(found.cuda);
    if let Some(release) = driver::release() {
        driver = format!("{driver} ({release})");
    }
    Ok(Cuda::Ready {
        devices: found.devices,
        driver,
        runtime: runtime.map(driver::version).unwrap_or_default(),
    })
}
