//! Where the time of a piece of work goes: each operator on the CPU by its own time and, on a GPU, each kernel, as libtorch's
//! own profiler sees them (`csrc/profiler.cpp`). It costs time itself: take shares and counts from it, not rates.

use std::collections::BTreeMap;

use tch::Device;

use crate::error::{ModelError, Result};

/// One kernel or operator, all calls together.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfilerItem {
    /// Its name.
    pub name: String,
    /// Whether it ran on the GPU.
    pub gpu: bool,
    /// How often it ran.
    pub calls: u64,
    /// Microseconds of all calls; of an operator without those that it called.
    pub micros: f64,
}

/// What a piece of work was made of, the most expensive first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfilerTable {
    /// Kernels, copies, operators and calls of the CUDA runtime.
    pub items: Vec<ProfilerItem>,
}

impl ProfilerTable {
    /// Operators of libtorch that the CPU went through, those within others too.
    #[must_use]
    pub fn operators(&self) -> u64 {
        self.count(|item| !item.gpu && item.name.starts_with("aten::"))
    }

    /// Kernels and copies that the GPU did.
    #[must_use]
    pub fn kernels(&self) -> u64 {
        self.count(|item| item.gpu)
    }

    /// Launches that the CPU made for them: a recorded graph's is one.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.count(|item| !item.gpu && item.name.contains("Launch"))
    }

    /// How often the CPU waited for the GPU's queue or for an event in it, as it does to read a number; not for the whole
    /// device, as [`profile`] does at the end.
    #[must_use]
    pub fn waits(&self) -> u64 {
        const WAITS: [&str; 2] = ["cudaStreamSynchronize", "cudaEventSynchronize"];
        self.count(|item| !item.gpu && WAITS.contains(&&item.name[..]))
    }

    fn count(&self, of: impl Fn(&ProfilerItem) -> bool) -> u64 {
        let items = self.items.iter().filter(|item| of(item));
        items.map(|item| item.calls).sum()
    }
}

/// Something that was going on for a while.
#[derive(Clone, Debug)]
struct ProfilerSpan {
    name: String,
    gpu: bool,
    /// Its thread or stream.
    line: u64,
    /// Nanoseconds.
    start: u64,
    took: u64,
}

/// Does `work` on this thread and says what it was made of. What other threads do is not seen, but all of the GPU's is.
///
/// # Errors
/// Those of `work`; a profiler that runs already, or a build without C++ of its own.
pub fn profile<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(T, ProfilerTable)> {
    let recording = Recording::begin(device)?;
    let worked = work();
    if let Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
    let events = recording.end()?;
    Ok((worked?, summed(events)))
}

/// Each name's calls and own time.
fn summed(mut events: Vec<ProfilerSpan>) -> ProfilerTable {
    // On a line what began earlier, and of two that began together the longer one, holds the other.
    events.sort_by_key(|event| (event.gpu, event.line, event.start, std::cmp::Reverse(event.took)));
    let mut own: Vec<u64> = events.iter().map(|event| event.took).collect();
    let mut open: Vec<usize> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let holds = |&holder: &usize| {
            let holder = &events[holder];
            (holder.gpu, holder.line) == (event.gpu, event.line) && event.start < holder.start + holder.took
        };
        while open.last().is_some_and(|last| !holds(last)) {
            open.pop();
        }
        // Kernels of one stream do not hold each other.
        if let Some(&holder) = open.last().filter(|_| !event.gpu) {
            own[holder] = own[holder].saturating_sub(event.took);
        }
        open.push(number);
    }
    let mut by_name: BTreeMap<(bool, String), (u64, u64)> = BTreeMap::new();
    for (event, own) in events.into_iter().zip(own) {
        let sum = by_name.entry((event.gpu, event.name)).or_default();
        *sum = (sum.0 + 1, sum.1 + own);
    }
    let item = |((gpu, name), (calls, nanos)): ((bool, String), (u64, u64))| ProfilerItem {
        name,
        gpu,
        calls,
        micros: nanos as f64 / 1e3,
    };
    let mut items: Vec<ProfilerItem> = by_name.into_iter().map(item).collect();
    items.sort_by(|a, b| b.gpu.cmp(&a.gpu).then(b.micros.total_cmp(&a.micros)));
    ProfilerTable { items }
}

/// A profiler that runs; it ends with this.
struct Recording {
    running: bool,
}

impl Recording {
    fn begin(device: Device) -> Result<Self> {
        shim::begin(device.is_cuda())?;
        Ok(Self { running: true })
    }

    fn end(mut self) -> Result<Vec<ProfilerSpan>> {
        self.running = false;
        shim::end()
    }
}

/// Work that panicked leaves no profiler behind.
impl Drop for Recording {
    fn drop(&mut self) {
        if self.running {
            shim::end().ok();
        }
    }
}

fn named(error: &ModelError) -> ModelError {
    ModelError::Refused(format!("libtorch's profiler: {error}"))
}

#[cfg(not(fused))]
mod shim {
    use super::{ProfilerSpan, named};
    use crate::error::{ModelError, Result};

    pub(super) fn begin(_cuda: bool) -> Result<()> {
        let why = "this build has no C++ of its own".to_owned();
        Err(named(&ModelError::Refused(why)))
    }

    pub(super) fn end() -> Result<Vec<ProfilerSpan>> {
        Ok(Vec::new())
    }
}

#[cfg(fused)]
mod shim {
    use std::ffi::{CStr, c_char, c_int, c_void};

    use super::{ProfilerSpan, named};
    use crate::device::kernels::ffi::check;
    use crate::error::Result;

    type Tell = unsafe extern "C" fn(*mut c_void, *const c_char, c_int, u64, u64, u64);

    unsafe extern "C" {
        fn demask_profile_begin(cuda: c_int) -> c_int;
        fn demask_profile_end(to: *mut c_void, tell: Tell) -> c_int;
    }

    pub(super) fn begin(cuda: bool) -> Result<()> {
        // SAFETY: takes a number; what it throws becomes a code.
        check(unsafe { demask_profile_begin(cuda.into()) }).map_err(|error| named(&error))
    }

    pub(super) fn end() -> Result<Vec<ProfilerSpan>> {
        let mut events: Vec<ProfilerSpan> = Vec::new();
        // SAFETY: `keep` is given the list that it expects, and only during this call.
        check(unsafe { demask_profile_end((&raw mut events).cast(), keep) })
            .map_err(|error| named(&error))?;
        Ok(events)
    }

    /// Adds an event to the list.
    unsafe extern "C" fn keep(
        to: *mut c_void,
        name: *const c_char,
        gpu: c_int,
        line: u64,
        start: u64,
        took: u64,
    ) {
        // SAFETY: `end` gave the list, which nobody else has now; the name is a string that lives until this returns.
        let (events, name) = unsafe { (&mut *to.cast::<Vec<ProfilerSpan>>(), CStr::from_ptr(name)) };
        events.push(ProfilerSpan {
            name: name.to_string_lossy().into_owned(),
            gpu: gpu != 0,
            line,
            start,
            took,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #[cfg(fused)]
    use tch::{Kind, Tensor};

    use super::*;

    fn event(name: &str, gpu: bool, start: u64, took: u64) -> ProfilerSpan {
        let (name, line) = (name.to_owned(), 1);
        ProfilerSpan {
            name,
            gpu,
            line,
            start,
            took,
        }
    }

    /// An operator that calls another one, a launch in that, and the kernel; another operator after them.
    #[test]
    fn an_operator_counts_for_its_own_time() {
        let profile = summed(vec![
            event("aten::mm", false, 1_000, 3_000),
            event("cudaLaunchKernel", false, 2_000, 1_000),
            event("aten::linear", false, 0, 5_000),
            event("gemm", true, 2_500, 9_000),
            event("aten::mm", false, 5_000, 500),
        ]);
        let found: Vec<(&str, u64, f64)> = profile
            .items
            .iter()
            .map(|item| (&item.name[..], item.calls, item.micros))
            .collect();
        let expected = [
            ("gemm", 1, 9.0),
            ("aten::mm", 2, 2.5),
            ("aten::linear", 1, 2.0),
            ("cudaLaunchKernel", 1, 1.0),
        ];
        assert_eq!(found, expected);
        let counts = (profile.operators(), profile.kernels(), profile.launches());
        assert_eq!(counts, (3, 1, 1));
    }

    /// One after the other in this process: there is one profiler.
    #[cfg(fused)]
    #[test]
    fn a_profiler_sees_each_operator_and_can_be_used_again() {
        let x = Tensor::ones([8, 8], (Kind::Float, Device::Cpu));
        for times in [1, 3] {
            let work = || {
                for _ in 0..times {
                    let _ = x.f_mm(&x)?;
                }
                Ok(())
            };
            let ((), profile) = profile(Device::Cpu, work).unwrap();
            let mm = profile.items.iter().find(|item| item.name == "aten::mm");
            assert_eq!(mm.map(|item| item.calls), Some(times), "{profile:?}");
        }
        let failed = profile(Device::Cpu, || Err::<(), _>(ModelError::Refused("no".into())));
        assert!(failed.is_err());
    }
}
