//! The cache after a pull: its layout, what is fetched again, and what other programs left in it.

use std::fs;

use super::place::{Place, large, tree};
use crate::hub_server::{COMMIT, File};
use demask_datasets::hub::{PullOrigin, Pulled, RepoKind};

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
        heard.contains("the hub does not answer: using o/tiny as it was last pulled"),
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
