//! Downloads that break off, come wrong, or find no room; files in the chunk store.

use std::fs;
use std::path::Path;

use super::place::{LARGE, Place, large};
use crate::hub_server::{COMMIT, Fault, File};
use demask_datasets::hub::HubError;

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
