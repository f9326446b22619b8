//! Pulls from a mock hub on this machine: the resulting cache, and the outcome of every failure of the hub.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::hub_server::{COMMIT, CUT, Fault, File, PAGE, Server};
use demask_datasets::hub::{
    AccessToken, Cache, Hub, HubError, Laid, PullEvent, PullOrigin, Pulled, Repo, RepoKind, RetryPolicy,
    Settings, Watch, checkpoint_folder,
};
use proptest::prelude::*;

const CONFIG: &str = r#"{"model_type": "tiny"}"#;
const LARGE: usize = 300_000;

/// Records the reported waits and notes.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Watch for Heard {
    fn saw(&self, event: PullEvent<'_>) {
        let line = match event {
            PullEvent::Waiting { what, why, wait } => format!("{what}: {why} {}", wait.as_millis()),
            PullEvent::Note(note) => note.to_owned(),
            PullEvent::Held { file } => format!("held {file}"),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

/// A mock hub, a cache, and settings with or without a token.
struct Place {
    server: Server,
    folder: tempfile::TempDir,
    settings: Settings,
    heard: Heard,
}

impl Place {
    fn new(files: Vec<File>) -> Self {
        let (server, folder) = (Server::start(files), tempfile::tempdir().unwrap());
        let settings = Settings {
            endpoint: server.endpoint().parse().unwrap(),
            cache: folder.path().join("hub"),
            token: None,
            offline: false,
        };
        let heard = Heard::default();
        Self {
            server,
            folder,
            settings,
            heard,
        }
    }

    fn tiny() -> Self {
        Self::new(vec![
            File::small("config.json", CONFIG),
            File::small("empty.txt", ""),
            File::large("model.safetensors", LARGE),
            File::small("sub folder/deep/notes.txt", "below"),
        ])
    }

    fn with_token(mut self) -> Self {
        self.settings.token = Some(AccessToken::new("hf_secret", "HF_TOKEN").unwrap());
        self
    }

    fn pull_as(&self, name: &str, kind: RepoKind, files: &[&str]) -> Result<Pulled, HubError> {
        let repo = Repo::parse(name, kind)?;
        let files: Vec<String> = files.iter().map(ToString::to_string).collect();
        let patience = RetryPolicy {
            tries: 3,
            first_wait: Duration::from_millis(1),
            ..RetryPolicy::default()
        };
        let hub = Hub::new(&self.settings, patience)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(hub.pull(&repo, &files, 3, &self.heard))
    }

    fn pull(&self, name: &str, files: &[&str]) -> Result<Pulled, HubError> {
        self.pull_as(name, RepoKind::Model, files)
    }

    fn words(&self, files: &[&str]) -> String {
        self.pull("o/tiny", files).unwrap_err().to_string()
    }

    fn shelf(&self) -> PathBuf {
        self.settings.cache.join("models--o--tiny")
    }

    fn incomplete(&self, file: &File) -> PathBuf {
        self.shelf()
            .join("blobs")
            .join(format!("{}.incomplete", file.etag()))
    }

    /// Returns the names in the folder of blobs.
    fn blobs(&self) -> Vec<String> {
        tree(&self.shelf().join("blobs")).into_keys().collect()
    }
}

/// Returns every file below a folder with its content, and every link with its target.
fn tree(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).into_iter().flatten() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().display().to_string();
            if path.is_symlink() {
                found.insert(name, format!("-> {}", fs::read_link(path).unwrap().display()));
            } else if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                let text = String::from_utf8(bytes)
                    .unwrap_or_else(|error| format!("{} bytes", error.as_bytes().len()));
                found.insert(name, text);
            }
        }
    }
    found
}

fn large() -> File {
    File::large("model.safetensors", LARGE)
}

#[test]
fn the_cache_is_laid_out_as_the_hubs_own_library_lays_it() {
    let place = Place::tiny();
    let pulled = place.pull("o/tiny", &[]).unwrap();
    let mut found = tree(&place.settings.cache);
    let kept = found
        .remove(&format!("models--o--tiny/trees/{COMMIT}.json"))
        .unwrap();
    assert!(
        kept.contains(r#""format_version": 1"#) && kept.contains("lfs_sha256"),
        "{kept}"
    );
    insta::assert_json_snapshot!(found);
    assert_eq!(pulled.snapshot, place.shelf().join("snapshots").join(COMMIT));
    assert_eq!(
        fs::read(pulled.snapshot.join("model.safetensors")).unwrap(),
        large().bytes
    );
    let checked: Vec<_> = pulled.files.iter().map(|file| file.checked.unwrap()).collect();
    assert_eq!(checked, ["git sha1", "git sha1", "sha256", "git sha1"]);
}

#[test]
fn what_is_here_is_not_fetched_again_and_a_commit_is_not_even_asked_for() {
    let place = Place::tiny();
    place.pull("o/tiny", &[]).unwrap();
    place.server.forget();
    let again = place.pull("o/tiny", &[]).unwrap();
    assert!(again.files.iter().all(|file| file.origin == PullOrigin::Cache));
    assert_eq!(place.server.seen("").len(), 1, "the listing");
    place.server.forget();
    let named = format!("o/tiny@{COMMIT}");
    assert_eq!(place.pull(&named, &[]).unwrap().files.len(), 4);
    assert_eq!(place.pull(&named, &["config.json"]).unwrap().files.len(), 1);
    assert_eq!(place.server.seen("").len(), 0);
}

/// Writes the cache as `huggingface_hub` leaves it after fetching one file.
fn left_by_python(place: &Place, file: &File) {
    let shelf = place.shelf();
    for folder in ["blobs", "refs", &format!("snapshots/{COMMIT}")] {
        fs::create_dir_all(shelf.join(folder)).unwrap();
    }
    fs::write(shelf.join("blobs").join(file.etag()), &file.bytes).unwrap();
    fs::write(shelf.join("refs/main"), COMMIT).unwrap();
    let target = format!("../../blobs/{}", file.etag());
    std::os::unix::fs::symlink(target, shelf.join("snapshots").join(COMMIT).join(file.path)).unwrap();
}

/// Files that Python fetched are used, online without downloading them again, and offline with a note that
/// the listing is unknown. What is missing offline is named.
#[test]
fn what_python_fetched_is_used_with_the_hub_and_without() {
    let mut place = Place::tiny();
    left_by_python(&place, &large());
    place.settings.offline = true;
    let offline = place.pull("o/tiny", &[]).unwrap();
    assert_eq!(offline.files.len(), 1);
    let heard = std::mem::take(&mut *place.heard.0.lock().unwrap()).join("\n");
    assert!(heard.contains("the pulled files may be incomplete"), "{heard}");
    place.settings.offline = false;
    let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(pulled.files[0].origin, PullOrigin::Cache);
    assert!(place.server.seen("GET /store/").is_empty());
    place.server.forget();
    place.settings.offline = true;
    let again = place.pull("o/tiny", &["*.safetensors"]).unwrap();
    assert_eq!((&again.snapshot, again.files.len()), (&offline.snapshot, 1));
    assert_eq!(again.snapshot, pulled.snapshot);
    assert!(
        place.words(&[]).contains("config.json is not in"),
        "the listing that was kept names what is missing"
    );
    assert!(place.server.seen("").is_empty());
    let missing = place.words(&["config.json"]);
    assert!(
        missing.contains("config.json") && missing.contains("HF_HUB_OFFLINE"),
        "{missing}"
    );
    let never = place.pull("o/never", &[]).unwrap_err().to_string();
    assert!(never.contains("o/never") && never.contains("not in"), "{never}");
}

#[test]
fn a_blob_of_another_file_of_the_same_content_is_linked_and_a_broken_one_is_fetched_again() {
    let place = Place::tiny();
    left_by_python(&place, &large());
    fs::remove_dir_all(place.shelf().join("snapshots")).unwrap();
    place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert!(place.server.seen("GET /store/").is_empty(), "the blob was there");
    fs::write(place.shelf().join("blobs").join(large().etag()), b"cut short").unwrap();
    let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(pulled.files[0].origin, PullOrigin::Hub);
    assert_eq!(
        fs::read(pulled.snapshot.join("model.safetensors")).unwrap(),
        large().bytes
    );
}

#[test]
fn a_hub_that_is_down_leaves_what_was_pulled() {
    let mut place = Place::tiny();
    let before = place.pull("o/tiny", &["config.json"]).unwrap();
    place.settings.endpoint = "http://127.0.0.1:9".parse().unwrap();
    let after = place.pull("o/tiny", &["config.json"]).unwrap();
    assert_eq!(after.snapshot, before.snapshot);
    let heard = place.heard.0.lock().unwrap().join("\n");
    assert!(
        heard.contains("the hub does not answer: o/tiny as it was last pulled"),
        "{heard}"
    );
    drop(heard);
    let words = place.words(&[]);
    assert!(
        words.contains("failed 3 times") && words.contains("127.0.0.1"),
        "{words}"
    );
}

#[test]
fn files_are_chosen_by_name_or_pattern_and_one_that_is_not_there_is_named_with_those_that_are() {
    let place = Place::tiny();
    let paths = |pulled: Pulled| pulled.files.into_iter().map(|file| file.file).collect::<Vec<_>>();
    let text = paths(
        place
            .pull("o/tiny@v1", &["*.txt", "config.json", "config.json"])
            .unwrap(),
    );
    assert_eq!(text, ["config.json", "empty.txt", "sub folder/deep/notes.txt"]);
    assert_eq!(fs::read_to_string(place.shelf().join("refs/v1")).unwrap(), COMMIT);
    let words = place.words(&["pytorch_model.bin"]);
    assert!(
        words.contains("`pytorch_model.bin`") && words.contains("model.safetensors"),
        "{words}"
    );
}

#[test]
fn data_sets_and_pull_requests_have_addresses_and_folders_of_their_own() {
    let place = Place::tiny();
    place
        .pull_as("o/tiny@refs/pr/1", RepoKind::Dataset, &["config.json"])
        .unwrap();
    let shelf = place.settings.cache.join("datasets--o--tiny");
    assert_eq!(fs::read_to_string(shelf.join("refs/refs/pr/1")).unwrap(), COMMIT);
    assert_eq!(
        place
            .server
            .seen("GET /api/datasets/o/tiny/revision/refs%2Fpr%2F1")
            .len(),
        1
    );
    assert_eq!(place.server.seen("GET /datasets/o/tiny/resolve/").len(), 1);
}

/// The token is sent to the hub's own host only. After a redirect to another host it is not sent again, even
/// if that host redirects back.
#[test]
fn the_token_goes_to_the_endpoint_and_nowhere_else() {
    let place = Place::tiny().with_token();
    // A renamed repository is redirected within the hub. Then one redirect leads away from the hub and back.
    place.server.answer(
        "GET /api/models/o/tiny/revision/main",
        "307 Temporary Redirect",
        "Location: /api/models/o/tiny/revision/main\r\n",
    );
    let back = format!(
        "Location: {}/o/tiny/resolve/{COMMIT}/config.json?back\r\n",
        place.server.endpoint()
    );
    let away = format!("Location: {}/away\r\n", place.server.storage());
    place.server.answer(
        format!("GET /o/tiny/resolve/{COMMIT}/config.json"),
        "302 Found",
        &away,
    );
    place.server.answer("GET /away", "302 Found", &back);
    place.pull("o/tiny", &[]).unwrap();
    let seen = place.server.seen("");
    let (hub, storage): (Vec<_>, Vec<_>) = seen.into_iter().partition(|seen| seen.host == "hub");
    assert_eq!(storage.len(), 2, "{storage:?}");
    assert!(storage.iter().all(|seen| seen.token.is_none()), "{storage:?}");
    let without: Vec<_> = hub.iter().filter(|seen| seen.token.is_none()).collect();
    assert_eq!(
        without.len(),
        1,
        "only what came back from elsewhere: {without:?}"
    );
    assert!(
        hub.iter()
            .flat_map(|seen| &seen.token)
            .all(|token| token == "Bearer hf_secret")
    );
    assert!(!format!("{:?}", place.settings).contains("hf_secret"));
}

#[test]
fn a_mirror_that_redirects_to_the_hub_is_followed_for_what_the_hub_says() {
    let place = Place::tiny();
    for method in ["HEAD", "GET"] {
        let line = format!("{method} /o/tiny/resolve/{COMMIT}/config.json");
        place.server.answer(
            &line,
            "308 Permanent Redirect",
            &format!(
                "Location: {}/o/tiny/resolve/{COMMIT}/config.json\r\n",
                place.server.storage()
            ),
        );
    }
    place.pull("o/tiny", &["config.json"]).unwrap();
}

/// Every refusal of the hub yields a message with the remedy. The hub is asked once, nothing is written, and
/// the token is not shown.
#[test]
fn refusals_say_what_to_do() {
    let (api, page) = ("GET /api/models/o/tiny/revision/main", "/o/tiny");
    let gated = "X-Error-Code: GatedRepo\r\nX-Error-Message: Access to model o/tiny is restricted.\r\n";
    let cases = [
        ("401 Unauthorized", "", false, ["401", "set HF_TOKEN", page]),
        (
            "401 Unauthorized",
            gated,
            false,
            ["gated", "set HF_TOKEN", "licence"],
        ),
        (
            "403 Forbidden",
            gated,
            true,
            [
                "403",
                "accept the licence",
                "the account of the token in HF_TOKEN",
            ],
        ),
        ("403 Forbidden", "", true, ["403", "the token in HF_TOKEN", page]),
        (
            "404 Not Found",
            "X-Error-Code: RepoNotFound\r\n",
            false,
            ["no repository o/tiny", page, "--dataset"],
        ),
        (
            "404 Not Found",
            "",
            false,
            ["o/tiny", "check the name", "revision"],
        ),
        (
            "418 I'm a teapot",
            "",
            false,
            ["the hub answered", "with 418", "o/tiny"],
        ),
    ];
    for (status, headers, token, words) in cases {
        let place = if token {
            Place::tiny().with_token()
        } else {
            Place::tiny()
        };
        place.server.answer(api, status, headers);
        let said = place.words(&[]);
        assert!(
            words.iter().all(|word| said.contains(word)),
            "{status} {headers}: {said}"
        );
        assert!(!said.contains("hf_secret"));
        assert_eq!(place.server.seen("").len(), 1, "it is not asked again");
        assert!(!place.settings.cache.exists(), "nothing is written");
    }
}

#[test]
fn a_missing_revision_and_a_missing_file_are_told_apart() {
    let place = Place::tiny();
    let revision = place.pull("o/tiny@v9", &[]).unwrap_err().to_string();
    assert!(revision.contains("o/tiny has no revision `v9`"), "{revision}");
    place.server.answer(
        "HEAD /o/tiny/resolve",
        "404 Not Found",
        "X-Error-Code: EntryNotFound\r\n",
    );
    let file = place.words(&["config.json"]);
    assert!(file.contains("o/tiny has no file `config.json`"), "{file}");
}

/// Temporary failures are retried, after the time that the hub requests or after a wait that doubles.
#[test]
fn what_passes_is_waited_for_as_long_as_the_hub_asks() {
    let place = Place::tiny();
    place
        .server
        .answer("GET /api", "429 Too Many Requests", "Retry-After: 0\r\n");
    place.server.answer("GET /api", "500 Internal Server Error", "");
    place.server.answer("HEAD /o/tiny", "503 Service Unavailable", "");
    place.server.answer(
        place.server.stored("model.safetensors"),
        "429 Too Many Requests",
        "RateLimit: \"api\";r=0;t=0\r\n",
    );
    place
        .server
        .answer(place.server.stored("model.safetensors"), "502 Bad Gateway", "");
    place.pull("o/tiny", &["model.safetensors"]).unwrap();
    let heard = place.heard.0.lock().unwrap();
    assert_eq!(heard.len(), 5, "{heard:?}");
    assert!(heard[0].contains("429") && heard[0].ends_with(" 0"), "{heard:?}");
    assert!(
        heard[1].contains("500") && heard[1].ends_with(" 2"),
        "it doubles: {heard:?}"
    );
}

#[test]
fn a_wait_that_is_too_long_and_one_failure_too_many_are_told() {
    let place = Place::tiny();
    place
        .server
        .answer("GET /api", "429 Too Many Requests", "Retry-After: 4000\r\n");
    let long = place.words(&[]);
    assert!(long.contains("wait 4000 s") && long.contains("429"), "{long}");
    for _ in 0..3 {
        let body = r#"{"error": "the hub is being mended"}"#.to_owned();
        place.server.fail(
            "GET /api",
            Fault::Instead("503 Service Unavailable", String::new(), body),
        );
    }
    let often = place.words(&[]);
    assert!(
        often.contains("failed 3 times") && often.contains("being mended"),
        "{often}"
    );
    assert_eq!(place.server.seen("GET /api").len(), 4);
}

/// A download whose connection breaks continues from the bytes it has.
#[test]
fn a_file_that_is_cut_off_goes_on_where_it_broke_off() {
    let place = Place::tiny();
    let stored = place.server.stored("model.safetensors");
    // The connection breaks more often than there are retries. Every attempt transfers something, so none
    // counts as failed.
    for at in [100_000, 50_000, 1, 7, 1_000, 20_000] {
        place.server.fail(&stored, Fault::CutAt(at));
    }
    let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(
        fs::read(pulled.snapshot.join("model.safetensors")).unwrap(),
        large().bytes
    );
    let ranges: Vec<_> = place
        .server
        .seen(&stored)
        .into_iter()
        .map(|seen| seen.range)
        .collect();
    let wanted =
        [100_000, 150_000, 150_001, 150_008, 151_008, 171_008].map(|at| Some(format!("bytes={at}-")));
    assert_eq!(ranges[0], None);
    assert_eq!(ranges[1..], wanted);
}

/// A pull that fails keeps its partial file, which the next pull continues. The revision is not recorded
/// before it is complete, and no signed address is shown.
#[test]
fn a_pull_that_gave_up_is_gone_on_with_by_the_next() {
    let place = Place::tiny();
    let stored = place.server.stored("model.safetensors");
    place.server.fail(&stored, Fault::CutAt(1234));
    for _ in 0..2 {
        place.server.fail(&stored, Fault::CutAt(0));
    }
    let words = place.words(&["model.safetensors"]);
    assert!(
        words.contains("o/tiny: model.safetensors") && words.contains("failed 3 times"),
        "{words}"
    );
    assert!(
        !words.contains("signature"),
        "a signed address is not shown: {words}"
    );
    assert_eq!(fs::metadata(place.incomplete(&large())).unwrap().len(), 1234);
    assert!(
        !place.shelf().join("refs/main").exists(),
        "the branch is not said to be here"
    );
    place.server.forget();
    place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(
        place.server.seen(&stored)[0].range.as_deref(),
        Some("bytes=1234-")
    );
    assert_eq!(place.blobs(), [large().etag()]);
}

#[test]
fn a_server_that_knows_no_ranges_begins_anew() {
    let place = Place::tiny();
    let stored = place.server.stored("model.safetensors");
    place.server.fail(&stored, Fault::CutAt(1000));
    place.server.fail(&stored, Fault::NoRanges);
    let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(
        fs::read(pulled.snapshot.join("model.safetensors")).unwrap(),
        large().bytes
    );
    assert_eq!(place.server.seen(&stored).len(), 2);
}

#[test]
fn a_wrong_hash_is_named_and_nothing_of_it_is_kept() {
    let place = Place::tiny();
    place
        .server
        .fail(place.server.stored("model.safetensors"), Fault::Flipped);
    let words = place.words(&["model.safetensors"]);
    assert!(
        words.contains("model.safetensors: expected sha256") && words.contains(&large().etag()),
        "{words}"
    );
    place.server.fail("GET /o/tiny/resolve", Fault::Flipped);
    let words = place.words(&["config.json"]);
    assert!(words.contains("config.json: expected git sha1"), "{words}");
    assert!(place.blobs().is_empty(), "{:?}", place.blobs());
    assert!(place.pull("o/tiny", &[]).is_ok());
}

#[test]
fn a_left_over_that_is_not_this_files_is_thrown_away_once() {
    for left_over in [
        b"not the beginning of it".to_vec(),
        vec![0; LARGE],
        vec![0; LARGE + 1],
    ] {
        let place = Place::tiny();
        fs::create_dir_all(place.shelf().join("blobs")).unwrap();
        fs::write(place.incomplete(&large()), left_over).unwrap();
        let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
        assert_eq!(
            fs::read(pulled.snapshot.join("model.safetensors")).unwrap(),
            large().bytes
        );
    }
}

#[test]
fn a_wrong_length_is_named_and_nothing_of_it_is_kept() {
    let place = Place::tiny();
    place
        .server
        .fail(place.server.stored("model.safetensors"), Fault::Short(299_000));
    let words = place.words(&["model.safetensors"]);
    assert!(
        words.contains("model.safetensors: expected 300000 bytes") && words.contains("299000"),
        "{words}"
    );
    assert!(place.blobs().is_empty(), "{:?}", place.blobs());
}

/// Replies that no hub gives, such as a login page, missing or wrong headers, a path as ETag and endless
/// redirects, are reported as such.
#[test]
fn an_answer_that_no_hub_gives_is_said_to_be_one() {
    let place = Place::tiny();
    let page = "<html>sign in to the network</html>".to_owned();
    place
        .server
        .fail("GET /api", Fault::Instead("200 OK", String::new(), page));
    let words = place.words(&[]);
    assert!(
        words.contains("not a listing") && words.contains(place.server.endpoint()),
        "{words}"
    );
    place.server.answer("HEAD /o/tiny", "200 OK", "ETag: \"x\"\r\n");
    assert!(place.words(&["config.json"]).contains("no header X-Repo-Commit"));
    let other = format!("X-Repo-Commit: {}\r\nETag: \"x\"\r\n", COMMIT.replace('0', "f"));
    place.server.answer("HEAD /o/tiny", "200 OK", &other);
    assert!(place.words(&["config.json"]).contains("the answer is for commit"));
    place.server.answer(
        "HEAD /o/tiny",
        "200 OK",
        &format!("X-Repo-Commit: {COMMIT}\r\nETag: \"../x\"\r\n"),
    );
    assert!(place.words(&["config.json"]).contains("its ETag is"));
    for _ in 0..11 {
        place.server.answer(
            "HEAD /o/tiny",
            "302 Found",
            &format!("Location: /o/tiny/resolve/{COMMIT}/config.json\r\n"),
        );
    }
    assert!(
        place
            .words(&["config.json"])
            .contains("redirects more than 10 times")
    );
}

#[test]
fn a_path_that_leaves_its_folder_is_refused_with_all_of_the_listing() {
    for path in [
        "../evil",
        "a/../../evil",
        "/etc/evil",
        "a//b",
        "./a",
        "..\\\\evil",
        "a\\u0000b",
        "",
    ] {
        let place = Place::tiny();
        let body = format!(
            r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"config.json"}},{{"rfilename":"{path}"}}]}}"#
        );
        place
            .server
            .fail("GET /api", Fault::Instead("200 OK", String::new(), body));
        let error = place.pull("o/tiny", &["config.json"]).unwrap_err();
        assert!(matches!(error, HubError::Path { .. }), "{path}: {error}");
        assert!(!place.settings.cache.exists());
    }
}

/// A file larger than the free space is refused before it is requested. If the disk fills up during the
/// download, the partial file is kept and not mistaken for the whole.
#[test]
fn a_full_disk_is_told_before_and_on_the_way_and_what_has_come_is_kept() {
    let place = Place::tiny();
    let body = format!(
        r#"{{"sha":"{COMMIT}","siblings":[{{"rfilename":"huge.bin","size":{}}}]}}"#,
        1_u64 << 60
    );
    place
        .server
        .fail("GET /api", Fault::Instead("200 OK", String::new(), body));
    let words = place.words(&[]);
    assert!(
        words.contains("the disk is full") && words.contains(&(1_u64 << 60).to_string()),
        "{words}"
    );
    assert_eq!(place.server.seen("").len(), 1, "no file is asked for");
    if !Path::new("/dev/full").exists() {
        println!("skipped the second half: no /dev/full here");
        return;
    }
    fs::create_dir_all(place.shelf().join("blobs")).unwrap();
    std::os::unix::fs::symlink("/dev/full", place.incomplete(&large())).unwrap();
    let error = place.pull("o/tiny", &["model.safetensors"]).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
    assert_eq!(place.blobs().len(), 1, "it is not taken for the file");
}

#[test]
fn two_pulls_at_once_fetch_each_file_once() {
    let place = Place::tiny();
    let pulls = std::thread::scope(|scope| {
        let pulls: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| place.pull("o/tiny", &[]).unwrap()))
            .collect();
        pulls
            .into_iter()
            .map(|pull| pull.join().unwrap())
            .collect::<Vec<_>>()
    });
    let fetched = pulls
        .iter()
        .flat_map(|pulled| &pulled.files)
        .filter(|file| file.origin == PullOrigin::Hub);
    assert_eq!(fetched.count(), 4);
    // The empty file needs no request.
    let gets = place.server.seen("GET /store/").len() + place.server.seen("GET /o/tiny/resolve/").len();
    assert_eq!(gets, 3 + 1, "three files, one of them by a redirect");
    assert_eq!(place.blobs().len(), 4);
}

/// Returns `count` files, to exceed one page of the hub's listing.
fn many(count: usize) -> Vec<File> {
    let path = |at: usize| format!("data/{at:05}.txt").leak() as &str;
    (0..count).map(|at| File::small(path(at), "the same")).collect()
}

/// A listing of several pages is read completely, with retries and the token, and stored. Folders are not
/// files.
#[test]
fn a_repository_of_thousands_of_files_is_listed_whole() {
    let place = Place::new(many(2 * PAGE + 1)).with_token();
    let last = format!("data/{:05}.txt", 2 * PAGE);
    const { assert!(2 * PAGE > CUT) };
    place.server.answer(
        format!("GET /api/models/o/tiny/tree/{COMMIT}"),
        "503 Service Unavailable",
        "",
    );
    let pulled = place.pull("o/tiny", &[&last]).unwrap();
    assert_eq!(pulled.files.len(), 1);
    let pages = place.server.seen("GET /api/models/o/tiny/tree/");
    let queries: Vec<&str> = pages.iter().map(|page| page.query.as_str()).collect();
    let [second, third] =
        [PAGE, 2 * PAGE].map(|cursor| format!("recursive=true&limit={PAGE}&cursor={cursor}"));
    let wanted = ["recursive=true", "recursive=true", &second, &third];
    assert_eq!(queries, wanted, "the first is asked for again");
    assert!(pages.iter().all(|page| page.token.is_some()), "all on the hub");
    let kept = fs::read_to_string(place.shelf().join(format!("trees/{COMMIT}.json"))).unwrap();
    assert_eq!(
        kept.matches("blob_id").count(),
        2 * PAGE + 1,
        "folders are no files"
    );
    place.server.forget();
    let named = format!("o/tiny@{COMMIT}");
    place.pull(&named, &[&last]).unwrap();
    assert!(place.server.seen("").is_empty(), "what was kept is all of it");
}

#[test]
fn a_page_on_another_host_is_asked_without_the_token() {
    let place = Place::new(many(PAGE)).with_token();
    let tree = format!("GET /api/models/o/tiny/tree/{COMMIT}");
    let first = r#"[{"type":"file","oid":"1","size":1,"path":"first"}]"#.to_owned();
    let next = format!(
        "Link: <{}/next?cursor=a,b>; rel=\"next\"\r\n",
        place.server.storage()
    );
    place.server.fail(&tree, Fault::Instead("200 OK", next, first));
    let second = r#"[{"type":"file","oid":"2","size":2,"path":"second"}]"#.to_owned();
    let prev = "Link: </before>; rel=\"prev\"\r\n".to_owned();
    place
        .server
        .fail("GET /next", Fault::Instead("200 OK", prev, second));
    let words = place.words(&["third"]);
    assert!(words.contains("its files are first, second"), "{words}");
    let seen = place.server.seen("GET /next");
    assert_eq!((seen[0].host, seen[0].query.as_str()), ("storage", "cursor=a,b"));
    assert_eq!(seen[0].token, None);
}

/// Listings that go in circles, never end, are not listings or contain escaping paths are refused, and
/// nothing is written.
#[test]
fn pages_without_end_or_sense_are_refused() {
    let place = Place::new(many(PAGE));
    let tree = format!("GET /api/models/o/tiny/tree/{COMMIT}");
    let link = |cursor: usize| format!("Link: <?recursive=true&cursor={cursor}>; rel=\"next\"\r\n");
    let empty = |link| Fault::Instead("200 OK", link, "[]".to_owned());
    for cursor in [1, 2, 1] {
        place.server.fail(&tree, empty(link(cursor)));
    }
    assert!(place.words(&[]).contains("links back to an earlier page"));
    for cursor in 0..500 {
        place.server.fail(&tree, empty(link(cursor)));
    }
    assert!(place.words(&[]).contains("more than 500 pages"));
    place
        .server
        .fail(&tree, Fault::Instead("200 OK", String::new(), "{}".to_owned()));
    assert!(place.words(&[]).contains("not a page of a listing"));
    let evil = r#"[{"type":"file","oid":"1","size":1,"path":"../evil"}]"#.to_owned();
    place
        .server
        .fail(&tree, Fault::Instead("200 OK", String::new(), evil));
    let error = place.pull("o/tiny", &[]).unwrap_err();
    assert!(matches!(error, HubError::Path { .. }), "{error}");
    assert!(!place.settings.cache.exists(), "nothing is written");
}

#[test]
fn what_python_kept_of_a_commit_is_left() {
    let place = Place::tiny();
    let path = place.shelf().join(format!("trees/{COMMIT}.json"));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let kept =
        r#"{"format_version": 1, "files": {"config.json": {"size": 22, "blob_id": "b", "xet_hash": "x"}}}"#;
    fs::write(&path, kept).unwrap();
    place.pull("o/tiny", &["config.json"]).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), kept);
}

/// A file in the Xet store is downloaded through the bridge, resumed, and verified by its SHA-256. The token
/// is not sent to the bridge.
#[test]
fn a_file_in_the_chunk_store_comes_over_the_plain_bridge_and_is_checked_by_its_sha256() {
    let file = File::xet("model.safetensors", LARGE);
    let place = Place::new(vec![file.clone()]).with_token();
    let bridge = place.server.stored("model.safetensors");
    place.server.fail(&bridge, Fault::CutAt(1000));
    let pulled = place.pull("o/tiny", &[]).unwrap();
    let bytes = fs::read(pulled.snapshot.join("model.safetensors")).unwrap();
    assert_eq!(bytes, file.bytes);
    assert_eq!(pulled.files[0].checked, Some("sha256"));
    assert_eq!(
        place.blobs(),
        [file.etag()],
        "not as the bridge and the store call it"
    );
    let asked: Vec<_> = place
        .server
        .seen("")
        .into_iter()
        .map(|seen| (seen.host, seen.line, seen.token.is_some()))
        .collect();
    let resolve = format!("/o/tiny/resolve/{COMMIT}/model.safetensors");
    let listing = ("hub", "GET /api/models/o/tiny/revision/main".to_owned(), true);
    let [head, get] = ["HEAD", "GET"].map(|method| ("hub", format!("{method} {resolve}"), true));
    let bytes = ("storage", bridge.clone(), false);
    // A bridge's address is signed for a limited time, so an interrupted download asks the hub again.
    let wanted = [listing, head, get.clone(), bytes.clone(), get, bytes];
    assert_eq!(
        asked, wanted,
        "no token of the chunk store's, no reconstruction of it"
    );
    let ranges: Vec<_> = place
        .server
        .seen(&bridge)
        .into_iter()
        .map(|seen| seen.range)
        .collect();
    assert_eq!(ranges, [None, Some("bytes=1000-".to_owned())]);
}

#[test]
fn what_the_bridge_sends_wrongly_is_refused_and_its_hash_is_never_taken_for_the_files() {
    let file = File::xet("model.safetensors", LARGE);
    let place = Place::new(vec![file.clone()]);
    let bridge = place.server.stored("model.safetensors");
    for (fault, said) in [
        (Fault::Flipped, "model.safetensors: expected sha256"),
        (Fault::Short(299_000), "model.safetensors: expected 300000 bytes"),
    ] {
        place.server.fail(&bridge, fault);
        let words = place.words(&[]);
        assert!(words.contains(said), "{words}");
        assert!(place.blobs().is_empty(), "{:?}", place.blobs());
    }
    let hash = file.xet_hash();
    let nameless = format!("X-Repo-Commit: {COMMIT}\r\nX-Xet-Hash: {hash}\r\nETag: \"{hash}\"\r\n");
    place.server.answer("HEAD /o/tiny", "200 OK", &nameless);
    assert!(
        place.words(&[]).contains("expected the hash of the content"),
        "a mirror that drops X-Linked-Etag"
    );
}

/// Copies a pulled repository into a folder.
fn lay(pulled: &Pulled, folder: &Path) -> Result<Laid, HubError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(pulled.lay_into(folder))
}

/// Pulled files are copied into a folder as regular files. A file that the user changed is reported, and
/// then nothing is written.
#[test]
fn a_pull_lies_in_a_folder_as_plain_files_that_are_the_persons_own() {
    let place = Place::tiny();
    let folder = place.folder.path().join("to/here");
    let pulled = place.pull("o/tiny", &[]).unwrap();
    let laid = lay(&pulled, &folder).unwrap();
    let all = [
        "config.json",
        "empty.txt",
        "model.safetensors",
        "sub folder/deep/notes.txt",
    ];
    assert_eq!((&laid.folder, laid.written.len()), (&folder, 4));
    let found: Vec<String> = tree(&folder).into_keys().collect();
    assert_eq!(found, all, "and nothing beside them");
    for file in all {
        let (path, cached) = (folder.join(file), pulled.snapshot.join(file));
        assert!(!path.is_symlink(), "{file}");
        assert_eq!(fs::read(&path).unwrap(), fs::read(&cached).unwrap());
    }
    // Changing a copy does not change the cache, and copying again reports the changed file.
    fs::write(folder.join("config.json"), "changed").unwrap();
    assert_eq!(
        fs::read_to_string(pulled.snapshot.join("config.json")).unwrap(),
        CONFIG
    );
    fs::remove_file(folder.join("empty.txt")).unwrap();
    let words = lay(&pulled, &folder).unwrap_err().to_string();
    assert!(
        words.contains("here: config.json: ") && words.contains("another folder"),
        "{words}"
    );
    assert!(!folder.join("empty.txt").exists(), "nothing was written");
    fs::remove_file(folder.join("config.json")).unwrap();
    let again = lay(&pulled, &folder).unwrap();
    assert_eq!(again.written, ["config.json", "empty.txt"]);
    assert_eq!(again.kept, ["model.safetensors", "sub folder/deep/notes.txt"]);
}

/// Files whose content is also in the cache are replaced. Everything else that is in the way is reported and
/// left as it is.
#[test]
fn what_the_cache_has_too_gives_way_and_what_it_has_not_is_left() {
    let place = Place::tiny();
    let folder = place.folder.path().join("here");
    let pulled = place.pull("o/tiny", &[]).unwrap();
    fs::create_dir_all(folder.join("sub folder")).unwrap();
    // The folder has a file of an earlier revision, a link into the cache, and a user's file that only looks
    // like a partial copy.
    let before = File::small("config.json", "as it was before");
    fs::write(place.shelf().join("blobs").join(before.etag()), &before.bytes).unwrap();
    fs::write(folder.join("config.json"), &before.bytes).unwrap();
    let model = folder.join("model.safetensors");
    std::os::unix::fs::symlink(pulled.snapshot.join("model.safetensors"), &model).unwrap();
    fs::write(folder.join(".model.safetensors.part"), "half").unwrap();
    let laid = lay(&pulled, &folder).unwrap();
    assert_eq!(laid.written.len(), 4);
    assert_eq!(fs::read_to_string(folder.join("config.json")).unwrap(), CONFIG);
    assert!(!model.is_symlink());
    assert_eq!(fs::read(&model).unwrap(), large().bytes);
    let mine = folder.join(".model.safetensors.part");
    assert_eq!(fs::read_to_string(mine).unwrap(), "half");
    // A folder and a file that are in each other's place, and a dangling link.
    let other = place.folder.path().join("other");
    fs::create_dir_all(other.join("config.json")).unwrap();
    fs::write(other.join("sub folder"), "a file").unwrap();
    std::os::unix::fs::symlink("nowhere", other.join("model.safetensors")).unwrap();
    let held = tree(&other);
    let words = lay(&pulled, &other).unwrap_err().to_string();
    assert!(
        words.contains("config.json, model.safetensors, sub folder/deep/notes.txt: "),
        "{words}"
    );
    assert_eq!(tree(&other), held);
}

#[test]
fn a_copy_goes_through_no_link_and_may_be_changed_where_the_cache_may_not() {
    let place = Place::tiny();
    let folder = place.folder.path().join("here");
    let pulled = place.pull("o/tiny", &["config.json"]).unwrap();
    let blob = fs::canonicalize(pulled.snapshot.join("config.json")).unwrap();
    fs::set_permissions(&blob, fs::Permissions::from_mode(0o444)).unwrap();
    fs::create_dir(&folder).unwrap();
    let victim = place.folder.path().join("victim");
    fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink("../victim", folder.join(".config.json.part")).unwrap();
    assert_eq!(lay(&pulled, &folder).unwrap().written, ["config.json"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "mine");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let copy = folder.join("config.json");
    assert_eq!(mode(&copy), mode(&victim), "as any new file has");
    assert_eq!(fs::read_to_string(copy).unwrap(), CONFIG);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 2, "and nothing is left");
}

/// Copies into the cache are refused, also through links and `..`, because they would change the cache's
/// files.
#[test]
fn a_folder_in_the_cache_is_refused_however_it_is_reached() {
    let place = Place::tiny();
    let pulled = place.pull("o/tiny", &[]).unwrap();
    let way = place.folder.path().join("way");
    std::os::unix::fs::symlink(place.shelf(), &way).unwrap();
    // A folder outside the cache, with a subfolder that is a link into the cache.
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(place.shelf().join("blobs"), outside.join("sub folder")).unwrap();
    let held = tree(&place.settings.cache);
    let inside = [
        pulled.snapshot.clone(),
        place.settings.cache.clone(),
        place.shelf().join("blobs"),
        way.join("new"),
        place.folder.path().join("new/../hub/new"),
        outside.clone(),
    ];
    for folder in inside {
        let words = lay(&pulled, &folder).unwrap_err().to_string();
        let expected = "expected a folder outside the hub's cache";
        assert!(
            words.contains(expected) && words.contains("name another"),
            "{words}"
        );
        assert_eq!(tree(&place.settings.cache), held, "{}", folder.display());
    }
    assert!(!outside.join("config.json").exists(), "nothing is written");
    let beside = place.folder.path().join("hub-beside");
    assert_eq!(lay(&pulled, &beside).unwrap().written.len(), 4);
}

#[test]
fn a_file_that_was_changed_in_the_cache_is_not_handed_on() {
    let place = Place::tiny();
    let pulled = place.pull("o/tiny", &["model.safetensors"]).unwrap();
    let blob = place.shelf().join("blobs").join(large().etag());
    let mut bytes = large().bytes;
    bytes[7] ^= 1;
    fs::write(&blob, bytes).unwrap();
    let folder = place.folder.path().join("here");
    let words = lay(&pulled, &folder).unwrap_err().to_string();
    assert!(
        words.contains(&format!("{}: expected sha256", blob.display())) && words.contains("delete it"),
        "{words}"
    );
    assert!(tree(&folder).is_empty());
}

/// Environment variables have the meaning and precedence that they have in `huggingface_hub`. An invalid
/// token is refused without showing it.
#[test]
fn settings_are_read_as_the_hubs_own_library_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("token"), "hf_of_file\n").unwrap();
    let home = folder.path().to_str().unwrap();
    let read = |pairs: &[(&str, &str)]| {
        let pairs: BTreeMap<String, String> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Settings::read(|name| pairs.get(name).cloned())
    };
    let plain = read(&[("HOME", "/h")]).unwrap();
    assert_eq!(plain.endpoint.as_str(), "https://huggingface.co/");
    assert_eq!(plain.cache, Path::new("/h/.cache/huggingface/hub"));
    assert!(plain.token.is_none() && !plain.offline);
    let xdg = read(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]).unwrap();
    assert_eq!(xdg.cache, Path::new("/x/huggingface/hub"));
    let whole = read(&[
        ("HOME", "/h"),
        ("HF_HOME", home),
        ("HF_HUB_CACHE", "~/c"),
        ("HF_HUB_OFFLINE", "yes"),
        ("HF_TOKEN", " "),
    ]);
    let whole = whole.unwrap();
    assert_eq!((whole.cache.as_path(), whole.offline), (Path::new("/h/c"), true));
    assert_eq!(whole.token.unwrap().header, "Bearer hf_of_file");
    let named = read(&[("HF_HOME", home), ("HF_TOKEN", "hf_named")]).unwrap();
    assert_eq!(named.cache, folder.path().join("hub"));
    assert_eq!(named.token.unwrap().header, "Bearer hf_named");
    let silent = read(&[("HF_TOKEN", "hf_named"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).unwrap();
    assert!(silent.token.is_none());
    let wrong = read(&[("HF_ENDPOINT", "ftp://hub")]).unwrap_err().to_string();
    assert!(
        wrong.contains("HF_ENDPOINT") && wrong.contains("ftp://hub"),
        "{wrong}"
    );
    let wrong = read(&[("HF_TOKEN", "hf_\nsecret")]).unwrap_err().to_string();
    assert!(wrong.contains("HF_TOKEN") && !wrong.contains("secret"), "{wrong}");
}

/// A checkpoint is named by a folder, or by a repository whose revision was pulled.
#[test]
fn a_checkpoint_is_a_folder_or_a_pulled_repository() {
    let place = Place::tiny();
    let cache = Cache {
        root: place.settings.cache.clone(),
    };
    let folder = |given: &Path| checkpoint_folder(given, &cache);
    assert_eq!(folder(place.folder.path()).unwrap(), place.folder.path());
    let words = folder(Path::new("o/tiny")).unwrap_err().to_string();
    assert!(
        words.contains("o/tiny: there is no such folder") && words.contains("`demask pull o/tiny` first"),
        "{words}"
    );
    let words = folder(Path::new("./no/such/folder")).unwrap_err().to_string();
    assert!(
        words.contains("no such folder") && !words.contains("demask pull"),
        "{words}"
    );
    let pulled = place.pull("o/tiny@v1", &["config.json"]).unwrap();
    assert_eq!(folder(Path::new("o/tiny@v1")).unwrap(), pulled.snapshot);
    assert_eq!(
        folder(Path::new(&format!("o/tiny@{COMMIT}"))).unwrap(),
        pulled.snapshot
    );
    let words = folder(Path::new("o/tiny")).unwrap_err().to_string();
    assert!(
        words.contains("demask pull o/tiny"),
        "main was never pulled: {words}"
    );
}

#[test]
fn names_that_are_none_are_told_why() {
    for name in [
        "", "o/", "/n", "o/n/m", "o--p/n", "o/..", "o/.git", "o/n.git", "o/n@", "o/n@../x", "o/n@a//b",
        "ö/n", "-o/n",
    ] {
        let error = Repo::parse(name, RepoKind::Model).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("`{name}` is not of the form OWNER/NAME[@REVISION]: ")),
            "{error}"
        );
    }
}

proptest! {
    #[test]
    fn a_name_reads_back_as_it_is_shown_and_its_folder_is_one_part(given in "[a-z./@-]{1,12}") {
        if let Ok(repo) = Repo::parse(&given, RepoKind::Dataset) {
            prop_assert_eq!(&Repo::parse(&repo.to_string(), RepoKind::Dataset).unwrap(), &repo);
            let name = repo.folder_name();
            prop_assert!(!name.contains('/') && !name.contains(".."), "{}", name);
            let up = Path::new(&repo.revision).components().any(|part| !matches!(part, std::path::Component::Normal(_)));
            prop_assert!(!up, "{}", repo.revision);
        }
    }
}

#[test]
fn l9_nothing_is_laid_through_a_link_that_lies_in_the_folder() {
    let place = Place::tiny();
    let (folder, elsewhere) = (
        place.folder.path().join("to"),
        place.folder.path().join("elsewhere"),
    );
    fs::create_dir_all(&folder).unwrap();
    fs::create_dir_all(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.join("sub folder")).unwrap();
    let pulled = place.pull("o/tiny", &[]).unwrap();
    let words = lay(&pulled, &folder).unwrap_err().to_string();
    assert!(words.contains("sub folder is a symbolic link"), "{words}");
    assert_eq!(
        fs::read_dir(&elsewhere).unwrap().count(),
        0,
        "nothing was written there"
    );
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nor here");
}

#[test]
fn l9_what_a_killed_pull_left_in_a_folder_is_swept_by_the_next() {
    let place = Place::tiny();
    let folder = place.folder.path().join("to");
    fs::create_dir_all(&folder).unwrap();
    let left = folder.join(format!(".config.json.{}.Ab12xy.part", u32::MAX));
    fs::write(&left, "half").unwrap();
    let pulled = place.pull("o/tiny", &[]).unwrap();
    lay(&pulled, &folder).unwrap();
    assert!(!left.exists());
}

#[test]
fn l9_names_and_words_of_a_hub_cannot_command_a_terminal() {
    let hostile = File::small("a\u{202e}gpj.txt", "x");
    let place = Place::new(vec![hostile]);
    let words = place.words(&[]);
    assert!(words.contains("invisible characters"), "{words}");
    assert!(!words.contains('\u{202e}'), "{words:?}");
    let place = Place::tiny();
    let said = "X-Error-Code: RepoNotFound\r\nX-Error-Message: gone \t\r\n";
    place
        .server
        .answer("GET /api/models/o/tiny/revision/main", "404 Not Found", said);
    assert!(!place.words(&[]).contains('\t'));
}
