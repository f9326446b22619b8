//! The listing of a repository, over several pages and as it is kept.

use std::fs;

use super::place::Place;
use crate::hub_server::{COMMIT, CUT, Fault, File, PAGE};
use demask_datasets::hub::HubError;

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
