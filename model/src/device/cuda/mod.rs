//! libtorch's CUDA half: opened at start-up where there is one, settled, and asked what a device has left.
//!
//! The programs are linked against the CPU half alone, so that one build serves both. [`open`] must come before whatever asks
//! libtorch for CUDA (`tch::Cuda`, `tch::manual_seed`, any backward pass): libtorch looks once in a process. Where it does not,
//! that is told as [`Cuda::AskedTooEarly`].

mod determinism;
mod driver;
pub mod graph;
mod library;
mod memory;
mod opening;
mod shim;

use std::sync::OnceLock;

use demask_api::Cuda;

pub use determinism::{DETERMINISTIC, deterministic, leniently, set_deterministic, strictly};
pub use library::library_folder;
pub use memory::{Memory, forget_peak, memory, release};
pub use opening::open_library;

/// Keeps the engine from looking for CUDA.
pub const NO_CUDA: &str = "DEMASK_NO_CUDA";

static FOUND: OnceLock<Cuda> = OnceLock::new();

/// Opens the CUDA half where it can be used, once in a process, and sets how it computes; what was found.
pub fn open() -> &'static Cuda {
    FOUND.get_or_init(|| {
        if std::env::var_os(NO_CUDA).is_some() {
            let because = format!("{NO_CUDA} is set");
            return Cuda::Off { because };
        }
        look().unwrap_or_else(|fault| fault)
    })
}

/// Whether CUDA can be used; opens it.
pub fn open_cuda() -> bool {
    open().is_ready()
}

/// Whether something asked libtorch for its CUDA half before it was open: the process is then without CUDA for good.
#[must_use]
pub fn asked_too_early() -> bool {
    shim::asked()
}

/// Version of the libtorch that runs.
#[must_use]
pub fn torch_version() -> String {
    shim::version()
}

/// Whether there are NVIDIA device files, whatever else is missing.
#[must_use]
pub fn has_device_files() -> bool {
    driver::has_nodes()
}

/// Looks at one thing after the other; the first that is wrong is what is told.
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
        let message = format!("libtorch sees {seen} devices where the driver has {counted}");
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
