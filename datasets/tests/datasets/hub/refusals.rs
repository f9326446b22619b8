//! The token and where it goes, refusals of the hub, and what is waited for.

use super::place::{CONFIG, Place};
use crate::hub_server::{COMMIT, Fault, File};

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
    let pulled = place.pull("o/tiny", &["config.json"]).unwrap();
    let file = std::fs::read_to_string(pulled.snapshot.join("config.json")).unwrap();
    assert_eq!(file, CONFIG);
    let seen = place.server.seen("");
    assert!(seen.iter().any(|seen| seen.host == "storage"), "{seen:?}");
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

/// The storage host refuses an address whose signature has run out. The next try gets a new address from the hub, and no
/// licence or token is asked for.
#[test]
fn an_address_of_the_storage_that_is_refused_is_asked_for_again() {
    let place = Place::tiny();
    let stored = place.server.stored("model.safetensors");
    let said = "<Error><Code>AccessDenied</Code><SignatureProvided>secret</SignatureProvided></Error>";
    let refused = || Fault::Instead("403 Forbidden", String::new(), said.to_owned());
    place.server.fail(&stored, refused());
    place.pull("o/tiny", &["model.safetensors"]).unwrap();
    assert_eq!(place.server.seen("GET /o/tiny/resolve").len(), 2);
    let place = Place::tiny();
    let stored = place.server.stored("model.safetensors");
    for _ in 0..3 {
        place.server.fail(&stored, refused());
    }
    let told = place.words(&["model.safetensors"]);
    assert!(
        told.contains("failed 3 times") && told.contains("127.0.0.1, where the hub keeps"),
        "{told}"
    );
    assert!(
        told.contains("403") && !told.contains("HF_TOKEN") && !told.contains("secret"),
        "{told}"
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
