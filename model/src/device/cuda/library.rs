//! Shared libraries: those that are loaded at run time, and those that this process already has.

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A library that stays loaded until the process ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Library(*mut c_void);

impl Library {
    /// Loads a library by its name, which the dynamic linker searches for, or by its path. Libraries that are loaded
    /// later can use its symbols.
    ///
    /// # Errors
    /// The message of the dynamic linker.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, String> {
        let name = CString::new(path.as_ref().as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the name ends with NUL; the library's constructors only register kernels. The error message is copied
        // before another call can overwrite it.
        unsafe {
            let opened = libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL);
            if !opened.is_null() {
                return Ok(Self(opened));
            }
            let words = libc::dlerror();
            if words.is_null() {
                return Err("the linker gives no reason".into());
            }
            Err(CStr::from_ptr(words).to_string_lossy().into_owned())
        }
    }

    /// Returns a handle to all libraries that this process has loaded.
    pub fn everything() -> Self {
        Self(libc::RTLD_DEFAULT)
    }

    /// Finds a function by its name.
    ///
    /// # Safety
    /// The function must have the type `F`, which must be a function pointer.
    pub unsafe fn function<F: Copy>(self, name: &CStr) -> Option<F> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        // SAFETY: the name ends with NUL and the library is loaded.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        // SAFETY: the address is not null, and the caller guarantees its type.
        (!found.is_null()).then(|| unsafe { std::mem::transmute_copy(&found) })
    }
}

/// Returns the paths of the libraries that this process has loaded, with links resolved.
pub(super) fn loaded() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let paths = maps.lines().filter_map(|line| Some(&line[line.find('/')?..]));
    let mut found: Vec<PathBuf> = paths
        .filter(|path| path.contains(".so"))
        .map(PathBuf::from)
        .collect();
    found.dedup();
    found
}

/// Returns whether the file of a library has this name, possibly with a version after it.
pub(super) fn is_called(path: &Path, name: &str) -> bool {
    let own = path.file_name().map(|name| name.to_string_lossy().into_owned());
    own.and_then(|own| own.strip_prefix(name).map(str::to_owned))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Returns the folder of the `libtorch_cpu.so` that this process has loaded.
#[must_use]
pub fn library_folder() -> Option<PathBuf> {
    let path = loaded()
        .into_iter()
        .find(|path| is_called(path, "libtorch_cpu.so"))?;
    path.parent().map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn libtorch_is_found_where_it_was_loaded_from() {
        let _ = tch::Tensor::from_slice(&[1.0f32]);
        if cfg!(target_os = "linux") {
            let folder = library_folder().unwrap();
            assert!(folder.join("libtorch_cpu.so").is_file(), "{}", folder.display());
        }
    }

    #[test]
    fn a_library_that_is_not_there_or_is_none_is_not_opened() {
        assert!(Library::open("libdemask_none.so").is_err());
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("libdemask_none.so");
        std::fs::write(&path, "no library").unwrap();
        let why = Library::open(&path).unwrap_err();
        assert!(why.contains("libdemask_none.so"), "{why}");
    }

    #[test]
    fn a_name_is_told_from_a_longer_one() {
        let path = Path::new("/a/libcudart.so.13");
        assert!(is_called(path, "libcudart.so"));
        assert!(!is_called(path, "libcuda.so"));
        assert!(!is_called(
            Path::new("/a/libnvrtc-builtins.so.13.0"),
            "libnvrtc.so"
        ));
    }
}
