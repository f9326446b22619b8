//! Kernels that are launched together: a CUDA graph, through libtorch's own (`csrc/cuda_graph.cpp`).
//!
//! A step of a small block is hundreds of short kernels, each launched by itself; recorded once, all of them are one launch.
//! Never run so far: no GPU was at hand. So nobody gets it who does not ask (`DEMASK_CUDA_GRAPHS=1`), and where it cannot be
//! recorded the kernels are launched one by one.

use crate::error::{ModelError, Result};

/// Recorded kernels; they read and write the tensors that they were recorded with.
#[derive(Debug)]
pub struct CudaGraph {
    #[cfg(fused)]
    graph: crate::fused::kernels::Handle,
}

/// Whether somebody asked for them.
#[must_use]
pub fn asked_for() -> bool {
    std::env::var_os("DEMASK_CUDA_GRAPHS").is_some_and(|value| value != "0")
}

#[cfg(not(fused))]
impl CudaGraph {
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
        pub(super) fn demask_graph_begin(device: i64, graph: *mut *mut c_void) -> c_int;
        pub(super) fn demask_graph_end(graph: *mut c_void) -> c_int;
        pub(super) fn demask_graph_replay(graph: *mut c_void) -> c_int;
        pub(super) fn demask_graph_drop(graph: *mut c_void);
    }
}

#[cfg(fused)]
impl CudaGraph {
    /// Records what `work` launches on a device, which is not done. It must neither wait for the device nor read from it,
    /// and must have been done once before, so that libraries are ready.
    ///
    /// # Errors
    /// libtorch's, its CUDA half not open among them; those of `work`.
    pub fn record(device: usize, work: impl FnOnce() -> Result<()>) -> Result<Self> {
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
        check(unsafe { shim::demask_graph_replay(self.graph) })
    }
}

#[cfg(fused)]
impl Drop for CudaGraph {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { shim::demask_graph_drop(self.graph) }
    }
}

#[cfg(fused)]
fn check(code: std::ffi::c_int) -> Result<()> {
    crate::fused::kernels::check(code).map_err(|error| ModelError::Refused(format!("CUDA graph: {error}")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_gpu_there_is_none_and_nothing_is_done() {
        if tch::Cuda::is_available() {
            return;
        }
        let mut done = false;
        let refused = CudaGraph::record(0, || {
            done = true;
            Ok(())
        });
        assert!(refused.unwrap_err().to_string().contains("CUDA graph"));
        assert!(!done);
    }
}
