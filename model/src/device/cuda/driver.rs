//! The query of NVIDIA's driver before any CUDA library is loaded. The driver's library is small, and its C functions
//! have not changed for many years.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::path::Path;

use demask_api::{Cuda, CudaDevice};

use super::library::Library;

/// The driver's version and devices.
#[derive(Debug)]
pub(super) struct Driver {
    /// The newest CUDA version that it supports, 1000 × major + 10 × minor.
    pub cuda: i32,
    pub devices: Vec<CudaDevice>,
}

/// The error codes for a driver library that does not match the kernel module or the hardware.
const OTHER_VERSION: [c_int; 2] = [803, 804];
/// The attributes of a device that are the two numbers of its compute capability.
const MAJOR: c_int = 75;
const MINOR: c_int = 76;

/// Asks the driver for its version and devices.
///
/// # Errors
/// The reason why CUDA cannot be used: there is no driver, it does not match its kernel module, or there is no device.
pub(super) fn ask() -> Result<Driver, Cuda> {
    let library = Library::open("libcuda.so.1").map_err(|message| Cuda::NoDriver {
        message,
        nodes: has_nodes(),
    })?;
    let calls = Calls::of(library).ok_or_else(|| Cuda::NotOpened {
        library: "libcuda.so.1".into(),
        message: "it lacks a function that every driver of CUDA 10 or later has".into(),
    })?;
    calls.ask()
}

/// Returns whether the system has NVIDIA device files.
pub(super) fn has_nodes() -> bool {
    (0..16).any(|number| Path::new(&format!("/dev/nvidia{number}")).exists())
}

/// Formats a version number of CUDA as `major.minor`.
pub(super) fn version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Returns the release of the driver, such as `580.95.05`, if its kernel module is loaded.
pub(super) fn release() -> Option<String> {
    let text = std::fs::read_to_string("/sys/module/nvidia/version").ok()?;
    Some(text.trim().to_owned())
}

/// Returns the identity of a device as `nvidia-smi -L` prints it. The driver has been asked before ([`ask`]).
pub(super) fn identity(number: usize) -> Option<String> {
    let library = Library::open("libcuda.so.1").ok()?;
    // SAFETY: the types are those of CUDA's driver API, in which a device is a number.
    let device: unsafe extern "C" fn(*mut c_int, c_int) -> c_int =
        unsafe { library.function(c"cuDeviceGet") }?;
    // SAFETY: as above; an identity has 16 bytes.
    let identity: unsafe extern "C" fn(*mut [u8; 16], c_int) -> c_int =
        unsafe { library.function(c"cuDeviceGetUuid_v2") }?;
    let (mut found, mut bytes) = (0, [0u8; 16]);
    // SAFETY: the pointers are to a number and to 16 bytes that the driver may write.
    let is_told =
        unsafe { device(&mut found, c_int::try_from(number).ok()?) == 0 && identity(&mut bytes, found) == 0 };
    is_told.then(|| identity_of(bytes))
}

/// Formats an identity.
fn identity_of(bytes: [u8; 16]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [0..8, 8..12, 12..16, 16..20, 20..32].map(|part| &digits[part]);
    format!("GPU-{a}-{b}-{c}-{d}-{e}")
}

/// The functions of the driver's library.
struct Calls {
    init: unsafe extern "C" fn(c_uint) -> c_int,
    words: unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int,
    version: unsafe extern "C" fn(*mut c_int) -> c_int,
    count: unsafe extern "C" fn(*mut c_int) -> c_int,
    device: unsafe extern "C" fn(*mut c_int, c_int) -> c_int,
    name: unsafe extern "C" fn(*mut c_char, c_int, c_int) -> c_int,
    memory: unsafe extern "C" fn(*mut usize, c_int) -> c_int,
    attribute: unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int,
}

impl Calls {
    fn of(library: Library) -> Option<Self> {
        // SAFETY: the types are those of CUDA's driver API, in which a device is a number.
        unsafe {
            Some(Self {
                init: library.function(c"cuInit")?,
                words: library.function(c"cuGetErrorString")?,
                version: library.function(c"cuDriverGetVersion")?,
                count: library.function(c"cuDeviceGetCount")?,
                device: library.function(c"cuDeviceGet")?,
                name: library.function(c"cuDeviceGetName")?,
                memory: library.function(c"cuDeviceTotalMem_v2")?,
                attribute: library.function(c"cuDeviceGetAttribute")?,
            })
        }
    }

    fn ask(&self) -> Result<Driver, Cuda> {
        let (mut cuda, mut count) = (0, 0);
        // SAFETY: the flags must be 0.
        self.done(unsafe { (self.init)(0) })?;
        // SAFETY: the pointer is to a number that the driver may write.
        self.done(unsafe { (self.version)(&mut cuda) })?;
        // SAFETY: as above.
        self.done(unsafe { (self.count)(&mut count) })?;
        if count == 0 {
            return Err(no_device("the driver reports no devices".into()));
        }
        let devices = (0..count)
            .map(|number| self.describe(number))
            .collect::<Result<_, _>>()?;
        Ok(Driver { cuda, devices })
    }

    fn describe(&self, number: c_int) -> Result<CudaDevice, Cuda> {
        let (mut device, mut memory, mut name) = (0, 0, [0 as c_char; 256]);
        // SAFETY: the pointer is to a number that the driver may write; `number` is below the count of devices.
        self.done(unsafe { (self.device)(&mut device, number) })?;
        // SAFETY: the buffer has at least the given length, and the driver ends the name with NUL.
        self.done(unsafe { (self.name)(name.as_mut_ptr(), 255, device) })?;
        // SAFETY: the pointer is to a number that the driver may write.
        self.done(unsafe { (self.memory)(&mut memory, device) })?;
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: the pointer is to a number that the driver may write.
            self.done(unsafe { (self.attribute)(&mut value, which, device) })?;
            Ok(value)
        };
        // SAFETY: the buffer ends with NUL, because the driver was not given its last byte.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) };
        Ok(CudaDevice {
            name: name.to_string_lossy().into_owned(),
            memory: memory as u64,
            capability: format!("{}.{}", attribute(MAJOR)?, attribute(MINOR)?),
        })
    }

    fn done(&self, code: c_int) -> Result<(), Cuda> {
        if code == 0 {
            return Ok(());
        }
        let mut words = std::ptr::null();
        // SAFETY: the pointer is to an address that the driver may write; the text is static.
        let words = unsafe {
            (self.words)(code, &mut words);
            (!words.is_null()).then(|| CStr::from_ptr(words).to_string_lossy().into_owned())
        };
        let message = format!("{} (error {code})", words.unwrap_or_else(|| "no message".into()));
        Err(if OTHER_VERSION.contains(&code) {
            Cuda::OtherVersion {
                found: format!("a driver library that the kernel driver rejects: {message}"),
                needed: "the libcuda.so.1 of the running driver (after an update, restart the machine)"
                    .into(),
            }
        } else {
            no_device(message)
        })
    }
}

/// Returns the fault that there is a driver but no usable device.
pub(super) fn no_device(message: String) -> Cuda {
    Cuda::NoDevice {
        message,
        visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_written_as_the_drivers_tools_write_it() {
        let bytes = std::array::from_fn(|at| at as u8 + 0xf0);
        let expected = "GPU-f0f1f2f3-f4f5-f6f7-f8f9-fafbfcfdfeff";
        assert_eq!(identity_of(bytes), expected);
    }
}
