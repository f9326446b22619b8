//! The benchmarks' rivals in PyTorch fill the same tokens as Demask on a tiny random model; otherwise their speeds
//! could not be compared. Skipped without PyTorch ($PYTHON, else python3).
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use demask_tests::programs;
use serde_json::Value;

fn example(name: &str) -> Command {
    let path = programs().join("examples").join(name);
    assert!(path.is_file(), "no {}: build the examples", path.display());
    Command::new(path)
}

fn python() -> Command {
    Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
}

fn bench(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches").join(name)
}

fn good(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Returns the answers in a program's only line of output.
fn shown(command: &mut Command) -> Value {
    let sizes = [
        "--prompt", "12", "--length", "20", "--rounds", "1", "--dtype", "f32", "--show",
    ];
    let output = good(command.args(sizes));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line["dtype"], "f32");
    serde_json::json!([line["shown"], line["tokens"]])
}

/// Every PyTorch loop produces Demask's tokens on a small random model, one row or three at a time.
#[test]
fn rivals_write_the_same_tokens() {
    let there = python().args(["-c", "import torch, safetensors"]).output();
    if !there.is_ok_and(|output| output.status.success()) {
        eprintln!("left out: no Python with PyTorch and safetensors; PYTHON names one");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let sizes = "--width 32 --layers 2 --heads 2 --hidden 48 --vocabulary 160 --length 32";
    good(example("random_folder").arg(folder.path()).args(sizes.split(' ')));
    let sure = r#""commit":{"rule":"threshold","threshold":0.6}"#;
    let prefix = format!(r#""cache":{{"keep":"prefix"}},{sure}"#);
    let dual = format!(r#""cache":{{"keep":"dual","refresh":1,"vicinity":0}},{sure}"#);
    let none = r#""cache":{"keep":"none"}"#.to_owned();
    // A schedule needs blocks of one size; in the others, the last block is shorter.
    let loops = [
        ("llada", 5, none.clone()),
        ("plain", 5, none),
        ("prefix", 8, prefix),
        ("dual", 8, dual),
    ];
    for (rival, block, settings) in &loops {
        let sampler = format!(r#"{{"steps":0,"block":{block},"end":{{"when":"never"}},{settings}}}"#);
        for batch in ["1", "3"] {
            let ours = shown(
                example("sample_rate")
                    .arg("folder")
                    .arg(folder.path())
                    .args(["--batch", batch, &sampler]),
            );
            let theirs = shown(python().arg(bench("sample_rate.py")).arg(folder.path()).args([
                "--batch",
                batch,
                "--loop",
                rival,
                "--block",
                &block.to_string(),
                "--threshold",
                "0.6",
            ]));
            assert_eq!(ours, theirs, "{rival}, batch {batch}");
        }
    }
}
