//! Hostile or senseless input to the built programs (law L9): each yields one line that names the place and the limit,
//! and no process dies.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::Command;

use demask_storage::{EvalItem, Evaluation, Record, RunState, Writer};
use demask_tests::profile::smoke;
use demask_tests::{Place, programs};
use serde_json::{Value, json};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../model/shipped/tabletop");

/// Copies the shipped checkpoint without its manifest, which would reveal the change.
fn copied(to: &Path) {
    for file in [
        "config.json",
        "budgets.json",
        "sampling.json",
        "tokenizer.json",
        "model.safetensors",
        "image_tokenizer/config.json",
        "image_tokenizer/model.safetensors",
    ] {
        let place = to.join(file);
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        std::fs::copy(Path::new(SHIPPED).join(file), place).unwrap();
    }
}

/// Sets a number in a JSON file, at a path of keys and indices.
fn set(file: &Path, path: &[&str], value: Value) {
    let mut whole: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let at = path
        .iter()
        .fold(&mut whole, |at, key| match key.parse::<usize>() {
            Ok(number) => &mut at[number],
            Err(_) => &mut at[*key],
        });
    *at = value;
    std::fs::write(file, whole.to_string()).unwrap();
}

/// Returns the one line that `generate` prints for this checkpoint.
fn refused(place: &Place, checkpoint: &Path) -> String {
    let out = place.run(&[
        "generate",
        "--checkpoint",
        &checkpoint.to_string_lossy(),
        "What is 1 + 1?",
    ]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    let mut lines = said.lines().skip_while(|line| !line.starts_with("demask: "));
    let (line, more) = (lines.next().unwrap_or_default(), lines.next());
    assert!(
        !line.is_empty() && more.is_none(),
        "one line was expected: {said}"
    );
    line.to_owned()
}

/// A number in a checkpoint's files that would need unbounded memory is refused with the file, the key, the
/// value and the limit (L9).
#[test]
fn l9_numbers_of_a_folder_that_nothing_could_hold_are_refused_by_name() {
    let place = Place::default();
    let folder = place.path().join("checkpoint");
    let cases: [(&str, &[&str], Value, &str); 8] = [
        (
            "config.json",
            &["max_sequence_length"],
            json!(1_u64 << 32),
            "16777216",
        ),
        (
            "config.json",
            &["max_sequence_length"],
            json!(1_u64 << 62),
            "16777216",
        ),
        ("config.json", &["n_layers"], json!(100_000_000), "1024"),
        ("config.json", &["vocab_size"], json!(u32::MAX), "16777216"),
        (
            "image_tokenizer/config.json",
            &["encoder", "num_res_blocks", "0"],
            json!(100_000_000),
            "64",
        ),
        (
            "image_tokenizer/config.json",
            &["decoder", "ch"],
            json!(1_u64 << 40),
            "65536",
        ),
        (
            "image_tokenizer/config.json",
            &["codebook_bits"],
            json!(1_u64 << 40),
            "18",
        ),
        (
            "budgets.json",
            &["text", "prompt"],
            json!(1_u64 << 62),
            "16777216",
        ),
    ];
    for (file, path, value, limit) in cases {
        copied(&folder);
        set(&folder.join(file), path, value.clone());
        let said = refused(&place, &folder);
        for word in [file, path[path.len() - 1], limit, &value.to_string()] {
            assert!(said.contains(word), "'{word}' is missing in: {said}");
        }
    }
}

#[test]
fn l9_a_network_larger_than_the_memory_says_how_much_it_would_take() {
    let place = Place::default();
    let folder = place.path().join("checkpoint");
    copied(&folder);
    let config = folder.join("config.json");
    for (field, value) in [
        ("d_model", 65_536),
        ("n_heads", 64),
        ("n_layers", 1000),
        ("mlp_hidden_size", 1_000_000),
    ] {
        set(&config, &[field], json!(value));
    }
    set(&config, &["n_kv_heads"], Value::Null);
    let said = refused(&place, &folder);
    for word in ["config.json", "need at least", "TiB", "are free"] {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
}

#[test]
fn l9_a_manifest_that_names_what_is_not_in_its_folder_is_refused() {
    let place = Place::default();
    let folder = place.path().join("checkpoint");
    copied(&folder);
    let manifest = |name: &str| {
        let file = json!({"name": name, "bytes": 0, "blake3": "00"});
        let whole = json!({"version": 1, "step": 0, "files": [file]});
        std::fs::write(folder.join("manifest.json"), whole.to_string()).unwrap();
    };
    for name in ["/dev/zero", "../../../etc/passwd", "a/../../b", ""] {
        manifest(name);
        let said = refused(&place, &folder);
        assert!(
            said.contains("manifest.json") && said.contains("in its folder"),
            "{said}"
        );
    }
    std::os::unix::fs::symlink("/dev/zero", folder.join("zeros")).unwrap();
    manifest("zeros");
    assert!(refused(&place, &folder).contains("regular file"));
}

#[test]
fn l9_a_tokenizer_that_asks_for_more_tokens_than_there_is_memory_is_read_without() {
    let place = Place::default();
    let folder = place.path().join("checkpoint");
    copied(&folder);
    let answer = || {
        let out = place.run(&[
            "generate",
            "--checkpoint",
            &folder.to_string_lossy(),
            "What is 1 + 1?",
        ]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let before = answer();
    let padding = json!({"strategy": {"Fixed": 1_u64 << 40}, "direction": "Right", "pad_to_multiple_of": null,
        "pad_id": 0, "pad_type_id": 0, "pad_token": "x"});
    set(&folder.join("tokenizer.json"), &["padding"], padding);
    assert_eq!(answer(), before, "the padding is left out");
}

#[test]
fn l9_too_few_descriptors_are_told_before_anything_is_begun() {
    let place = Place::default();
    let demask = programs().join("demask");
    for count in [6, 8, 12, 31] {
        let command = format!(
            "ulimit -n {count}; exec '{}' --home '{}' ps",
            demask.display(),
            place.path().display()
        );
        let out = Command::new("sh").args(["-c", &command]).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        let expected = format!(
            "demask: the limit of open files is {count}, expected at least 32: raise it (ulimit -n 1024)"
        );
        assert_eq!(said.trim_end(), expected);
        assert_eq!(out.status.code(), Some(1));
    }
}

/// What models and files say is printed without a command to the terminal, in tables and in errors; JSON keeps it.
#[test]
fn l9_no_text_from_outside_sends_a_command_to_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{9b}31mred";
    let place = Place::default();
    let mut writer = Writer::open(&place.home().database()).unwrap();
    let records = ["first", "second"].into_iter().flat_map(|id| {
        let evaluation = Evaluation {
            id: id.into(),
            checkpoint: hostile.into(),
            suites: vec!["suite".into()],
            settings: json!({}),
            seed: 0,
            limit: None,
            host: String::new(),
            version: String::new(),
            state: RunState::Done,
        };
        let item = EvalItem {
            run: id.into(),
            step: 0,
            suite: "suite".into(),
            number: 0,
            item: "item".into(),
            category: String::new(),
            counted: true,
            prompt: hostile.into(),
            picture: None,
            output: hostile.into(),
            drawn: None,
            answer: hostile.into(),
            reference: hostile.into(),
            credit: f64::from(u8::from(id == "first")),
            tokens: 1,
            forwards: 1,
            seconds: 0.0,
        };
        [Record::Evaluation(evaluation), Record::Item(item)]
    });
    writer.append(&records.collect::<Vec<_>>(), 0).unwrap();
    drop(writer);
    // A file of broken rows, and its name, as an archive may bring it.
    let rows = place.path().join("rows");
    std::fs::create_dir(&rows).unwrap();
    std::fs::write(rows.join(format!("{hostile}.jsonl")), "broken\n").unwrap();
    let profile = place.path().join("given.toml");
    let source = format!("source.sums.path={}", rows.display());
    std::fs::write(&profile, smoke(&["source.sums.kind=jsonl", &source])).unwrap();
    let said = |arguments: &[&str]| {
        let out = place.run(arguments);
        String::from_utf8([out.stdout, out.stderr].concat()).unwrap()
    };
    for arguments in [
        &["eval", "show", "first"][..],
        &["eval", "compare", "first", "second", "--items", "1"],
        &["query", "SELECT prompt, output FROM v_item"],
        &["describe", hostile],
        &["generate", "--file", hostile],
        &["runs", "show", hostile],
        &["profile", "check", profile.to_str().unwrap()],
    ] {
        let said = said(arguments);
        assert!(said.contains("red"), "{arguments:?}: {said}");
        let left: Vec<char> = said.chars().filter(|sign| sign.is_control()).collect();
        assert!(left.iter().all(|sign| *sign == '\n'), "{arguments:?}: {said:?}");
    }
    let item: Value = serde_json::from_str(said(&["eval", "show", "first", "--json"]).trim()).unwrap();
    assert_eq!(item["prompt"], hostile);
}

/// Builds a preloadable library that sets the clock before 1970.
fn early_clock(place: &Place) -> PathBuf {
    let (source, library) = (place.path().join("clock.cpp"), place.path().join("clock.so"));
    let text = "#include <time.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
        extern \"C\" int clock_gettime(clockid_t clock, struct timespec *time) {\n\
            int done = syscall(SYS_clock_gettime, clock, time);\n\
            if (clock == CLOCK_REALTIME) time->tv_sec = -1000;\n\
            return done;\n\
        }\n";
    std::fs::write(&source, text).unwrap();
    let built = Command::new("c++")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .status()
        .unwrap();
    assert!(built.success());
    library
}

#[test]
fn l9_a_clock_before_1970_is_no_reason_to_die() {
    let place = Place::default();
    let library = early_clock(&place);
    let ask = |arguments: &[&str]| {
        let out = place
            .demask(arguments)
            .env("LD_PRELOAD", &library)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!said.contains("panicked"), "{arguments:?}: {said}");
        out.status.code()
    };
    assert_eq!(ask(&["generate", "What is 1 + 1?"]), Some(0));
    assert_eq!(ask(&["profile", "check", "smoke"]), Some(0));
    // No daemon answers, and the message says so.
    assert_ne!(ask(&["ps"]), Some(0));
}
