//! Tests against the CUDA libraries of PyTorch's pip package, without a GPU: every symbol that is looked up
//! by name exists with the expected signature, and the libraries open. `DEMASK_CUDA_TORCH` names the
//! package's folder (`<site-packages>/torch`). Without it the tests print that they were skipped.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/cuda.rs"]
mod common;

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Engine, driver};
use demask_api::Cuda;

const GRAPHS: &str = include_str!("../csrc/cuda_graph.cpp");

fn wheel() -> Option<PathBuf> {
    let folder = std::env::var_os("DEMASK_CUDA_TORCH").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: DEMASK_CUDA_TORCH does not name a PyTorch with CUDA");
    }
    folder
}

/// Returns the mangled C++ symbol names that are quoted in the source of the CUDA graph code.
fn names() -> Vec<&'static str> {
    let quoted = GRAPHS.split('"').skip(1).step_by(2);
    quoted.filter(|text| text.starts_with("_Z")).collect()
}

#[test]
fn what_graphs_call_by_name_is_there() {
    let Some(torch) = wheel() else { return };
    let _ = tch::Tensor::from_slice(&[1.0f32]);
    let path = torch.join("lib/libtorch_cuda.so").display().to_string();
    let open = |path: String| {
        let path = CString::new(path).unwrap();
        // SAFETY: `path` is NUL-terminated, and the library's constructors only register kernels.
        unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) }
    };
    assert!(!open(path).is_null());
    assert_eq!(names().len(), 8);
    for name in names() {
        let symbol = CString::new(name).unwrap();
        // SAFETY: `symbol` is NUL-terminated.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, symbol.as_ptr()) };
        assert!(!found.is_null(), "{name}");
    }
}

/// The sizes and the passing conventions that `csrc/cuda_graph.cpp` relies on match the package's headers, as
/// a C++ compiler sees them.
#[test]
fn what_graphs_pass_by_value_fits() {
    let Some(torch) = wheel() else { return };
    let headers = torch.join("../nvidia/cu13/include");
    if !headers.join("crt/host_config.h").is_file() {
        println!(
            "skipped: no CUDA headers beside the package (`pip install nvidia-cuda-crt` brings the last of them)"
        );
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("sizes.cpp");
    std::fs::write(
        &source,
        r#"
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>
#include <type_traits>
static_assert(sizeof(at::cuda::CUDAGraph) <= 4096 && alignof(at::cuda::CUDAGraph) <= 16);
static_assert(sizeof(c10::cuda::CUDAStream) == sizeof(c10::Stream));
static_assert(std::is_trivially_copyable_v<c10::cuda::CUDAStream> && std::is_trivially_copyable_v<c10::Stream>);
static_assert(std::is_same_v<at::cuda::MempoolId_t, std::pair<unsigned long long, unsigned long long>>);
static_assert(cudaStreamCaptureModeThreadLocal == 1);
"#,
    )
    .unwrap();
    let compiled = Command::new(std::env::var("CXX").unwrap_or_else(|_| "c++".into()))
        .args(["-std=c++17", "-fsyntax-only", "-w"])
        .args(
            [
                torch.join("include"),
                torch.join("include/torch/csrc/api/include"),
                headers,
            ]
            .map(include),
        )
        .arg(&source)
        .output()
        .unwrap();
    assert!(
        compiled.status.success(),
        "{}",
        String::from_utf8_lossy(&compiled.stderr)
    );
}

fn include(folder: PathBuf) -> String {
    format!("-I{}", folder.display())
}

/// An engine that is given the libraries by `LD_LIBRARY_PATH` alone opens everything that a GPU would need
/// later, including the run-time compiler (NVRTC), if there is a driver (here the fake one, which has no
/// usable device). Without a driver it opens no large library.
#[test]
fn the_cuda_half_opens_with_all_that_it_opens_later() {
    let Some(torch) = wheel() else { return };
    let lib = torch.join("lib");
    let here = tempfile::tempdir().unwrap();
    driver(here.path());
    let engine = Engine::start(&[], &[here.path().to_owned(), lib.clone()]);
    let Cuda::NoDevice { message, .. } = engine.found() else {
        panic!("{}", engine.found());
    };
    assert!(
        message.contains("libtorch sees 0 devices, but the driver reports 1"),
        "{message}"
    );
    let real = lib.canonicalize().unwrap();
    for name in [
        real.join("libtorch_cpu.so").to_str().unwrap(),
        real.join("libtorch_cuda.so").to_str().unwrap(),
        "/libnvrtc.so.",
        "/libnvrtc-builtins.so.",
        "/libcudnn.so.",
    ] {
        assert!(engine.has_open(name), "{name}");
    }
    if !Path::new("/dev/nvidia0").exists() {
        let engine = Engine::start(&[], &[lib]);
        assert!(
            matches!(engine.found(), Cuda::NoDriver { nodes: false, .. }),
            "{}",
            engine.found()
        );
    }
}
