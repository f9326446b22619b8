//! The commands as a user types them: what they print, how they fail, their exit codes.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use demask_storage::{ClientMessage, Command, PROTOCOL, Reply, ServerMessage};
use demask_tests::profile::smoke;
use demask_tests::{Place, SMOKE};

fn stderr(out: &std::process::Output) -> String {
    String::from_utf8_lossy(&out.stderr).into_owned()
}

/// Returns the folder of the published code's recorded outputs, if it is available.
fn golden() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden");
    let found = std::env::var_os("DEMASK_GOLDEN")
        .map(PathBuf::from)
        .unwrap_or(beside);
    found.is_dir().then_some(found)
}

#[test]
fn verify_passes_on_the_recordings() {
    let Some(golden) = golden() else {
        println!("skipped: no recordings at hand (DEMASK_GOLDEN names their folder)");
        return;
    };
    let place = Place::default();
    for name in ["backbone", "backbone-gqa", "magvitv2"] {
        let folder = golden.join(name);
        let reference = folder.join("reference.safetensors");
        let out = place.run(&[
            "verify",
            folder.to_str().unwrap(),
            reference.to_str().unwrap(),
            "--json",
        ]);
        let report: serde_json::Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", stderr(&out)));
        assert_eq!(report["passed"], true, "{name}: {report:#}");
        assert_eq!(out.status.code(), Some(0));
        assert!(report["tensors"].as_array().unwrap().len() >= 3);
    }
}

#[test]
fn a_wrong_profile_is_named_with_its_line_and_nothing_is_started() {
    let place = Place::default();
    let file = place.path().join("wrong.toml");
    let cases = [
        (smoke(&["stage.pretrain.stepz=8"]), "stepz"),
        (smoke(&["stage.unigrpo.objective.clip=200.0"]), "clip"),
        (smoke(&["seed=\"three\""]), "expected u64"),
        (smoke(&["stage.pretrain.kind=pretrian"]), "pretrian"),
    ];
    for (text, word) in cases {
        std::fs::write(&file, text).unwrap();
        let out = place.run(&["run", "--headless", "--profile", file.to_str().unwrap()]);
        let said = stderr(&out);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(
            said.contains("line ") && said.contains(word) && said.contains("wrong.toml"),
            "{said}"
        );
        assert!(place.home().daemon_pid().is_none(), "nothing is started");
    }
}

#[test]
fn without_a_daemon_every_command_says_so() {
    let place = Place::default();
    for command in [
        &["ps"][..],
        &["pause"],
        &["resume"],
        &["stop"],
        &["checkpoint"],
        &["set", "kl=0.1"],
        &["ask", "What is 3 + 4?"],
        &["attach"],
    ] {
        let out = place.run(command);
        assert_eq!(out.status.code(), Some(1), "{command:?}");
        assert!(stderr(&out).contains("no daemon is running"), "{}", stderr(&out));
    }
}

#[test]
fn the_daemon_keeps_a_log_of_what_it_does() {
    let place = Place::default();
    let out = place.run(&["daemon", "logs"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("no daemon has served"), "{}", stderr(&out));
    let file = place.path().join("smoke.toml");
    std::fs::write(&file, SMOKE).unwrap();
    let out = place.run_profile(&file);
    assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
    assert_eq!(place.run(&["daemon", "stop"]).status.code(), Some(0));
    let log = String::from_utf8(place.run(&["daemon", "logs"]).stdout).unwrap();
    for words in [
        "is up, process",
        "(smoke), life 0",
        "checkpoint at step 18",
        "done: all stages are done",
        "daemon ended",
    ] {
        assert!(log.contains(words), "'{words}' is missing in: {log}");
    }
}

/// Requesting the run that is already in progress follows it. Requesting another one is refused.
#[test]
fn a_run_that_is_under_way_is_followed_by_who_asks_for_the_same() {
    let place = Place::default();
    let file = place.path().join("smoke.toml");
    std::fs::write(&file, SMOKE).unwrap();
    let profile = file.to_str().unwrap();
    let run = |flags: &[&str]| place.run(&[&["run", "--headless", "--profile", profile], flags].concat());
    assert_eq!(run(&["--from-scratch", "--detach"]).status.code(), Some(0));
    assert_eq!(place.run(&["pause"]).status.code(), Some(0));
    let other = run(&["--from-scratch"]);
    assert_eq!(other.status.code(), Some(1));
    assert!(stderr(&other).contains("is active"), "{}", stderr(&other));
    let other = run(&["--set", "seed=4"]);
    assert_eq!(other.status.code(), Some(1), "another seed is another run");
    assert!(
        stderr(&other).contains("is active") && !stderr(&other).contains("followed"),
        "{}",
        stderr(&other)
    );
    let same = run(&["--detach", "--json"]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    let said: serde_json::Value = serde_json::from_slice(&same.stdout).unwrap();
    assert!(said["under_way"].is_string(), "{said}");
    let flags = ["run", "--headless", "--profile", profile];
    let mut command = place.demask(&flags);
    let mut same = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut note = String::new();
    BufReader::new(same.stderr.take().unwrap())
        .read_line(&mut note)
        .unwrap();
    assert!(note.contains("followed here"), "{note}");
    assert_eq!(place.run(&["resume"]).status.code(), Some(0));
    let same = same.wait_with_output().unwrap();
    assert_eq!(same.status.code(), Some(0));
    let said = String::from_utf8(same.stdout).unwrap();
    assert!(said.contains("done: all stages are done"), "{said}");
    assert_eq!(place.run(&["daemon", "stop"]).status.code(), Some(0));
}

/// Commands with a closed standard error: no panic, and each is executed.
#[test]
fn a_closed_standard_error_is_no_panic() {
    let place = Place::default();
    drop(demask_storage::Writer::open(&place.home().database()).unwrap());
    for (command, code) in [
        (&["runs", "list"][..], 0),
        (&["ps"], 1),
        (&["eval", "no-such-suite"], 2),
        (
            &["generate", "Ana has 5 pens, loses 2. How many pens?", "--show"],
            0,
        ),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let out = place.demask(command).stderr(writer).output().unwrap();
        assert_eq!(out.status.code(), Some(code), "{command:?}");
    }
}

#[test]
fn an_answer_is_drawn_as_the_checkpoint_says_unless_the_flags_say_otherwise() {
    let place = Place::default();
    let ask = |flags: &[&str]| {
        let out = place.run(
            &[
                &["generate", "Ana has 5 pens, loses 2. How many pens?", "--json"],
                flags,
            ]
            .concat(),
        );
        let answer: serde_json::Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", stderr(&out)));
        (answer["text"].clone(), answer["steps"].clone())
    };
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/shipped/tabletop/sampling.json");
    let sampling: serde_json::Value = serde_json::from_slice(&std::fs::read(shipped).unwrap()).unwrap();
    let said = ["block", "temperature"].map(|key| sampling["text"][key].to_string());
    assert_eq!(ask(&[]), ask(&["--block", &said[0], "--temperature", &said[1]]));
    assert_ne!(ask(&[]).1, ask(&["--block", "1"]).1);
    let out = place.run(&["generate", "x", "--steps", "7"]);
    assert_eq!(out.status.code(), Some(2));
    assert!(stderr(&out).contains("a multiple of 5"), "{}", stderr(&out));
}

#[test]
fn wrong_usage_exits_2() {
    let place = Place::default();
    for command in [
        &["eval", "no-such-suite"][..],
        &["set", "kl"],
        &["frobnicate"],
        &["run", "--set", "nonsense", "--headless"],
    ] {
        assert_eq!(place.run(command).status.code(), Some(2), "{command:?}");
    }
}

#[test]
fn a_query_cannot_write_and_names_the_views() {
    let place = Place::default();
    let out = place.run(&["query", "SELECT 1"]);
    assert!(stderr(&out).contains("does not exist"), "{}", stderr(&out));
    drop(demask_storage::Writer::open(&place.home().database()).unwrap());
    for sql in ["DELETE FROM run", "PRAGMA user_version = 9", "ATTACH 'x.db' AS x"] {
        assert_eq!(place.run(&["query", sql]).status.code(), Some(1), "{sql}");
    }
    let out = place.run(&["query", "SELECT * FROM runs"]);
    assert!(stderr(&out).contains("v_run"), "{}", stderr(&out));
}

#[test]
fn a_database_of_a_newer_version_is_refused_untouched() {
    let place = Place::default();
    let database = place.home().database();
    drop(demask_storage::Writer::open(&database).unwrap());
    let out = std::process::Command::new("python3")
        .args(["-c", "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute('PRAGMA user_version=99'); c.commit()"])
        .arg(&database)
        .status();
    assert!(out.is_ok_and(|status| status.success()));
    let before = std::fs::read(&database).unwrap();
    let out = place.run(&["daemon", "start", "--foreground"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(stderr(&out).contains("99"), "{}", stderr(&out));
    assert_eq!(std::fs::read(&database).unwrap(), before);
}

/// Answers one command as a daemon that refuses it; returns the command.
fn refuse(listener: &UnixListener) -> Command {
    let (mut stream, _) = listener.accept().unwrap();
    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut asked = None;
    for line in lines.map_while(Result::ok) {
        let ClientMessage { id, command, .. } = serde_json::from_str(&line).unwrap();
        let message = "not yet".to_owned();
        let answer = ServerMessage::Reply {
            id,
            protocol: PROTOCOL,
            version: String::new(),
            reply: Reply::Refused { message },
        };
        writeln!(stream, "{}", serde_json::to_string(&answer).unwrap()).unwrap();
        // Before a command that may take long, a client asks whether the daemon answers at all.
        asked = Some(command);
        if asked != Some(Command::Status) {
            break;
        }
    }
    asked.unwrap()
}

/// A command waits for a daemon that holds the home's lock and does not answer yet, then sends the typed
/// command. Without a daemon it fails.
#[test]
fn a_command_to_a_daemon_that_is_starting_waits_for_it() {
    let place = Place::default();
    let home = place.home();
    // The home is locked, but no daemon answers yet.
    let lock = home.lock().unwrap();
    let (key, value) = ("kl".to_owned(), 0.02);
    for (typed, command) in [
        (&["ps"][..], Command::Actors),
        (&["pause"], Command::Pause),
        (&["resume"], Command::Resume),
        (&["set", "kl=0.02"], Command::Set { key, value }),
        (&["checkpoint"], Command::Checkpoint),
        (&["stop"], Command::Stop),
    ] {
        let mut waiting = place
            .demask(typed)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines();
        let first = said.next().unwrap().unwrap();
        assert!(first.contains("waiting for the daemon"), "{typed:?}: {first}");
        let listener = UnixListener::bind(home.socket().unwrap()).unwrap();
        assert_eq!(refuse(&listener), command);
        drop(listener);
        std::fs::remove_file(home.socket().unwrap()).unwrap();
        assert_eq!(waiting.wait().unwrap().code(), Some(1), "{typed:?}");
    }
    drop(lock);
    let out = place.run(&["pause"]);
    assert!(
        out.status.code() == Some(1) && stderr(&out).contains("no daemon is running"),
        "{}",
        stderr(&out)
    );
}

/// Reward networks that are named score the benchmark's drawings in addition, and do not change its result.
#[test]
fn drawings_of_a_benchmark_are_scored_by_the_networks_that_are_named_beside_the_detector() {
    let place = Place::default();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/tests/fixtures");
    let [clip, image_reward] = ["clip", "image-reward"].map(|name| fixtures.join(name).display().to_string());
    let suites = ["eval", "tabletop-draw", "tabletop-sums", "--limit", "5"];
    let asked = |more: &[&str]| {
        let out = place.run(&[&suites[..], more].concat());
        assert_eq!(out.status.code(), Some(0), "{}", stderr(&out));
        String::from_utf8(out.stdout).unwrap()
    };
    let json = |text: &str| -> Vec<serde_json::Value> {
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let plain = json(&asked(&["--json"]));
    assert!(plain.iter().all(|suite| suite.get("networks").is_none()));
    let both = ["--clip", &clip, "--image-reward", &image_reward];
    let mut scored = json(&asked(&[&both[..], &["--json"]].concat()));
    assert!(scored[1].get("networks").is_none(), "sums are not drawn");
    let networks = scored[0].as_object_mut().unwrap().remove("networks").unwrap();
    assert_eq!(scored, plain, "the detector's score is what it was");
    for network in ["clip", "image_reward"] {
        let mean = &networks[network];
        let [low, value, high] = ["low", "value", "high"].map(|key| mean[key].as_f64().unwrap());
        assert!(low < value && value < high, "{networks:#}");
        assert_eq!(mean["n"], plain[0]["n"], "of the same drawings");
    }
    let table = asked(&both);
    let clip_alone = asked(&both[..2]);
    assert!(
        table.contains("CLIP score") && table.contains("ImageReward"),
        "{table}"
    );
    assert!(
        clip_alone.contains("CLIP score") && !clip_alone.contains("ImageReward"),
        "{clip_alone}"
    );
}

#[test]
fn a_reward_network_that_is_not_there_is_named_before_anything_is_drawn() {
    let place = Place::default();
    let empty = place.path().to_str().unwrap();
    for (flag, folder, words) in [
        ("--clip", "nowhere/at/all", "--clip nowhere/at/all"),
        ("--clip", "o/clip", "`demask pull o/clip` first"),
        ("--image-reward", empty, "--image-reward: "),
    ] {
        let out = place.run(&["eval", "tabletop-draw", flag, folder]);
        assert_eq!(out.status.code(), Some(1));
        assert!(stderr(&out).contains(words), "{}", stderr(&out));
    }
}

/// A file of prompts yields one line per prompt and sample, each equal to the result of a single call. A byte
/// order mark is left out. A broken line is reported with its number.
#[test]
fn prompts_of_a_file_are_answered_a_line_each_and_one_of_standard_input_too() {
    let place = Place::default();
    let file = place.path().join("prompts.jsonl");
    std::fs::write(
        &file,
        "\u{feff}{\"prompt\": \"Ann has 5 pens, loses 2. How many pens?\"}\n\nBen has 3 cups.\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();
    let out = place.run(&["generate", "--file", file, "--samples", "2", "--json"]);
    assert!(out.status.success(), "{}", stderr(&out));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let asked: Vec<(&str, u64)> = lines
        .iter()
        .map(|line| (line["prompt"].as_str().unwrap(), line["seed"].as_u64().unwrap()))
        .collect();
    let (first, second) = ("Ann has 5 pens, loses 2. How many pens?", "Ben has 3 cups.");
    assert_eq!(asked, [(first, 0), (first, 1), (second, 0), (second, 1)]);

    // A single prompt gets the same answer, whether typed or from standard input.
    let alone = place.run(&["generate", first, "--json"]);
    let alone: serde_json::Value = serde_json::from_slice(&alone.stdout).unwrap();
    assert_eq!(alone["text"], lines[0]["text"]);
    let mut child = place
        .demask(&["generate", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(first.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&said.stdout).trim(),
        lines[0]["text"].as_str().unwrap().trim()
    );

    std::fs::write(file, "{\"text\": \"no prompt\"}\n").unwrap();
    let wrong = place.run(&["generate", "--file", file]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = stderr(&wrong);
    assert!(
        said.contains("prompts.jsonl:1") && said.contains("\"prompt\" with some text was expected"),
        "{said}"
    );
}
