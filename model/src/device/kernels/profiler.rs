//! A profiler: the time of each CPU operator, without those that it calls, and of each GPU kernel, from libtorch's own
//! profiler (`csrc/profiler.cpp`). Profiling itself takes time, so use its shares and counts, not its rates.

use std::collections::BTreeMap;

use tch::Device;

use crate::error::{ModelError, Result};

/// All calls of one kernel or operator.
#[derive(Clone, Debug, PartialEq)]
pub struct ProfilerItem {
    /// The name.
    pub name: String,
    /// Whether it ran on the GPU.
    pub gpu: bool,
    /// The number of calls.
    pub calls: u64,
    /// The time of all calls in microseconds. For an operator, the time of the operators that it called is not
    /// included.
    pub micros: f64,
}

/// The profile of a piece of work: the GPU's items first, each group with the most expensive first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProfilerTable {
    /// The kernels, copies, operators and calls of the CUDA runtime.
    pub items: Vec<ProfilerItem>,
}

impl ProfilerTable {
    /// Returns the number of calls of libtorch's operators on the CPU, including those within other operators.
    #[must_use]
    pub fn operators(&self) -> u64 {
        self.count(|item| !item.gpu && item.name.starts_with("aten::"))
    }

    /// Returns the number of kernels and copies on the GPU.
    #[must_use]
    pub fn kernels(&self) -> u64 {
        self.count(|item| item.gpu)
    }

    /// Returns the number of launches by the CPU. A CUDA graph is one launch.
    #[must_use]
    pub fn launches(&self) -> u64 {
        self.count(|item| !item.gpu && item.name.contains("Launch"))
    }

    /// Returns how often the CPU waited for a stream or an event, as it does to read a number. The wait for the whole
    /// device at the end of [`profile`] is not counted.
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

/// One call of an operator or kernel.
#[derive(Clone, Debug)]
struct ProfilerSpan {
    name: String,
    gpu: bool,
    /// The thread or stream.
    line: u64,
    /// The start in nanoseconds.
    start: u64,
    /// The duration in nanoseconds.
    took: u64,
}

/// Runs `work` on this thread and returns its profile. Work of other threads is not recorded, but all work of the GPU
/// is.
///
/// # Errors
/// The errors of `work`; [`ModelError::Refused`] if the profiler is already running or this build has no C++ code.
pub fn profile<T>(device: Device, work: impl FnOnce() -> Result<T>) -> Result<(T, ProfilerTable)> {
    let recording = Recording::begin(device)?;
    let worked = work();
    if let Device::Cuda(number) = device {
        tch::Cuda::synchronize(number as i64);
    }
    let events = recording.end()?;
    Ok((worked?, summed(events)))
}

/// Sums the calls and the own time of each name.
fn summed(mut events: Vec<ProfilerSpan>) -> ProfilerTable {
    // Sorted so that a caller comes before the operators that it calls: by start, and for equal starts the longer one
    // first.
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
        // Kernels of a stream do not call each other.
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

/// A running profiler, which stops when this is dropped.
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

/// Stops the profiler also if the work panicked.
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
        let why = "this build has no C++ code".to_owned();
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
        // SAFETY: the function takes a number and turns exceptions into a code.
        check(unsafe { demask_profile_begin(cuda.into()) }).map_err(|error| named(&error))
    }

    pub(super) fn end() -> Result<Vec<ProfilerSpan>> {
        let mut events: Vec<ProfilerSpan> = Vec::new();
        // SAFETY: `keep` gets the list that it expects, and only during this call.
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
        // SAFETY: `end` passed the list, to which there is no other reference now; the name lives until this returns.
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

    /// The events are an operator that calls another one with a launch and its kernel, and another operator after them.
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

    /// The profiler is used several times in this process, which has only one.
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
