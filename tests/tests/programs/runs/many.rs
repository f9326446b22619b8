//! Labels of runs, and runs compared side by side.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_tests::profile::smoke_with_stages;
use demask_tests::store::rows_as_json;
use demask_tests::{Place, said};
use serde_json::{Value, json};

const STAGES: &str = "[[stage]]\nname = \"little\"\nkind = \"pretrain\"\nsteps = 3\nbatch = 4\n\
                      [[stage]]\nname = \"look\"\nkind = \"evaluate\"\nsuites = [\"tabletop-sums\"]\nlimit = 4\n";

fn printed(place: &Place, arguments: &[&str]) -> Value {
    let out = place.run(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", said(&out));
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", said(&out)))
}

/// Runs have names, tags and notes, which can be edited and used to find them. Comparing two runs shows
/// their metrics, the settings that differ, and their benchmarks.
#[test]
fn runs_are_named_tagged_found_by_it_and_compared() {
    let place = Place::default();
    let file = place.path().join("little.toml");
    std::fs::write(&file, smoke_with_stages(STAGES)).unwrap();
    let file = file.to_str().unwrap();
    for (seed, name) in [("seed=1", "one"), ("seed=2", "two")] {
        let out = place.run(&[
            "run",
            file,
            "--headless",
            "--from-scratch",
            "--set",
            seed,
            "--name",
            name,
            "--tag",
            "pair",
            "--note",
            "to compare",
        ]);
        assert!(out.status.success(), "{}", said(&out));
    }
    let rows = rows_as_json(
        &place,
        "SELECT name, tags, note, json_extract(config, '$.seed') AS seed FROM v_run ORDER BY name",
    );
    assert_eq!(
        rows[0],
        json!({"name": "one", "tags": "[\"pair\"]", "note": "to compare", "seed": 1})
    );

    let edited = printed(
        &place,
        &[
            "runs", "edit", "two", "--tag", "best", "--untag", "pair", "--note", "", "--json",
        ],
    );
    assert_eq!(
        edited["labels"],
        json!({"name": "two", "tags": ["best"], "note": ""})
    );
    let names = |tag: &str| -> Vec<String> {
        let listed = printed(&place, &["runs", "list", "--tag", tag, "--json"]);
        listed
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        (names("pair"), names("best")),
        (vec!["one".to_owned()], vec!["two".to_owned()])
    );
    assert_eq!(
        printed(&place, &["runs", "show", "one", "--json"])["run"][0]["name"],
        "one"
    );
    for wrong in [
        &["runs", "edit", "one"][..],
        &["runs", "edit", "one", "--name", "a@b"],
        &["runs", "edit", "one", "--tag", " "],
    ] {
        assert_eq!(place.run(wrong).status.code(), Some(2), "{wrong:?}");
    }

    let both = printed(
        &place,
        &[
            "runs",
            "compare",
            "one",
            "two",
            "--metric",
            "train/loss",
            "--metric",
            "eval/*",
            "--json",
        ],
    );
    let metrics = both["metrics"].as_array().unwrap();
    let loss = metrics
        .iter()
        .find(|metric| metric["metric"] == "train/loss")
        .unwrap();
    assert!(metrics.iter().all(|metric| metric["metric"] != "train/grad_norm"));
    let last = rows_as_json(
        &place,
        "SELECT value FROM v_latest JOIN v_run USING (run) WHERE v_latest.name = 'train/loss' AND v_run.name = 'one'",
    );
    assert_eq!(
        (&loss["runs"][0]["last"], &loss["runs"][0]["n"]),
        (&last[0]["value"], &json!(3))
    );
    assert_eq!(
        loss["runs"][0]["tail"], loss["runs"][0]["last"],
        "of three steps the last is a tenth"
    );
    let best = rows_as_json(
        &place,
        "SELECT min(value) AS value FROM v_metric JOIN v_run USING (run) WHERE v_metric.name = 'train/loss' AND v_run.name = 'two'",
    );
    assert_eq!(loss["runs"][1]["best"], best[0]["value"]);
    assert_eq!(
        both["configuration"],
        json!([{"key": "config.seed", "values": [1, 2]}])
    );
    assert_eq!(both["benchmarks"][0]["suite"], "tabletop-sums");
    assert_eq!(both["benchmarks"][0]["runs"][1]["n"], 4);
    let table = said(&place.run(&["runs", "compare", "one", "two"]));
    for words in ["last tenth", "tabletop-sums", "config.seed", "of 4 at 4"] {
        assert!(table.contains(words), "'{words}' is missing in\n{table}");
    }
    let out = place.run(&["runs", "compare", "one", "one"]);
    assert!(
        out.status.code() == Some(1) && said(&out).contains("given twice"),
        "{}",
        said(&out)
    );
    assert!(place.run(&["daemon", "stop"]).status.success());
}
