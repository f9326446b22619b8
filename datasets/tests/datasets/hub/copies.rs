//! Copies of a pulled repository in a plain folder, which belong to the user.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::place::{CONFIG, Place, large, tree};
use crate::hub_server::File;
use demask_datasets::hub::{HubError, Laid, Pulled};

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
