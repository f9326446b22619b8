//! Settings, names of repositories, and the checkpoint that a name means.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::place::Place;
use crate::hub_server::COMMIT;
use demask_datasets::hub::{Cache, Repo, RepoKind, Settings, checkpoint_folder};
use proptest::prelude::*;

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
