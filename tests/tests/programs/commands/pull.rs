//! `demask pull` as a user runs it, from a hub on this machine, and `--checkpoint` with a pulled name.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::hub_server::{COMMIT, Fault, File, Server};
use demask_tests::Place;

const LARGE: usize = 3 << 20;

fn server() -> Server {
    Server::start(vec![
        File::small("config.json", "{}"),
        File::small("parts/notes.txt", "below"),
        File::large("model.safetensors", LARGE),
    ])
}

fn large() -> File {
    File::large("model.safetensors", LARGE)
}

/// Makes a command of `demask` with a cache below the home, this hub, and no other hub settings in the environment.
fn demask(place: &Place, server: &Server, arguments: &[&str]) -> Command {
    let mut command = place.demask(arguments);
    for name in [
        "HF_TOKEN",
        "HF_HUB_CACHE",
        "HF_HUB_OFFLINE",
        "TRANSFORMERS_OFFLINE",
        "HF_TOKEN_PATH",
    ] {
        command.env_remove(name);
    }
    command
        .env("HF_HOME", place.path().join("hf"))
        .env("HF_ENDPOINT", server.endpoint());
    command
}

fn run(place: &Place, server: &Server, arguments: &[&str]) -> Output {
    demask(place, server, arguments).output().unwrap()
}

fn shelf(place: &Place) -> PathBuf {
    place.path().join("hf/hub/models--o--tiny")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Standard output has the folder only, and progress goes to standard error. A broken connection is retried,
/// and the token is read from its file.
#[test]
fn a_pull_prints_the_folder_alone_and_says_the_rest_to_the_person() {
    let (place, server) = (Place::default(), server());
    std::fs::create_dir_all(place.path().join("hf")).unwrap();
    std::fs::write(place.path().join("hf/token"), "hf_of_file").unwrap();
    server.fail(server.stored("model.safetensors"), Fault::CutAt(2 << 20));
    let out = run(&place, &server, &["pull", "o/tiny"]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{said}");
    let folder = shelf(&place).join("snapshots").join(COMMIT);
    assert_eq!(Path::new(&text(&out.stdout)), folder);
    assert_eq!(
        std::fs::read(folder.join("model.safetensors")).unwrap(),
        large().bytes
    );
    let lines = [
        "parts/notes.txt: 5 B",
        "model.safetensors: 3.00 MiB",
        "retrying in",
        "downloaded: 3",
    ];
    assert!(lines.iter().all(|line| said.contains(line)), "{said}");
    let token = server.seen("GET /api")[0].token.clone();
    assert_eq!(token.as_deref(), Some("Bearer hf_of_file"));
    let out = run(&place, &server, &["pull", "o/tiny", "--file", "*.json", "--json"]);
    let pulled: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(pulled["files"].as_array().unwrap().len(), 1, "{pulled:#}");
    assert_eq!(
        (&pulled["files"][0]["origin"], &pulled["commit"]),
        (&"cache".into(), &COMMIT.into())
    );
}

/// `pull --to` prints the folder and copies cached files without fetching them again. A file that the user
/// changed is reported and kept.
#[test]
fn a_pull_to_a_folder_prints_it_and_copies_what_the_cache_has() {
    let (place, server) = (Place::default(), server());
    let folder = place.path().join("model");
    let to = folder.to_str().unwrap();
    let pull = ["pull", "o/tiny", "--to", to];
    let out = run(&place, &server, &pull);
    let said = text(&out.stderr);
    assert_eq!(
        (out.status.code(), text(&out.stdout).as_str()),
        (Some(0), to),
        "{said}"
    );
    assert!(
        said.contains("downloaded: 3") && said.contains("written to the folder: 3, there already: 0"),
        "{said}"
    );
    let model = folder.join("model.safetensors");
    assert!(!model.is_symlink() && std::fs::read(&model).unwrap() == large().bytes);
    std::fs::remove_file(&model).unwrap();
    server.forget();
    let out = run(&place, &server, &[&pull[..], &["--json"]].concat());
    let pulled: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(pulled["to"]["folder"], to, "{pulled:#}");
    assert_eq!(
        pulled["to"]["written"],
        serde_json::json!(["model.safetensors"]),
        "{pulled:#}"
    );
    assert!(server.seen("GET /o/tiny").is_empty(), "nothing is fetched again");
    let said = text(&out.stderr);
    assert!(
        said.contains("in the cache already: 3") && !said.contains("notes.txt"),
        "{said}"
    );
    std::fs::write(&model, "mine").unwrap();
    let out = run(&place, &server, &pull);
    let said = text(&out.stderr);
    assert_eq!((out.status.code(), text(&out.stdout)), (Some(1), String::new()));
    assert!(
        said.contains("model.safetensors: ") && said.contains("nothing was written"),
        "{said}"
    );
    assert_eq!(std::fs::read_to_string(&model).unwrap(), "mine");
    let out = run(
        &place,
        &server,
        &["pull", "o/tiny", "--to", model.to_str().unwrap()],
    );
    assert!(out.status.code() == Some(2) && text(&out.stderr).contains("found a file"));
}

#[test]
fn a_pull_into_the_cache_itself_is_refused_before_anything_is_asked() {
    let (place, server) = (Place::default(), server());
    let to = shelf(&place).join("snapshots").join(COMMIT);
    let out = run(&place, &server, &["pull", "o/tiny", "--to", to.to_str().unwrap()]);
    let said = text(&out.stderr);
    assert_eq!(
        (out.status.code(), text(&out.stdout)),
        (Some(2), String::new()),
        "{said}"
    );
    assert!(
        said.contains("expected a folder outside the hub's cache") && said.contains("leave out --to"),
        "{said}"
    );
    assert!(server.seen("GET").is_empty() && !place.path().join("hf").exists());
}

/// A killed pull leaves a partial file, which the next pull continues.
#[test]
fn a_pull_that_is_killed_is_gone_on_with() {
    let (place, server) = (Place::default(), server());
    let stored = server.stored("model.safetensors");
    server.fail(&stored, Fault::StallAt(LARGE - 1));
    let mut killed = demask(&place, &server, &["pull", "o/tiny"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let incomplete = shelf(&place)
        .join("blobs")
        .join(format!("{}.incomplete", large().etag()));
    let here = || std::fs::metadata(&incomplete).map_or(0, |file| file.len());
    while here() < 1 << 20 {
        assert!(killed.try_wait().unwrap().is_none(), "it ended by itself");
        std::thread::yield_now();
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    let kept = here();
    let out = run(&place, &server, &["pull", "o/tiny"]);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let range = server.seen(&stored).last().unwrap().range.clone();
    assert_eq!(range, Some(format!("bytes={kept}-")));
    let file = Path::new(&text(&out.stdout)).join("model.safetensors");
    assert_eq!(std::fs::read(file).unwrap(), large().bytes);
}

/// Failures and wrong arguments exit with an error and its remedy, print no folder and write nothing.
#[test]
fn what_fails_says_what_to_do_and_prints_no_folder() {
    let (place, server) = (Place::default(), server());
    let gated = "X-Error-Code: GatedRepo\r\n";
    server.answer("GET /api", "403 Forbidden", gated);
    let cases = [
        (&["pull", "o/tiny"][..], 1, "accept the licence"),
        (&["pull", "o/none"], 1, "no repository o/none"),
        (&["pull", "o/tiny@v9"], 1, "no revision `v9`"),
        (&["pull", "o/tiny", "--file", "x.bin"], 1, "no file `x.bin`"),
        (
            &["pull", "../tiny"],
            2,
            "is not of the form OWNER/NAME[@REVISION]",
        ),
        (&["pull", "o/tiny", "--jobs", "0"], 2, "--jobs"),
    ];
    for (arguments, code, words) in cases {
        let out = run(&place, &server, arguments);
        let said = text(&out.stderr);
        assert!(said.contains(words), "{arguments:?}: {said}");
        assert_eq!(
            (out.status.code(), text(&out.stdout)),
            (Some(code), String::new()),
            "{arguments:?}"
        );
    }
    assert!(!place.path().join("hf").exists(), "nothing is written");
}

/// `--checkpoint` accepts the name of a pulled repository, and says what to do if it was not pulled.
#[test]
fn a_checkpoint_may_be_named_as_it_was_pulled() {
    let (place, server) = (Place::default(), server());
    let start = ["run", "--headless", "--checkpoint", "o/tiny"];
    let said = text(&run(&place, &server, &start).stderr);
    assert!(
        said.contains("no such folder") && said.contains("`demask pull o/tiny` first"),
        "{said}"
    );
    // The pulled files are found; that no run can start from them is another error.
    for (files, words) in [
        ("parts/*", "found neither manifest.json nor config.json"),
        ("*.json", "found config.json without tokenizer.json"),
    ] {
        let pulled = run(&place, &server, &["pull", "o/tiny", "--file", files]);
        assert_eq!(pulled.status.code(), Some(0), "{}", text(&pulled.stderr));
        let refused = run(&place, &server, &start);
        let said = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(
            said.contains("--checkpoint o/tiny") && said.contains(words),
            "{said}"
        );
    }
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}
