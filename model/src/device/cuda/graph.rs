//! CUDA graphs: kernels that are recorded once and launched together, with libtorch's own class
//! (`csrc/cuda_graph.cpp`).
//!
//! A sampling step of a small block is hundreds of short kernels, each with its own launch. A recorded step is one
//! launch. This code has not run on a GPU so far, because none was available. It is therefore off unless requested
//! (`DEMASK_CUDA_GRAPHS=1`), and if recording fails the kernels are launched one by one.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{ModelError, Result};

/// Set when a recording has failed. libtorch's allocator may then stay in its recording state, so no other is tried.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Recorded kernels. They read and write the tensors that they were recorded with.
#[derive(Debug)]
pub struct CudaGraph {
    #[cfg(fused)]
    graph: crate::device::kernels::ffi::Handle,
}

/// Returns whether CUDA graphs are requested by the environment and none has failed in this process.
#[must_use]
pub fn asked_for() -> bool {
    !FAILED.load(Ordering::SeqCst) && std::env::var_os("DEMASK_CUDA_GRAPHS").is_some_and(|value| value != "0")
}

#[cfg(not(fused))]
impl CudaGraph {
    /// Runs `work` on the stream that is used for recording.
    ///
    /// # Errors
    /// Always [`ModelError::Refused`]: this build has no C++ code of its own.
    pub fn warm<T>(_device: usize, _work: impl FnOnce() -> Result<T>) -> Result<T> {
        Err(ModelError::Refused("this build has no CUDA graphs".into()))
    }

    /// Records the kernels that `work` launches on a device, without running them.
    ///
    /// # Errors
    /// Always [`ModelError::Refused`]: this build has no C++ code of its own.
    pub fn record(_device: usize, _work: impl FnOnce() -> Result<()>) -> Result<Self> {
        Err(ModelError::Refused("this build has no CUDA graphs".into()))
    }

    /// Launches all recorded kernels.
    ///
    /// # Errors
    /// Never.
    pub fn replay(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(fused)]
mod shim {
    use std::ffi::{c_int, c_void};

    unsafe extern "C" {
        pub(super) fn demask_aside_begin(device: i64, aside: *mut *mut c_void) -> c_int;
        pub(super) fn demask_aside_end(aside: *mut c_void) -> c_int;
        pub(super) fn demask_graph_begin(device: i64, graph: *mut *mut c_void) -> c_int;
        pub(super) fn demask_graph_end(graph: *mut c_void) -> c_int;
        pub(super) fn demask_graph_replay(graph: *mut c_void) -> c_int;
        pub(super) fn demask_graph_drop(graph: *mut c_void);
    }
}

#[cfg(fused)]
impl CudaGraph {
    /// Runs `work` on the stream that is used for recording on this device, and waits for it.
    ///
    /// It must run before a recording, so that the libraries are initialised on that stream and have their workspaces
    /// outside the memory of the recording.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if the stream cannot be set up, for example because libtorch's CUDA libraries are not
    /// loaded; `work` does not run then. The errors of `work`.
    pub fn warm<T>(device: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut aside = std::ptr::null_mut();
        // SAFETY: `aside` is written if the call succeeds.
        check(unsafe { shim::demask_aside_begin(device as i64, &mut aside) })?;
        let back = Back(aside);
        let worked = work();
        let waited = back.wait();
        let worked = worked?;
        waited.map(|()| worked)
    }

    /// Records the kernels that `work` launches on a device, without running them.
    ///
    /// `work` must neither wait for the device nor read from it, and it must have run once before ([`Self::warm`]).
    /// After a failure no other recording is tried in this process.
    ///
    /// # Errors
    /// [`ModelError::Refused`] if recording fails or an earlier one has failed, or the errors of `work`.
    pub fn record(device: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        if FAILED.load(Ordering::SeqCst) {
            let message = "CUDA graph: recording one failed before, so no other is recorded";
            return Err(ModelError::Refused(message.into()));
        }
        let recorded = Self::recorded(device, work);
        if recorded.is_err() {
            FAILED.store(true, Ordering::SeqCst);
        }
        recorded
    }

    fn recorded(device: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let mut graph = std::ptr::null_mut();
        // SAFETY: `graph` is written if the call succeeds, and is freed when `recorded` is dropped.
        check(unsafe { shim::demask_graph_begin(device as i64, &mut graph) })?;
        let recorded = Self { graph };
        let worked = work();
        // SAFETY: the recording has begun. It is ended even after a failure of `work`, to restore the stream.
        let ended = check(unsafe { shim::demask_graph_end(recorded.graph) });
        worked?;
        ended?;
        Ok(recorded)
    }

    /// Launches all recorded kernels.
    ///
    /// # Errors
    /// Any error CUDA reports.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: the recording is complete.
        crate::device::kernels::ffi::check(unsafe { shim::demask_graph_replay(self.graph) })
    }
}

#[cfg(fused)]
impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: this is the only handle of the graph.
        unsafe { shim::demask_graph_drop(self.graph) }
    }
}

/// Restores the previous stream when it is dropped, also after a panic.
#[cfg(fused)]
struct Back(crate::device::kernels::ffi::Handle);

#[cfg(fused)]
impl Back {
    fn wait(self) -> Result<()> {
        let aside = self.0;
        std::mem::forget(self);
        // SAFETY: the side stream is in use, and `forget` keeps `drop` from ending it again.
        check(unsafe { shim::demask_aside_end(aside) })
    }
}

#[cfg(fused)]
impl Drop for Back {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { shim::demask_aside_end(self.0) };
    }
}

#[cfg(fused)]
fn check(code: std::ffi::c_int) -> Result<()> {
    crate::device::kernels::ffi::check(code)
        .map_err(|error| ModelError::Refused(format!("CUDA graph: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_gpu_there_is_none_nothing_is_done_and_no_other_is_tried() {
        if crate::device::cuda::open_cuda() {
            return;
        }
        let mut done = 0;
        let warmed = CudaGraph::warm(0, || {
            done += 1;
            Ok(())
        });
        assert!(warmed.unwrap_err().to_string().contains("CUDA graph"));
        let mut words = Vec::new();
        for _ in 0..2 {
            let refused = CudaGraph::record(0, || {
                done += 1;
                Ok(())
            });
            words.push(refused.unwrap_err().to_string());
        }
        assert!(words[0].contains("no CUDA graphs here"), "{}", words[0]);
        assert!(words[1].contains("no other is recorded"), "{}", words[1]);
        assert_eq!(done, 0);
        assert!(!asked_for());
    }
}
