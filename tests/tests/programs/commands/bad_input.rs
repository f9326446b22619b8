//! User errors with the built program: each is named, the message says what is allowed or what to do, and nothing is
//! started.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;
use std::process::Output;

use demask_storage::{Command, Record, Reply, Run, Writer};
use demask_tests::profile::smoke;
use demask_tests::{Place, programs};

/// Returns the standard error of a command after checking its exit code.
fn refused(place: &Place, code: i32, arguments: &[&str]) -> String {
    let out: Output = place.run(arguments);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn names(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "'{word}' is missing in: {said}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_value_out_of_range_is_named_with_the_line_that_has_it() {
    let place = Place::default();
    let file = place.path().join("wrong.toml");
    // The first of several stages, so that the last line with the same key would be the wrong one.
    let profile = smoke(&["stage.pretrain.steps=0"]);
    let line = profile.lines().position(|line| line == "steps = 0").unwrap() + 1;
    std::fs::write(&file, profile).unwrap();
    let said = refused(&place, 2, &["run", "--headless", "--profile", text(&file)]);
    names(&said, &[&format!("line {line}:"), "steps is 0", "allowed is 1"]);
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}

#[test]
fn a_wrong_set_is_named_itself() {
    let place = Place::default();
    let run = |flag| {
        refused(
            &place,
            2,
            &["run", "--headless", "--set", "seed=1", "--set", flag],
        )
    };
    names(&run("sed=7"), &["--set sed=7", "unknown field", "seed"]);
    names(&run("seed=seven"), &["--set seed=seven", "u64"]);
    names(&run("clip_norm=-1"), &["--set clip_norm=-1", "allowed is 0"]);
    names(&run("stage.99.steps=1"), &["stage.99"]);
    names(&run("seed"), &["KEY=VALUE"]);
    names(
        &refused(&place, 2, &["run", "--headless", "--profile", "no-such"]),
        &["no-such", "tabletop", "gsm8k-fashion"],
    );
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}

/// Flags that make no sense are refused with what is expected. The engine's path does not exist, so a
/// command that started it would fail differently.
#[test]
fn flags_that_cannot_be_meant_are_refused_before_anything_is_loaded() {
    let place = Place::default();
    let ask = "Ana has 5 pens, loses 2. How many pens?";
    for (arguments, words) in [
        (&["generate", " "][..], "expected a text that is not empty"),
        (&["generate", ask, "--temperature", "-1"], "at least 0"),
        (&["generate", ask, "--guidance", "nan"], "finite"),
        (&["generate", ask, "--threshold", "1.5"], "a number from 0 to 1"),
        (&["generate", ask, "--steps", "0"], "at least 1"),
        (&["generate", ask, "--length", "0"], "at least 1"),
        (
            &["imagine", "a red circle", "-o", "x.png", "--scale", "100000"],
            "1..=64",
        ),
        (&["imagine", "a red circle", "-o", "x.jpg"], ".png"),
        (&["imagine", "a red circle", "-o", "."], "is a folder"),
        (&["eval", "tabletop-sums", "--limit", "0"], "at least 1"),
        (&["generate", ask, "--length", "99999999999"], "at most 16777216"),
        (&["fill", "[MASK:3] pens", "--steps", "0"], "at least 1"),
        (&["fill", "[MASK:99999999999] pens"], "at most 16777216"),
        (
            &["fill", "[MASK:18446744073709551615][MASK:2] pens"],
            "at most 16777216",
        ),
        (
            &["fill", "[MASK:3] pens", "--steps", "4"],
            "--steps 4: expected at most 3",
        ),
        (&["fill", "[MASK:3] pens", "--temperature", "-1"], "at least 0"),
        (
            &["imagine", "a red circle", "-o", "x.png", "--size", "96"],
            "max_sequence_length 160",
        ),
        (&["generate", ask, "--samples", "99999999999"], "at most 65536"),
        (&["generate", ask, "--steps", "99999999999"], "at most 65535"),
        (&["generate", ask, "--block", "99999999999"], "at most 16777216"),
        (
            &["describe", "--file", "list", "--samples", "18446744073709551616"],
            "at most 65536",
        ),
        (
            &["imagine", "--file", "list", "-o", "out", "--samples", "65537"],
            "invalid value '65537' for '--samples",
        ),
        (
            &["imagine", "a red circle", "-o", "x.png", "--size", "65537x32"],
            "at most 65536 a side",
        ),
        (
            &["imagine", "a red circle", "-o", "x.png", "--place", "0,65537"],
            "at most 65536 each",
        ),
        (&["eval", "tabletop-sums", "--samples", "1025"], "at most 1024"),
        (
            &["eval", "tabletop-sums", "--limit", "1000001"],
            "at most 1000000",
        ),
        (
            &["eval", "tabletop-sums", "--shards", "1/65537"],
            "at most 65536 parts",
        ),
        (
            &["report", "--output", "x.html", "--samples", "10001"],
            "at most 10000",
        ),
        (&["grow", "in", "out", "--codes", "262145"], "at most 262144"),
        (&["grow", "in", "out", "--size", "65537"], "at most 65536"),
        (&["convert", "in.pt", "out.bin"], "ends in .safetensors"),
        (
            &["ask", "a red circle", "--draw", "--output", "nowhere/at/all.png"],
            "there is no folder nowhere/at to write to",
        ),
        (&[], "Usage: demask"),
    ] {
        let out = demask_tests::programs().join("demask");
        let out = std::process::Command::new(out)
            .env("DEMASK_HOME", place.path())
            .env("DEMASK_ENGINE", "/nonexistent")
            .args(arguments)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}: {said}");
        names(&said, &[words]);
    }
}

/// A link is refused before anything is loaded, also with `--force`, and whether its target exists or not.
#[test]
fn l9_no_command_writes_through_a_link() {
    let place = Place::default();
    let target = place.path().join("precious");
    std::fs::write(&target, "precious").unwrap();
    let commands: [(&str, &[&str]); 6] = [
        ("out.png", &["imagine", "a red circle", "--output"]),
        ("out.png", &["ask", "a red circle", "--draw", "--output"]),
        ("out.safetensors", &["convert", "in.pt"]),
        ("out.html", &["report", "any", "--force", "--output"]),
        ("out.svg", &["plot", "any", "--force", "--output"]),
        ("out.jsonl", &["eval", "tabletop-sums", "--force", "--items"]),
    ];
    for to in [target.clone(), place.path().join("nowhere")] {
        for (name, arguments) in commands {
            let link = place.path().join(name);
            std::os::unix::fs::symlink(&to, &link).unwrap();
            let arguments = [arguments, &[text(&link)]].concat();
            let said = refused(&place, 2, &arguments);
            assert!(said.contains("exist"), "{arguments:?}: {said}");
            assert!(link.is_symlink(), "{arguments:?}");
            std::fs::remove_file(&link).unwrap();
        }
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "precious");
    assert!(!place.path().join("nowhere").exists());
}

#[test]
fn a_source_whose_file_is_missing_is_named_with_its_line_and_what_to_do() {
    let place = Place::default();
    let file = place.path().join("given.toml");
    let profile = smoke(&["source.sums.kind=jsonl", "source.sums.path=nowhere/x.jsonl"]);
    let line = profile
        .lines()
        .position(|line| line.contains("nowhere/x.jsonl"))
        .unwrap()
        + 1;
    std::fs::write(&file, profile).unwrap();
    let said = refused(
        &place,
        2,
        &["run", "--headless", "--from-scratch", "--profile", text(&file)],
    );
    let line = format!("line {line}:");
    names(&said, &[&line, "source sums", "nowhere/x.jsonl", "DEMASK_DATA"]);
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}

/// A truncated checkpoint is refused, and the previous one is suggested.
#[test]
fn a_truncated_checkpoint_is_named_and_the_one_before_offered() {
    let place = Place::default();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/shipped/tabletop");
    let (before, broken) = (
        place.path().join("step-00000003"),
        place.path().join("step-00000006"),
    );
    copy(&shipped, &before);
    copy(&shipped, &broken);
    let weights = broken.join("model.safetensors");
    let whole = std::fs::metadata(&weights).unwrap().len();
    let file = std::fs::File::options().write(true).open(&weights).unwrap();
    file.set_len(whole / 2).unwrap();
    let said = refused(
        &place,
        1,
        &["generate", "What is 3 + 4?", "--checkpoint", text(&broken)],
    );
    names(
        &said,
        &["model.safetensors", "truncated", text(&broken), text(&before)],
    );
    let said = refused(
        &place,
        1,
        &["generate", "x", "--checkpoint", text(&place.path().join("none"))],
    );
    names(&said, &["none", "cannot be used"]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (from, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// A home that cannot be created is reported with its path and how to choose another.
#[test]
fn a_home_that_cannot_be_written_is_named_with_what_to_do() {
    let place = Place::default();
    let file = place.path().join("file");
    std::fs::write(&file, "x").unwrap();
    // A folder below a file, which not even root can create.
    let home = file.join("home");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(programs().join("demask"));
        command.arg("--home").arg(&home).args(arguments).output().unwrap()
    };
    for command in [&["daemon", "start"][..], &["run", "--headless"]] {
        let out = run(command);
        assert_eq!(out.status.code(), Some(1));
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        names(&said, &[text(&home), "--home", "DEMASK_HOME"]);
    }
    let out = run(&["doctor", "--json"]);
    assert_eq!(out.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let home = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["name"] == "home");
    assert_eq!(home.unwrap()["status"], "fail");
}

/// A file that is not a database, another program's database and one of a newer version are refused and left
/// unchanged.
#[test]
fn a_database_that_is_not_ours_or_newer_is_refused_untouched() {
    for (what, word) in [
        ("text", "not a SQLite database"),
        ("theirs", "not a store of Demask"),
        ("newer", "99"),
    ] {
        let place = Place::default();
        let database = place.home().database();
        match what {
            "text" => std::fs::write(&database, "this is no database, it is a diary. ".repeat(100)).unwrap(),
            "theirs" => sqlite(&database, "CREATE TABLE theirs (x)"),
            _ => {
                drop(Writer::open(&database).unwrap());
                sqlite(&database, "PRAGMA user_version = 99");
            }
        }
        let before = std::fs::read(&database).unwrap();
        for command in [
            &["query", "SELECT 1"][..],
            &["runs", "list"],
            &["daemon", "start"],
        ] {
            names(&refused(&place, 1, command), &["demask.db", word]);
        }
        assert_eq!(std::fs::read(&database).unwrap(), before, "{what}: untouched");
        assert!(place.home().daemon_pid().is_none(), "nothing is started");
    }
}

/// A pipe that nobody reads would keep whoever opens it for ever.
#[test]
fn l10_a_pipe_in_place_of_the_daemons_log_is_refused() {
    let place = Place::default();
    let log = place.home().log();
    let made = std::process::Command::new("mkfifo").arg(&log).status().unwrap();
    assert!(made.success());
    let said = refused(&place, 1, &["daemon", "start"]);
    names(&said, &["daemon.log", "not a regular file; remove it"]);
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}

fn sqlite(database: &Path, sql: &str) {
    let program = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit()";
    let done = std::process::Command::new("python3")
        .args(["-c", program])
        .arg(database)
        .arg(sql)
        .status();
    assert!(done.is_ok_and(|status| status.success()));
}

/// Queries are read-only: statements that write, several statements and syntax errors are refused with the
/// reason.
#[test]
fn a_query_that_writes_or_does_not_parse_says_why() {
    let place = Place::default();
    drop(Writer::open(&place.home().database()).unwrap());
    for sql in [
        "DELETE FROM run",
        "INSERT INTO run_key (run) VALUES ('x')",
        "SELECT 1; DROP TABLE run",
        "ATTACH 'other.db' AS other",
        "",
    ] {
        names(
            &refused(&place, 1, &["query", sql]),
            &["a single SELECT statement", "read-only"],
        );
    }
    names(
        &refused(&place, 1, &["query", "SELEKT 1"]),
        &["SELEKT", "syntax error"],
    );
    names(
        &refused(&place, 1, &["query", "SELECT nowhere FROM v_run"]),
        &["nowhere", "v_metric"],
    );
}

#[test]
fn a_query_without_sql_lists_the_views() {
    let place = Place::default();
    for arguments in [&["query"][..], &["query", "--help"]] {
        let out = place.run(arguments);
        assert_eq!(out.status.code(), Some(0));
        let said = String::from_utf8(out.stdout).unwrap();
        names(&said, &["v_lineage", "applied_step", "demask query \"SELECT"]);
    }
    let out = place.run(&["query", "--json"]);
    let views: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(views[0]["view"], "v_run");
    assert_eq!(views[0]["columns"][0], "run");
}

#[test]
fn a_picture_that_does_not_decode_is_named() {
    let place = Place::default();
    let file = place.path().join("picture.png");
    std::fs::write(&file, "no picture").unwrap();
    let said = refused(&place, 1, &["describe", text(&file)]);
    names(&said, &["picture.png", "PNG or JPEG"]);
    names(
        &refused(&place, 1, &["describe", "missing.png"]),
        &["missing.png", "No such file"],
    );
}

/// A picture of one black pixel.
const PNG: &[u8] =
    b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x00\x00\x01\x00\x00\x00\x01\
      \x08\x00\x00\x00\x00\x3a\x7e\x9b\x55\x00\x00\x00\x0a\x49\x44\x41\x54\x78\xda\x63\x60\x00\x00\x00\
      \x02\x00\x01\xe5\x27\xde\xfc\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";

#[test]
fn a_benchmark_is_not_run_in_pictures_that_it_cannot_judge() {
    let place = Place::default();
    let said = refused(
        &place,
        2,
        &["eval", "tabletop-draw", "--limit", "1", "--size", "48x32"],
    );
    names(&said, &["--size 48x32", "tabletop-draw", "32x32"]);
    let said = refused(
        &place,
        2,
        &["eval", "tabletop-ask", "--limit", "1", "--size", "48x32"],
    );
    names(&said, &["--size 48x32", "tabletop-ask", "square"]);
}

#[test]
fn a_size_that_leaves_no_room_for_the_text_is_refused_with_both_numbers() {
    let place = Place::default();
    let file = place.path().join("picture.png");
    std::fs::write(&file, PNG).unwrap();
    // It could be drawn, because a drawing's prompt is shorter than a question with its answer.
    let said = refused(&place, 2, &["describe", text(&file), "--size", "80"]);
    names(&said, &["--size 80", "162 tokens", "max_sequence_length 160"]);
}

#[test]
fn a_missing_image_tokenizer_is_told_by_its_own_flag() {
    let place = Place::default();
    let said = refused(&place, 1, &["generate", "x", "--image-tokenizer", "./nosuch"]);
    names(&said, &["--image-tokenizer ./nosuch", "no such folder"]);
    assert!(!said.contains("--checkpoint"), "{said}");
}

#[test]
fn an_unknown_suite_or_run_is_told_what_there_is() {
    let place = Place::default();
    names(
        &refused(&place, 2, &["eval", "tabletop-drew"]),
        &["tabletop-drew", "tabletop-draw"],
    );
    drop(Writer::open(&place.home().database()).unwrap());
    names(
        &refused(&place, 1, &["runs", "show", "ffff"]),
        &["ffff", "demask runs list"],
    );
    names(
        &refused(&place, 1, &["runs", "show", "latest"]),
        &["demask runs list"],
    );
    names(
        &refused(&place, 1, &["runs", "diff", "a'b", "c"]),
        &["a'b", "demask runs list"],
    );
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_daemon_is_told_of_the_first() {
    let mut place = Place::default();
    let client = place.serve().await;
    let pid = place.pid().unwrap().to_string();
    for command in [&["daemon", "start"][..], &["daemon", "start", "--foreground"]] {
        names(&refused(&place, 1, command), &[&pid]);
    }
    names(&refused(&place, 1, &["pause"]), &["no run", "demask run"]);
    let out = place.run(&["daemon", "status", "--json"]);
    assert_eq!(out.status.code(), Some(0));
    let status: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&status["running"], status["pid"].to_string()),
        (&true.into(), pid)
    );
    drop(client);
    assert_eq!(place.terminate(), Some(0));
}

/// The daemon holds what it passes on; a command that reads the store itself may print more.
#[tokio::test(flavor = "current_thread")]
async fn l9_a_result_through_the_daemon_is_held_to_a_limit_of_its_own() {
    let mut place = Place::default();
    let mut client = place.serve().await;
    let one = "SELECT printf('%.12000000c', 'x')";
    let query = |sql: &str| Command::Query {
        sql: sql.to_owned(),
        limit: 0,
    };
    let reply = client.ask(query(one)).await.unwrap();
    assert!(matches!(&reply, Reply::Rows { rows, .. } if rows.len() == 1));
    let three = [one, one, one].join(" UNION ALL ");
    let Reply::Refused { message } = client.ask(query(&three)).await.unwrap() else {
        panic!("the daemon has passed on 36 MB");
    };
    names(&message, &["larger than 32 MiB", "fewer rows or columns"]);
    let printed = place.run(&["query", &three, "--format", "csv"]);
    assert!(printed.status.success() && printed.stdout.len() > 36_000_000);
    drop(client);
    assert_eq!(place.terminate(), Some(0));
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_dead_daemon_left_is_in_nobodys_way() {
    let mut place = Place::default();
    let home = place.home();
    std::fs::write(home.pid_file(), "1 0.1.0\n").unwrap();
    let socket = home.socket().unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists(), "a socket that nobody listens on");
    for command in [&["ps"][..], &["attach"], &["stop"]] {
        names(
            &refused(&place, 1, command),
            &["no daemon is running", "demask run"],
        );
    }
    names(
        &String::from_utf8(place.run(&["daemon", "stop"]).stdout).unwrap(),
        &["no daemon"],
    );
    let client = place.serve().await;
    assert_eq!(place.run(&["ps"]).status.code(), Some(0));
    drop(client);
    assert_eq!(place.terminate(), Some(0));
}

/// An unfinished run whose configuration this version does not know is marked as failed, and the daemon
/// starts.
#[test]
fn a_run_of_another_version_does_not_keep_the_daemon_from_starting() {
    let place = Place::default();
    let mut writer = Writer::open(&place.home().database()).unwrap();
    let run = Run {
        id: "old".into(),
        parent: None,
        parent_step: None,
        labels: Default::default(),
        profile: "old".into(),
        config: serde_json::json!({"name": "old", "no_such_key": 1}),
        config_hash: String::new(),
        seed: 1,
        host: String::new(),
        version: "0.0.0".into(),
        generation: 0,
    };
    writer.append(&[Record::Run(run)], 0).unwrap();
    drop(writer);
    assert_eq!(place.run(&["daemon", "start"]).status.code(), Some(0));
    let out = place.run(&["query", "SELECT status, reason FROM v_run", "--format", "csv"]);
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(said.contains("failed") && said.contains("no_such_key"), "{said}");
    assert_eq!(place.run(&["daemon", "stop"]).status.code(), Some(0));
}
