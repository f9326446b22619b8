//! Puts libtorch's location into the programs as RUNPATH, so that `LD_LIBRARY_PATH` still comes first.
//! `libtorch_cuda.so` is not linked: it is opened at start-up if it exists. Compiles the fused CPU kernels
//! (`csrc`) against the same libtorch; without a location of libtorch they are left out, and composed
//! operators take their place.

use std::path::{Path, PathBuf};

fn main() {
    println!("cargo:rerun-if-env-changed=LIBTORCH");
    println!("cargo:rerun-if-changed=csrc");
    println!("cargo:rustc-check-cfg=cfg(fused)");
    println!("cargo:rustc-link-arg=-Wl,--allow-shlib-undefined");
    if let Ok(libtorch) = std::env::var("LIBTORCH") {
        let lib = Path::new(&libtorch).join("lib");
        println!(
            "cargo:rustc-link-arg=-Wl,--enable-new-dtags,-rpath,{}",
            lib.display()
        );
        compile_kernels(Path::new(&libtorch));
    }
}

/// Compiles the kernels. They run on libtorch's OpenMP threads, so they link the OpenMP runtime that libtorch
/// ships.
fn compile_kernels(libtorch: &Path) {
    let Some(openmp) = openmp_of(&libtorch.join("lib")) else {
        println!("cargo:warning=no OpenMP runtime beside libtorch: the fused CPU kernels are left out");
        return;
    };
    let include = libtorch.join("include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .files([
            "csrc/adamw.cpp",
            "csrc/fused.cpp",
            "csrc/attention_tiles.cpp",
            "csrc/bf16_products.cpp",
            "csrc/cached.cpp",
            "csrc/cuda.cpp",
            "csrc/cuda_graph.cpp",
            "csrc/f32_products.cpp",
            "csrc/flash.cpp",
            "csrc/frozen_linear.cpp",
            "csrc/packed.cpp",
            "csrc/profiler.cpp",
            "csrc/sampling_blocks.cpp",
            "csrc/storage.cpp",
            "csrc/world.cpp",
        ])
        .include(&include)
        .include(include.join("torch/csrc/api/include"))
        .define("_GLIBCXX_USE_CXX11_ABI", "1")
        .opt_level(3)
        .warnings(false)
        .debug(false)
        .flag("-fopenmp")
        .flag("-fno-math-errno")
        .flag("-fno-trapping-math")
        .flag("-fno-signed-zeros")
        .flag("-fassociative-math")
        .flag_if_supported("-mprefer-vector-width=512")
        .compile("demask_fused");
    println!("cargo:rustc-link-arg={}", openmp.display());
    println!("cargo:rustc-cfg=fused");
}

fn openmp_of(lib: &Path) -> Option<PathBuf> {
    let name = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let mut found: Vec<PathBuf> = std::fs::read_dir(lib)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.retain(|path| name(path).is_some_and(|name| name.starts_with("libgomp") && name.contains(".so")));
    found.sort();
    found.into_iter().next()
}
