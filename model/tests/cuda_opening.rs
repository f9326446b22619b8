//! When libtorch's CUDA library is opened, and which numeric settings it gets. Both are global to the
//! process, so this file is a program of its own. No test here needs a GPU.
#![allow(clippy::unwrap_used, missing_docs)]

use std::ffi::c_int;

use demask_api::Cuda;
use demask_model::device::cuda;
use demask_model::engine::device_choice::Place;
use tch::{Device, Kind, Tensor};

unsafe extern "C" {
    fn demask_cuda_settings(bits: *mut i64) -> c_int;
    fn demask_cuda_settle() -> c_int;
}

/// Returns libtorch's global settings in this order: TF32 in matrix products, TF32 in convolutions,
/// reduced-precision bf16 accumulation, cuDNN attention, cuDNN benchmarking, deterministic algorithms,
/// determinism as a warning only, filling of uninitialized memory, deterministic cuDNN.
fn settings() -> [bool; 9] {
    let mut bits = 0;
    // SAFETY: `bits` is a valid pointer to one integer.
    assert_eq!(unsafe { demask_cuda_settings(&mut bits) }, 0);
    std::array::from_fn(|at| bits >> at & 1 == 1)
}

/// This is a single test, because a process looks for CUDA only once.
#[test]
fn whoever_asks_before_it_is_open_is_noticed() {
    // Neither choosing a CPU device, as the engine does first, nor computing on the CPU asks libtorch for
    // CUDA.
    let place = Place::choose("cpu", "f32", Some(1)).unwrap();
    assert!(matches!(place.cuda, Cuda::Off { .. }));
    let _ = Tensor::from_slice(&[1.0f32, 2.0]).f_matmul(&Tensor::ones([2], (Kind::Float, Device::Cpu)));
    assert!(!cuda::torch_version().is_empty());
    assert!(!cuda::asked_too_early(), "neither does");
    assert!(
        cuda::torch_version().starts_with("2.11."),
        "{}",
        cuda::torch_version()
    );

    tch::manual_seed(1);
    assert!(cuda::asked_too_early());
    assert_eq!(*cuda::open(), Cuda::AskedTooEarly);
    let refused = Place::choose("cuda:0", "f32", Some(1)).unwrap_err().to_string();
    assert!(refused.contains("asked for CUDA before"), "{refused}");
    let place = Place::choose("auto", "f32", Some(1)).unwrap();
    assert_eq!(place.device, Device::Cpu, "what it can still do it does");
}

#[test]
fn products_are_exact_and_repeatable_where_that_is_set() {
    // SAFETY: the function takes no arguments.
    assert_eq!(unsafe { demask_cuda_settle() }, 0);
    assert_eq!(settings()[..5], [false; 5]);
    // The last four settings: deterministic algorithms, warnings instead of errors, filled memory,
    // deterministic cuDNN.
    let strict = || cuda::strictly(|| Ok(settings())).unwrap();
    assert!(!strict()[5], "off until it is asked for");
    cuda::set_deterministic(true).unwrap();
    let outside = [false, false, false, true];
    assert_eq!(settings()[5..], outside, "convolutions alone");
    assert_eq!(
        strict()[5..],
        [true, false, false, true],
        "operators, refused where they cannot"
    );
    assert_eq!(settings()[5..], outside, "only meanwhile");
    cuda::set_deterministic(false).unwrap();
    assert_eq!((settings()[5..].to_vec(), strict()[5]), (vec![false; 4], false));
}
