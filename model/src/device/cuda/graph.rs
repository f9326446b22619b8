//! Kernels that are launched together: a CUDA graph, through libtorch's own (`csrc/cuda_graph.cpp`).
//!
//! A step of a small block is hundreds of short kernels, each launched by itself; recorded once, all of them are one launch.
//! Never run so far: no GPU was at hand. So nobody gets it who does not ask (`DEMASK_CUDA_GRAPHS=1`), and where it cannot be
//! recorded the kernels are launched one by one.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{ModelError, Result};

/// One could not be recorded: libtorch's allocator may then believe for good that one is, so that no other is tried.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Recorded kernels; they read and write the tensors that they were recorded with.
#[derive(Debug)]
pub struct CudaGraph {
    #[cfg(fused)]
    graph: crate::device::kernels::ffi::Handle,
}

/// Whether somebody asked for them, and none has failed in this process.
#[must_use]
pub fn asked_for() -> bool {
    !FAILED.load(Ordering::SeqCst) && std::env::var_os("DEMASK_CUDA_GRAPHS").is_some_and(|value| value != "0")
}

#[cfg(not(fused))]
impl CudaGraph {
    /// Does work on the stream on which everything is recorded.
    ///
    /// # Errors
    /// Always: this build has no C++ of its own.
    pub fn warm<T>(_device: usize, _work: impl FnOnce() -> Result<T>) -> Result<T> {
        Err(ModelError::Refused("this build has no CUDA graphs".into()))
    }

    /// Records what `work` launches on a device, which is not done.
    ///
    /// # Errors
    /// Always: this build has no C++ of its own.
    pub fn record(_device: usize, _work: impl FnOnce() -> Result<()>) -> Result<Self> {
        Err(ModelError::Refused("this build has no CUDA graphs".into()))
    }

    /// Launches all of it.
    ///
    /// # Errors
    /// None.
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
    /// Does work on the stream on which everything on this device is recorded, and waits for it: the step before a recording,
    /// so that libraries are ready there and have their workspaces outside the recording's memory.
    ///
    /// # Errors
    /// libtorch's, its CUDA half not open among them: the work is then not begun. Those of `work`.
    pub fn warm<T>(device: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut aside = std::ptr::null_mut();
        // SAFETY: `aside` is written where it succeeds.
        check(unsafe { shim::demask_aside_begin(device as i64, &mut aside) })?;
        let back = Back(aside);
        let worked = work();
        let waited = back.wait();
        let worked = worked?;
        waited.map(|()| worked)
    }

    /// Records what `work` launches on a device, which is not done. It must neither wait for the device nor read from it,
    /// and must have been done once before ([`Self::warm`]), so that libraries are ready. After a failure no other is tried
    /// in this process.
    ///
    /// # Errors
    /// libtorch's, its CUDA half not open among them; those of `work`; one that failed before.
    pub fn record(device: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        if FAILED.load(Ordering::SeqCst) {
            let message = "CUDA graph: one could not be recorded before, and no other is tried";
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
        // SAFETY: `graph` is written where it succeeds, and is dropped with what holds it.
        check(unsafe { shim::demask_graph_begin(device as i64, &mut graph) })?;
        let recorded = Self { graph };
        let worked = work();
        // SAFETY: it has begun; also after a failure, so that the stream is given back.
        let ended = check(unsafe { shim::demask_graph_end(recorded.graph) });
        worked?;
        ended?;
        Ok(recorded)
    }

    /// Launches all of it.
    ///
    /// # Errors
    /// CUDA's.
    pub fn replay(&self) -> Result<()> {
        // SAFETY: it was recorded to its end.
        crate::device::kernels::ffi::check(unsafe { shim::demask_graph_replay(self.graph) })
    }
}

#[cfg(fused)]
impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { shim::demask_graph_drop(self.graph) }
    }
}

/// The way back from the side stream, also after a panic.
#[cfg(fused)]
struct Back(crate::device::kernels::ffi::Handle);

#[cfg(fused)]
impl Back {
    fn wait(self) -> Result<()> {
        let aside = self.0;
        std::mem::forget(self);
        // SAFETY: it has begun, and ends once.
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
        assert!(words[1].contains("no other is tried"), "{}", words[1]);
        assert_eq!(done, 0);
        assert!(!asked_for());
    }
}
