//! What an engine reports about CUDA when a part of it is missing. Every kind of fault has its own message,
//! and the engine falls back to the CPU in every case. The tests use a fake driver (`common/cuda.rs`).
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "common/cuda.rs"]
mod common;

use std::path::{Path, PathBuf};

use common::{Engine, driver};
use demask_api::Cuda;

fn found(variables: &[(&str, &str)], folders: &[&Path]) -> Cuda {
    let folders: Vec<PathBuf> = folders.iter().map(|folder| folder.to_path_buf()).collect();
    let engine = Engine::start(variables, &folders);
    assert_eq!(engine.info.device.name, "cpu", "{}", engine.found());
    assert!(
        engine.info.libtorch.starts_with("2.11."),
        "{}",
        engine.info.libtorch
    );
    engine.found().clone()
}

#[test]
fn nothing_of_cuda_is_asked_before_it_could_be_open() {
    let nothing = tempfile::tempdir().unwrap();
    let engine = Engine::start(&[], &[nothing.path().to_owned()]);
    assert_ne!(
        *engine.found(),
        Cuda::AskedTooEarly,
        "all that the program does before it chooses its place"
    );
    let off = Engine::start(&[("DEMASK_NO_CUDA", "1")], &[nothing.path().to_owned()]);
    assert!(matches!(off.found(), Cuda::Off { because } if because.contains("DEMASK_NO_CUDA")));
}

#[test]
fn a_driver_without_a_device_is_told_with_what_hides_it() {
    let here = tempfile::tempdir().unwrap();
    driver(here.path());
    let hidden = found(
        &[("FAKE_INIT", "100"), ("CUDA_VISIBLE_DEVICES", "7")],
        &[here.path()],
    );
    let Cuda::NoDevice { message, visible } = &hidden else {
        panic!("{hidden}");
    };
    assert!(message.contains("words of the driver (error 100)"), "{message}");
    assert_eq!(visible.as_deref(), Some("7"));
    assert!(hidden.fix().contains("CUDA_VISIBLE_DEVICES is '7'"));
    let none = found(&[("FAKE_DEVICES", "0")], &[here.path()]);
    assert!(matches!(none, Cuda::NoDevice { visible: None, .. }), "{none}");
}

#[test]
fn parts_of_other_versions_are_told_with_what_is_needed() {
    let here = tempfile::tempdir().unwrap();
    driver(here.path());
    let mixed = found(&[("FAKE_INIT", "803")], &[here.path()]);
    assert!(matches!(mixed, Cuda::OtherVersion { .. }), "{mixed}");
    let old = found(&[("FAKE_CUDA", "10020")], &[here.path()]);
    if let Cuda::OtherVersion { found, needed } = &old {
        assert!(found.contains("for CUDA 10.2"), "{found}");
        assert!(needed.contains("a driver for CUDA 1"), "{needed}");
    } else {
        assert!(
            matches!(old, Cuda::NoLibrary { .. }),
            "a libtorch without CUDA's runtime: {old}"
        );
    }
}

/// A missing, a broken and a wrong version of libtorch's CUDA library are reported differently, each with
/// its remedy or path.
#[test]
fn a_cuda_half_that_is_not_there_or_cannot_be_opened_is_told_apart() {
    if demask_model::device::cuda::library_folder()
        .unwrap()
        .join("libtorch_cuda.so")
        .exists()
    {
        println!("skipped: this libtorch has its CUDA half beside it");
        return;
    }
    let here = tempfile::tempdir().unwrap();
    driver(here.path());
    let missing = found(&[], &[here.path()]);
    let Cuda::NoLibrary { looked } = &missing else {
        panic!("{missing}");
    };
    assert!(looked.contains(&here.path().display().to_string()), "{missing}");
    assert!(missing.fix().contains("pip install torch==2.11.0"));

    let lib = here.path().join("lib");
    std::fs::create_dir(&lib).unwrap();
    std::fs::write(lib.join("libtorch_cuda.so"), "no library").unwrap();
    let broken = found(&[], &[here.path(), &lib]);
    let Cuda::NotOpened { library, message } = &broken else {
        panic!("{broken}");
    };
    assert_eq!(Path::new(library), lib.join("libtorch_cuda.so"));
    assert!(
        message.contains("libtorch_cuda.so"),
        "the linker's words: {message}"
    );

    std::fs::write(here.path().join("version.py"), "__version__ = '2.10.0+cu126'\n").unwrap();
    let other = found(&[], &[here.path(), &lib]);
    assert!(
        matches!(&other, Cuda::OtherVersion { found, .. } if found.contains("2.10.0+cu126")),
        "{other}"
    );
}
