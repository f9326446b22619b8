//! The files of `make install`, copied elsewhere: the program runs there with the model beside it.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Command;

use demask_tests::said;

fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copied(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// The files of `make install` work after they were moved: the programs find each other and the shipped
/// model by their own location.
#[test]
fn an_installed_folder_runs_where_it_is_copied_to() {
    let house = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let places = tempfile::tempdir().unwrap();
    let (first, second) = (places.path().join("first"), places.path().join("second"));
    let programs = demask_tests::home::programs();
    let made = Command::new("make")
        .current_dir(house)
        .args(["--no-print-directory", "install-built"])
        .arg(format!("PREFIX={}", first.display()))
        .arg(format!("BUILT={}", programs.display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", said(&made));
    copied(&first, &second);
    std::fs::remove_dir_all(&first).unwrap();
    let demask = |arguments: &[&str]| {
        Command::new(second.join("bin/demask"))
            .current_dir(places.path())
            .env("DEMASK_HOME", places.path().join("home"))
            .env("TERM", "xterm")
            .env_remove("DEMASK_SHIPPED")
            .args(arguments)
            .output()
            .unwrap()
    };
    let looked = demask(&["doctor", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&looked.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let found = |name: &str| {
        let check = checks.iter().find(|check| check["name"] == name).unwrap();
        assert_eq!(check["status"], "ok", "{check}");
        check["found"].as_str().unwrap().to_owned()
    };
    let here = second.canonicalize().unwrap();
    assert_eq!(
        Path::new(&found("shipped model")),
        here.join("share/demask/shipped/tabletop")
    );
    assert!(found("engine program").contains(&here.display().to_string()));
    let written = demask(&["generate", "Ana has 5 pens, loses 2. How many pens?", "--json"]);
    assert!(written.status.success(), "{}", said(&written));
    let answer: serde_json::Value = serde_json::from_slice(&written.stdout).unwrap();
    assert!(answer["text"].as_str().unwrap().contains('3'), "{answer}");
    for name in ["smoke.toml", "tabletop.toml"] {
        assert!(
            second.join("share/demask/profiles").join(name).is_file(),
            "{name}"
        );
    }
}
