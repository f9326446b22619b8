//! Law L1 for devices: after a CUDA error nothing works any more in the engine's process. The engine reports it and
//! ends, the supervisor starts another, and the run ends with the weights of an undisturbed one. No device is needed,
//! because the error is injected once (`model/src/engine/process/fault.rs`).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use demask_tests::store::rows_as_csv;
use demask_tests::{Place, SMOKE};

/// Runs the smoke profile to its end; returns the folder of its last checkpoint.
fn run(place: &Place, fault: Option<&Path>) -> std::path::PathBuf {
    let file = place.path().join("smoke.toml");
    std::fs::write(&file, SMOKE).unwrap();
    let file = file.to_string_lossy();
    let mut command = place.demask(&["run", "--headless", "--from-scratch", "--profile", &file]);
    command.env_remove("DEMASK_ENGINE_FAULT");
    if let Some(fault) = fault {
        command.env("DEMASK_ENGINE_FAULT", fault);
    }
    let out = command.output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    assert_eq!(place.run(&["daemon", "stop"]).status.code(), Some(0));
    let only = |folder: &Path| {
        let mut inside: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        inside.sort();
        inside.pop().unwrap()
    };
    only(&only(&place.path().join("checkpoints")))
}

/// Returns the store's rows about failed engines.
fn failures(place: &Place) -> String {
    let sql = "SELECT body FROM v_event WHERE kind = 'lifecycle' AND body LIKE '%the device failed%'";
    rows_as_csv(place, sql)
}

#[test]
fn l1_l8_a_run_whose_device_fails_goes_on_and_ends_in_the_same_weights() {
    let (calm, failing) = (Place::default(), Place::default());
    let fault = failing.path().join("fault");
    // The fifth step of pretraining, two steps after a checkpoint.
    std::fs::write(&fault, "device 5\n").unwrap();
    let weights = |folder: std::path::PathBuf| std::fs::read(folder.join("model.safetensors")).unwrap();
    let (expected, found) = (run(&calm, None), run(&failing, Some(&fault)));
    assert_eq!(expected.file_name(), found.file_name(), "the same last step");
    assert!(weights(expected) == weights(found), "the same weights");
    assert!(!fault.exists(), "the fault struck");
    assert!(
        failures(&failing).contains("illegal memory access"),
        "{}",
        failures(&failing)
    );
    assert_eq!(
        failures(&calm).lines().count(),
        1,
        "no more than the names of columns"
    );
}
