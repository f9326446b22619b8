//! `model/libtorch.py` with the PyTorch of the active Python: it makes a folder from which the programs link and start.
#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a fake Python with a fake PyTorch of that version in `site`.
fn python(place: &Path, version: &str) -> PathBuf {
    let (bin, site) = (place.join("bin"), place.join("site"));
    for folder in ["torch/lib", "torch/include", "nvidia/cu13/lib"] {
        std::fs::create_dir_all(site.join(folder)).unwrap();
    }
    for library in ["libtorch.so", "libtorch_cpu.so", "libtorch_cuda.so", "libc10.so"] {
        std::fs::write(site.join("torch/lib").join(library), library).unwrap();
    }
    std::fs::write(site.join("nvidia/cu13/lib/libcudart.so.13"), "").unwrap();
    std::fs::create_dir_all(&bin).unwrap();
    let program = bin.join("python3");
    let site = site.display();
    std::fs::write(
        &program,
        format!("#!/bin/sh\necho {version}\necho {site}/torch\n"),
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    bin
}

/// Returns what the script prints with that Python active.
fn folder(place: &Path, version: &str) -> PathBuf {
    let found = Command::new("python3")
        .args(["-c", "import sys; print(sys.executable)"])
        .output();
    let real = String::from_utf8(found.unwrap().stdout).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/libtorch.py");
    let path = std::env::join_paths([python(place, version), "/usr/bin".into(), "/bin".into()]).unwrap();
    let out = Command::new(real.trim())
        .arg(script)
        .arg("--find")
        .env("PATH", path)
        .env("DEMASK_CACHE", place.join("cache"))
        .env_remove("LIBTORCH")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    PathBuf::from(String::from_utf8(out.stdout).unwrap().trim())
}

/// The libraries of an installed PyTorch are linked so that the programs link without CUDA and find CUDA's
/// libraries at run time.
#[test]
fn an_installed_pytorch_is_laid_out_so_that_its_libraries_find_each_other() {
    let place = tempfile::tempdir().unwrap();
    let torch = folder(place.path(), "2.11.0+cu130");
    let read = |name: &str| std::fs::read_to_string(torch.join("lib").join(name)).unwrap();
    assert_eq!(read("libtorch_cpu.so"), "libtorch_cpu.so");
    assert!(
        read("libtorch.so").starts_with("INPUT("),
        "the linker needs no CUDA"
    );
    assert!(
        !torch.join("lib/libtorch_cuda.so").exists(),
        "it stays out of the link"
    );
    assert!(torch.join("include").is_dir());
    // The target of `$ORIGIN/../../nvidia/cu13/lib` for a library in `lib`.
    assert!(
        torch
            .join("lib")
            .join("../../nvidia/cu13/lib/libcudart.so.13")
            .is_file()
    );
    let real = torch.join("lib/libtorch_cpu.so").canonicalize().unwrap();
    assert!(
        real.with_file_name("libtorch_cuda.so").is_file(),
        "it is found at run time"
    );
}

#[test]
fn a_layout_that_no_longer_fits_is_made_anew_or_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let torch = folder(place.path(), "2.11.0+cu130");
    let made = |torch: &Path| std::fs::symlink_metadata(torch).unwrap().modified().unwrap();
    let before = made(&torch.join("lib"));
    assert_eq!(folder(place.path(), "2.11.0+cu130"), torch);
    assert_eq!(made(&torch.join("lib")), before, "what fits is kept");
    symlink("/nowhere", torch.join("lib/libgone.so")).unwrap();
    assert_eq!(folder(place.path(), "2.11.0+cu130"), torch);
    assert!(torch.join("lib/libgone.so").symlink_metadata().is_err());
    assert_ne!(
        folder(place.path(), "2.11.1+cu130"),
        torch,
        "another version has a folder of its own"
    );
}
