//! The loading of libtorch's CUDA libraries: where they are searched for, and the libraries that they load by
//! themselves at run time but would not find.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::path::{Path, PathBuf};

use demask_api::Cuda;

use super::library::{Library, is_called, library_folder, loaded};
use super::{driver, shim};

/// The main library of libtorch's CUDA code.
const LIBRARY: &str = "libtorch_cuda.so";
/// The prefix of the libtorch versions that these crates support.
const NEEDED: &str = "2.11.";

/// Loads the CUDA libraries: from the folder of the loaded `libtorch_cpu.so`, else from a folder of `LD_LIBRARY_PATH`,
/// else from where the dynamic linker finds them. Then it loads the libraries that they would not find later. It does
/// not check whether there is a device.
///
/// # Errors
/// The reason why CUDA cannot be used: there is no library, it has another version, or it cannot be loaded.
pub fn open_library() -> Result<(), Cuda> {
    fits("libtorch", &shim::version())?;
    let folders = folders();
    let beside = folders.iter().map(|folder| folder.join(LIBRARY));
    let Some(path) = beside.into_iter().find(|path| path.exists()) else {
        return after(Library::open(LIBRARY).map_err(|message| unfound(&folders, message))?);
    };
    if let Some(version) = version_of(&path) {
        fits(&path.display().to_string(), &version)?;
    }
    let opened = Library::open(&path).map_err(|message| not_opened(&path, message))?;
    after(opened)
}

/// Loads the libraries that depend on the main one: linear algebra, which only some versions have in a library of its
/// own, and the compiler, because cuDNN and fused kernels are compiled at run time.
fn after(_: Library) -> Result<(), Cuda> {
    Library::open("libtorch_cuda_linalg.so").ok();
    open_compiler()
}

/// Loads NVRTC and its built-ins by their full paths. libtorch and cuDNN load them by name, and the dynamic linker does
/// not search the folders where Python packages put them.
fn open_compiler() -> Result<(), Cuda> {
    for name in ["libnvrtc-builtins.so", "libnvrtc.so"] {
        let Some(path) = compiler_folders().iter().find_map(|folder| within(folder, name)) else {
            tracing::warn!(
                "there is no {name} beside CUDA's other libraries, so kernels that are compiled at run time may fail"
            );
            continue;
        };
        Library::open(&path).map_err(|message| not_opened(&path, message))?;
    }
    Ok(())
}

/// Returns the folders of the loaded CUDA libraries, and for each the folder where packages of CUDA 12 put the
/// compiler.
fn compiler_folders() -> BTreeSet<PathBuf> {
    let of_cuda = |path: &PathBuf| {
        let names = ["libcudart.so", "libcublas.so", "libcufft.so"];
        names.iter().any(|name| is_called(path, name))
    };
    let folders = loaded().into_iter().filter(of_cuda);
    let folders = folders.filter_map(|path| path.parent().map(Path::to_owned));
    folders
        .flat_map(|folder| {
            let apart = folder.join("../../cuda_nvrtc/lib");
            [folder, apart]
        })
        .collect()
}

/// Returns the library of this name in a folder, with the highest version.
fn within(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_called(path, name))
        .collect();
    found.sort();
    found.pop()
}

/// Returns the folders in which the main library is searched for.
fn folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = library_folder().into_iter().collect();
    if let Some(named) = std::env::var_os("LD_LIBRARY_PATH") {
        folders.extend(std::env::split_paths(&named).filter(|folder| folder.is_absolute()));
    }
    folders
}

/// Returns the version of the Python package that a library belongs to.
fn version_of(library: &Path) -> Option<String> {
    let text = std::fs::read_to_string(library.parent()?.parent()?.join("version.py")).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("__version__ = '"))?;
    Some(line.trim_end_matches('\'').to_owned())
}

/// Checks that a version is supported. An unknown (empty) version passes.
fn fits(what: &str, version: &str) -> Result<(), Cuda> {
    if version.is_empty() || version.starts_with(NEEDED) {
        return Ok(());
    }
    Err(Cuda::OtherVersion {
        found: format!("{what} of version {version}"),
        needed: "PyTorch 2.11 (`pip install torch==2.11.0`), which this engine was built for".into(),
    })
}

/// Returns the version of the loaded CUDA runtime, or `None` if none is loaded.
pub(super) fn runtime_version() -> Option<i32> {
    // SAFETY: the runtime's function of this name takes a pointer to a number.
    let ask: unsafe extern "C" fn(*mut c_int) -> c_int =
        unsafe { Library::everything().function(c"cudaRuntimeGetVersion") }?;
    let mut version = 0;
    // SAFETY: the pointer is to a number that the function may write.
    (unsafe { ask(&mut version) } == 0).then_some(version)
}

/// Checks that a driver supports a CUDA runtime: its major version must be at least the runtime's.
///
/// # Errors
/// [`Cuda::OtherVersion`] if the driver is too old.
pub(super) fn serves(driver: i32, runtime: i32) -> Result<(), Cuda> {
    if driver / 1000 >= runtime / 1000 {
        return Ok(());
    }
    let release = driver::release()
        .map(|release| format!(" {release}"))
        .unwrap_or_default();
    let least = match runtime / 1000 {
        13 => ", 580 or later",
        12 => ", 525 or later",
        _ => "",
    };
    let runtime = driver::version(runtime);
    Err(Cuda::OtherVersion {
        found: format!("NVIDIA's driver{release} for CUDA {}", driver::version(driver)),
        needed: format!(
            "a driver for CUDA {runtime}{least}, or a PyTorch 2.11 built for the CUDA that this driver serves"
        ),
    })
}

/// Interprets the message of the dynamic linker's own search: there is no library, or one was found that cannot be
/// loaded.
fn unfound(folders: &[PathBuf], message: String) -> Cuda {
    if !message.starts_with(LIBRARY) {
        return not_opened(Path::new(LIBRARY), message);
    }
    let mut looked: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    looked.push("the linker's default folders".into());
    Cuda::NoLibrary { looked }
}

fn not_opened(path: &Path, message: String) -> Cuda {
    Cuda::NotOpened {
        library: path.display().to_string(),
        message,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_driver_serves_its_own_major_version_and_older_ones() {
        assert_eq!(serves(13_000, 13_000), Ok(()));
        assert_eq!(serves(13_010, 12_080), Ok(()));
        assert_eq!(
            serves(13_000, 13_010),
            Ok(()),
            "within a major version minor ones mix"
        );
        let old = serves(12_040, 13_000).unwrap_err().to_string();
        assert!(
            old.contains("for CUDA 12.4") && old.contains("580 or later"),
            "{old}"
        );
    }

    #[test]
    fn another_libtorch_is_told_by_its_version() {
        assert_eq!(fits("libtorch", "2.11.0"), Ok(()));
        let other = fits("libtorch", "2.10.1").unwrap_err().to_string();
        assert!(other.contains("libtorch of version 2.10.1"), "{other}");
    }

    #[test]
    fn a_packages_version_is_read_beside_its_libraries() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        std::fs::write(dir.path().join("version.py"), "a\n__version__ = '2.10.0+cu126'\n").unwrap();
        let version = version_of(&dir.path().join("lib").join(LIBRARY));
        assert_eq!(version.unwrap(), "2.10.0+cu126");
    }

    #[test]
    fn the_compiler_is_found_by_its_newest_version() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "libnvrtc.so.13",
            "libnvrtc.alt.so.13",
            "libnvrtc-builtins.so.13.0",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = |name| within(dir.path(), name).unwrap();
        assert_eq!(found("libnvrtc.so"), dir.path().join("libnvrtc.so.13"));
        assert_eq!(
            found("libnvrtc-builtins.so"),
            dir.path().join("libnvrtc-builtins.so.13.0")
        );
    }
}
