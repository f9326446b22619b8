//! `tests/benches/gpu.sh` on the CPU with small sizes, so that on a GPU only the device is new.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use demask_tests::programs;
use serde_json::Value;

/// Every section, in order.
const SECTIONS: [&str; 22] = [
    "doctor",
    "golden-f32",
    "golden-bf16",
    "cuda",
    "world",
    "sharded-step",
    "forward",
    "lora",
    "qlora",
    "peers",
    "beside",
    "ranks",
    "picture",
    "text",
    "full-step",
    "loading",
    "lora-long",
    "tabletop",
    "unigrpo",
    "kill",
    "nccl",
    "profile",
];

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/gpu.sh")
}

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(script());
    command
        .arg("--programs")
        .arg(programs())
        .args(arguments)
        .stdin(Stdio::null())
        // The libtorch with which the programs were built, whichever Python is active.
        .env_remove("LIBTORCH")
        .env("PATH", "/usr/bin:/bin");
    command.output().unwrap()
}

fn on_the_cpu(out: &Path, more: &[&str]) -> Output {
    let fixed = ["--device", "cpu", "--small", "--out", out.to_str().unwrap()];
    bench(&[&fixed, more].concat())
}

fn said(output: &Output) -> String {
    let streams = [&output.stdout, &output.stderr];
    streams
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .join("\n")
}

fn figures(out: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(out.join("results.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    all["figures"].as_array().unwrap().clone()
}

fn lines(out: &Path) -> usize {
    std::fs::read_to_string(out.join("results.jsonl"))
        .unwrap()
        .lines()
        .count()
}

/// Every section of the GPU benchmark runs on a CPU, reports a verdict, and leaves only its result files.
/// Finished sections are not repeated, except on request.
#[test]
fn every_section_gives_a_verdict_and_what_is_done_is_not_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let first = on_the_cpu(out, &["--profile", "--minutes", "30"]);
    let words = said(&first);
    assert_eq!(first.status.code(), Some(0), "{words}");
    let found = figures(out);
    let mut sections: Vec<&str> = found
        .iter()
        .map(|figure| figure["section"].as_str().unwrap())
        .collect();
    sections.dedup();
    assert_eq!(sections, SECTIONS, "{words}");
    let table = std::fs::read_to_string(out.join("table.txt")).unwrap();
    assert!(words.contains(&table), "the table is printed");
    // A heading, a line per result, and a line that counts them.
    assert_eq!(table.trim().lines().count(), found.len() + 2);
    for (line, figure) in table.lines().skip(1).zip(&found) {
        let of = |key: &str| figure[key].as_str().unwrap();
        assert!(
            line.starts_with(of("section")) && line.contains(of("figure")),
            "{line}"
        );
        let verdict = of("verdict");
        assert!(
            line.contains(verdict) && ["ok", "skipped"].contains(&verdict),
            "{line}"
        );
        assert!(
            figure["asked"].is_null() || of("section").starts_with("golden"),
            "{line}"
        );
    }
    let mut files: Vec<_> = std::fs::read_dir(out)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    files.sort();
    let expected = [
        "log.txt",
        "profile.json",
        "results.json",
        "results.jsonl",
        "table.txt",
    ];
    assert_eq!(files, expected, "nothing else is left behind");

    let before = lines(out);
    let again = on_the_cpu(out, &["--resume", "--profile"]);
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert_eq!(
        (lines(out), figures(out)),
        (before, found.clone()),
        "nothing was done"
    );
    assert_eq!(said(&again).matches("done before").count(), SECTIONS.len());
    let afresh = on_the_cpu(out, &["--fresh", "--only", "picture,forward"]);
    assert_eq!(afresh.status.code(), Some(0), "{}", said(&afresh));
    assert!(lines(out) > before, "both were done again");
    let names: Vec<Value> = figures(out)
        .iter()
        .map(|figure| figure["section"].clone())
        .collect();
    assert_eq!(names.len(), 6, "{names:?}");
}

#[test]
fn what_there_is_no_time_for_is_skipped_and_done_the_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path();
    let only = ["--only", "nccl,picture"];
    let none = on_the_cpu(out, &[&only[..], &["--minutes", "0"]].concat());
    assert_eq!(none.status.code(), Some(0), "{}", said(&none));
    let verdicts: Vec<Value> = figures(out)
        .iter()
        .map(|figure| figure["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["skipped", "skipped"]);
    let some = on_the_cpu(out, &only);
    assert!(
        figures(out).iter().all(|figure| figure["verdict"] == "ok"),
        "{}",
        said(&some)
    );
}

/// An unexpected end of a section is a failure of that section only.
#[test]
fn a_section_that_fails_stops_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("no-recordings");
    std::fs::create_dir(&empty).unwrap();
    let arguments = [
        "--only",
        "golden-f32,picture",
        "--golden",
        empty.to_str().unwrap(),
    ];
    let out = folder.path().join("out");
    let output = on_the_cpu(&out, &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let figures = figures(&out);
    assert_eq!(figures[0]["verdict"], "FAIL");
    assert!(
        figures[0]["note"].as_str().unwrap().contains("no recordings in"),
        "{figures:?}"
    );
    assert_eq!(
        (figures[1]["section"].as_str(), figures[1]["verdict"].as_str()),
        (Some("picture"), Some("ok"))
    );
    let again = on_the_cpu(&out, &arguments);
    assert_eq!(
        said(&again).matches("done before").count(),
        1,
        "what failed is done again"
    );
}

/// Wrong flags are refused with what is expected, and the help is printed.
#[test]
fn a_wrong_flag_is_named_with_what_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().to_str().unwrap();
    for (arguments, words) in [
        (&["--bogus"][..], "unknown flag --bogus"),
        (&["--device"], "--device needs a value"),
        (&["--device", "tpu"], "--device tpu: expected cpu or cuda:N"),
        (
            &["--only", "forward,backward"],
            "no section backward: expected one of doctor, golden-f32",
        ),
        (
            &["--minutes", "soon"],
            "--minutes soon: expected a number of minutes",
        ),
        (&["--only", "world,worlds"], "no section worlds: expected one of"),
        (&["--layers", "0"], "--layers 0: expected 1 to 32"),
        (
            &["--resume", "--fresh"],
            "--resume and --fresh: expected one of them",
        ),
        (&["--pack"], "--pack needs a folder"),
    ] {
        let arguments = [&["--out", out], arguments].concat();
        let output = bench(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains(words), "{}", said(&output));
    }
    let help = bench(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(said(&help).contains("--pack FOLDER"));
}
