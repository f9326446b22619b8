//! Studies: settings by seeds through the queue, resumed after any interruption.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_storage::{Command as Ask, Record};
use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::{Place, said, wait_for};
use serde_json::{Value, json};

const STUDY: &str = "profile = \"little.toml\"\nfrom_scratch = true\nseeds = [1, 2, 3]\nmetrics = [\"train/loss\"]\nvalue = \"tail\"\n\
                     [grid]\n\"stage.little.learning_rate\" = [1e-3, 1e-2]\n";

fn written(place: &Place) -> String {
    let stages = "[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n";
    std::fs::write(place.path().join("little.toml"), smoke_with_stages(stages)).unwrap();
    let file = place.path().join("rates.toml");
    std::fs::write(&file, STUDY).unwrap();
    file.to_string_lossy().into_owned()
}

/// A study of two settings and three seeds executes each pair once, although the daemon is killed (L1). Its
/// means, paired differences and intervals equal those computed here from the store, and its plots are not
/// overwritten.
#[tokio::test(flavor = "current_thread")]
async fn l1_a_study_is_run_once_whatever_kills_it_and_says_what_differs() {
    let mut place = Place::default();
    let file = written(&place);
    let dry = place.run(&["study", &file, "--dry-run"]);
    assert!(
        dry.status.success() && said(&dry).matches("missing").count() == 6,
        "{}",
        said(&dry)
    );
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
    let mut client = place.serve().await;
    client.ask(Ask::Subscribe { since: 0 }).await.unwrap();
    assert!(place.run(&["study", &file, "--detach"]).status.success());
    wait_for(&mut client, |record| matches!(record, Record::RunEnd(_)))
        .await
        .unwrap();
    place.kill();
    let out = place.run(&["study", &file, "--json"]);
    assert!(out.status.success(), "{}", said(&out));
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(
        (&found["study"], &found["runs"]),
        (&json!("rates"), &json!({"done": 6}))
    );
    let rows = found["rows"].as_array().unwrap();
    let settings: Vec<&str> = rows.iter().map(|row| row["setting"].as_str().unwrap()).collect();
    assert_eq!(settings, ["learning_rate=0.001", "learning_rate=0.01"]);
    let loss = |rate: f64, seed: u64| {
        let sql = format!(
            "SELECT value FROM v_latest JOIN v_run USING (run) WHERE v_latest.name = 'train/loss' AND seed = {seed} \
             AND json_extract(config, '$.stage[0].learning_rate') = {rate}"
        );
        rows_as_json(&place, &sql)[0]["value"].as_f64().unwrap()
    };
    let [first, second] = [0.001, 0.01].map(|rate| [1, 2, 3].map(|seed| loss(rate, seed)));
    let mean = |row: &Value| row["value"].as_f64().unwrap();
    assert!((mean(&rows[0]["mean"]) - first.iter().sum::<f64>() / 3.0).abs() < 1e-9);
    assert!(rows[0]["difference"].is_null());
    let differences = [0, 1, 2].map(|seed| second[seed] - first[seed]);
    let difference = differences.iter().sum::<f64>() / 3.0;
    assert!((mean(&rows[1]["difference"]) - difference).abs() < 1e-9);
    // Three values: 4.3, the quantile for two degrees of freedom, times the standard error of the mean.
    let squares: f64 = differences.iter().map(|one| (one - difference).powi(2)).sum();
    let half = 4.302_65 * (squares / 2.0 / 3.0).sqrt();
    assert!(
        (rows[1]["difference"]["high"].as_f64().unwrap() - difference - half).abs() < 1e-4 * half.max(1e-3)
    );

    let again = place.run(&["study", &file]);
    assert!(
        again.status.success() && said(&again).contains("6 runs, 0 of them unfinished"),
        "{}",
        said(&again)
    );
    let runs = rows_as_json(
        &place,
        "SELECT count(*) AS n, count(DISTINCT config_hash) AS hashes, min(tags) AS tags FROM v_run",
    );
    assert_eq!(runs, json!([{"n": 6, "hashes": 6, "tags": "[\"study:rates\"]"}]));
    let shown = said(&place.run(&["study", "show", &file]));
    assert!(
        shown.contains("less learning_rate=0.001") && shown.contains("6 done"),
        "{shown}"
    );
    for (name, beginning) in [("rates.svg", &b"<svg"[..]), ("rates.png", b"\x89PNG")] {
        let picture = place.path().join(name);
        let out = place.run(&["study", "show", &file, "--plot", picture.to_str().unwrap()]);
        assert!(out.status.success(), "{}", said(&out));
        assert!(std::fs::read(&picture).unwrap().starts_with(beginning), "{name}");
    }
    let svg = std::fs::read_to_string(place.path().join("rates.svg")).unwrap();
    for words in [
        "train/loss",
        "learning_rate=0.001",
        "learning_rate=0.01",
        "<polygon",
    ] {
        assert!(svg.contains(words), "{words}");
    }
    let again = place.run(&[
        "study",
        "show",
        &file,
        "--plot",
        place.path().join("rates.svg").to_str().unwrap(),
    ]);
    assert_eq!(again.status.code(), Some(2), "what is there is not written over");
    assert!(place.run(&["daemon", "stop"]).status.success());
}

#[test]
fn a_wrong_study_is_told_with_its_line_and_starts_nothing() {
    let place = Place::default();
    let file = written(&place);
    for (from, to, words) in [
        ("seeds = [1, 2, 3]", "seeds = []", "expected at least one"),
        ("seeds = [1, 2, 3]", "sedes = [1, 2, 3]", "rates.toml, line 3"),
        ("[1e-3, 1e-2]", "1e-3", "expected a list of values"),
        ("[1e-3, 1e-2]", "[1e-3, 1e-3]", "the same name"),
        ("learning_rate", "learning_rat", "learning_rat"),
        ("little.toml", "nowhere.toml", "nowhere.toml"),
    ] {
        std::fs::write(&file, STUDY.replace(from, to)).unwrap();
        let out = place.run(&["study", &file]);
        assert!(
            !out.status.success() && said(&out).contains(words),
            "{to}: {}",
            said(&out)
        );
    }
    assert!(place.home().daemon_pid().is_none(), "nothing is started");
}
