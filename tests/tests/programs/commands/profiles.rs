//! `demask profile` and the shipped profiles: listed, shown, started, checked, and every key explained.
#![allow(clippy::unwrap_used)]

use demask_actors::profile::schema::keys;
use demask_actors::profile::{Profile, shipped};
use demask_tests::{Place, programs};
use serde_json::Value;

fn said(out: &std::process::Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

fn json(place: &Place, arguments: &[&str]) -> Value {
    let (code, stdout, stderr) = said(&place.run(arguments));
    assert_eq!(code, 0, "{arguments:?}: {stderr}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn what_is_shown_read_again_is_the_same_profile() {
    let place = Place::default();
    for one in shipped::all() {
        let (code, shown, stderr) = said(&place.run(&["profile", "show", one.name]));
        assert_eq!(code, 0, "{stderr}");
        let again = Profile::parse(&shown, "shown").unwrap();
        assert_eq!(again, one.profile().unwrap(), "{}", one.name);
        let bare = |line: &&str| !line.is_empty() && !line.contains("  # ");
        let silent: Vec<&str> = shown.lines().filter(bare).collect();
        assert!(
            silent.is_empty(),
            "{}: lines without a word: {silent:?}",
            one.name
        );
    }
}

#[test]
fn a_profile_with_everything_in_it_is_shown_and_read_again() {
    let text = "name = \"x\"\nema = 0.1234567890123\nstart_from = \"a \\\"b\\\"\"\n\
        [lora]\nrank = 4\n[teacher]\nurl = \"http://a/v1\"\nmodel = \"m\"\n[reward_networks]\nclip = \"c\"\n\
        [sampling]\ntext = { commit = { rule = \"threshold\", threshold = 0.9 }, cache = { keep = \"dual\" }, credit = {}, \
        quirks = { template = \"mmada\" } }\nimage = { cache = { interval = 3 }, method = \"emerge\" }\n\
        [[source]]\nname = \"s\"\nkind = \"jsonl\"\npath = \"p\"\nlimit = 3\n\
        [[stage]]\nname = \"a\"\nkind = \"align\"\nlearning_rate = 3e-7\nestimator = { kind = \"diffu_grpo\", prompt_mask = 0.15 }\n";
    let profile = Profile::parse(text, "x").unwrap();
    let shown = profile.to_commented_toml().unwrap();
    assert_eq!(Profile::parse(&shown, "shown").unwrap(), profile, "{shown}");
}

#[test]
fn every_key_has_a_type_and_a_meaning_and_every_default_is_in_its_range() {
    let keys = keys();
    assert!(keys.len() > 150, "{}", keys.len());
    for key in &keys {
        assert!(!key.about.is_empty() && !key.kind.is_empty(), "{key:?}");
        assert!(
            key.is_table() || !key.default.is_empty() || key.kind.contains(" | "),
            "{key:?}"
        );
    }
    let number = |text: &str| text.parse::<f64>().ok();
    let mut ranged = 0;
    for key in &keys {
        let bounds = key.range.split_once(" to ");
        let bounds = bounds.and_then(|(least, most)| Some(number(least)?..=number(most)?));
        if let (Some(bounds), Some(default)) = (bounds, number(&key.default)) {
            assert!(bounds.contains(&default), "{key:?}");
            ranged += 1;
        }
    }
    assert!(
        ranged > 20,
        "{ranged} keys have a range and a number as their default"
    );
    let find = |path: &str| keys.iter().find(|key| key.path == path).unwrap();
    let steps = find("stage.*.steps");
    assert_eq!(
        (steps.default.as_str(), steps.kind.as_str()),
        ("1", "whole number")
    );
    assert_eq!(find("ema").range, "0 to 0.9999999");
    assert_eq!(find("name").default, "required");
    assert_eq!(find("teacher").default, "");
    assert_eq!(find("stage.*.estimator.merge").alternative, "kind = trace_rl");
    assert!(find("source.*.kind").kind.contains("tabletop_sums | "));
}

/// A value above the documented range of a key is refused. The teacher is named, because its table has required keys.
#[test]
fn the_range_that_is_told_is_the_one_that_is_held() {
    let text = shipped::find("smoke").unwrap().text;
    let teacher = ["teacher.url=http://localhost/v1", "teacher.model=m"].map(str::to_owned);
    let text = Profile::set(text, "smoke", &teacher).unwrap();
    let mut held = 0;
    for key in keys()
        .iter()
        .filter(|key| !key.path.contains('*') && key.range.contains(" to "))
    {
        let (_, most) = key.range.split_once(" to ").unwrap();
        let whole = key.kind == "whole number";
        if key.is_table() || key.kind.contains(" of ") || key.kind.starts_with("list") {
            continue;
        }
        let above = most.parse::<f64>().unwrap() * 10.0 + 1.0;
        let value = if whole {
            format!("{above:.0}")
        } else {
            format!("{above:e}")
        };
        let set = Profile::set(&text, "smoke", &[format!("{}={value}", key.path)]).unwrap();
        let error = Profile::parse(&set, "smoke").unwrap_err().to_string();
        assert!(error.contains("allowed is"), "{}: {error}", key.path);
        held += 1;
    }
    assert!(held > 85, "only {held} keys were tried");
}

#[test]
fn the_schema_is_printed_for_editors_and_for_people() {
    let place = Place::default();
    let schema = json(&place, &["profile", "schema"]);
    assert_eq!(schema["properties"]["ema"]["maximum"], 0.999_999_9);
    assert_eq!(schema["additionalProperties"], false);
    let listed = json(&place, &["profile", "schema", "--json"]);
    assert_eq!(listed.as_array().unwrap().len(), keys().len());
    let (_, table, _) = said(&place.run(&["profile", "schema", "--table", "sampling.text."]));
    assert!(
        table
            .lines()
            .skip(1)
            .all(|line| line.starts_with("sampling.text.")),
        "{table}"
    );
    assert!(table.contains("sampling.text.temperature"), "{table}");
    let (code, _, stderr) = said(&place.run(&["profile", "schema", "--table", "nothing"]));
    assert!(code == 2 && stderr.contains("nothing"), "{stderr}");
    let (_, page, _) = said(&place.run(&["profile", "schema", "--markdown"]));
    assert_eq!(page.lines().count(), keys().len() + 2);
}

/// Shipped profiles are listed with a description. A misspelt name is refused with the nearest one and all
/// others, and nothing is started.
#[test]
fn shipped_profiles_are_listed_and_found_by_name_and_a_slip_is_told_the_nearest() {
    let place = Place::default();
    let listed = json(&place, &["profile", "list", "--json"]);
    let names: Vec<&str> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"smoke") && names.contains(&"tabletop-align"),
        "{names:?}"
    );
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["about"].as_str().unwrap().len() > 10)
    );
    for arguments in [
        ["profile", "show", "tabletop-aling"],
        ["run", "--headless", "tabletop-aling"],
    ] {
        let (code, _, stderr) = said(&place.run(&arguments));
        assert!(
            code == 2 && stderr.contains("did you mean tabletop-align?"),
            "{stderr}"
        );
        assert!(names.iter().all(|name| stderr.contains(name)), "{stderr}");
    }
    assert!(!place.home().database().exists(), "nothing was started");
}

/// What a user names may be a pipe, but is read only up to a limit of bytes.
#[test]
fn l9_a_profile_may_come_from_a_pipe_and_nothing_named_is_read_without_end() {
    let place = Place::default();
    let (file, smoke) = (place.path().join("mine.toml"), shipped::find("smoke").unwrap());
    std::fs::write(&file, smoke.text).unwrap();
    let piped = std::process::Command::new("bash")
        .args(["-c", "exec \"$0\" --home \"$1\" profile show <(cat \"$2\")"])
        .arg(programs().join("demask"))
        .arg(place.path())
        .arg(&file)
        .output()
        .unwrap();
    let (code, shown, stderr) = said(&piped);
    assert_eq!(code, 0, "{stderr}");
    assert_eq!(Profile::parse(&shown, "shown").unwrap(), smoke.profile().unwrap());
    for arguments in [
        ["profile", "show", "/dev/zero"],
        ["study", "/dev/zero", "--dry-run"],
    ] {
        let (code, _, stderr) = said(&place.run(&arguments));
        assert_ne!(code, 0, "{stderr}");
        let words = "/dev/zero: the file is longer than 4194304 bytes";
        assert!(stderr.contains(words), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_profile_is_begun_but_never_over_a_file() {
    let place = Place::default();
    let file = place.path().join("mine.toml");
    let file = file.to_str().unwrap();
    let init = ["profile", "init", "--output", file, "--from", "smoke"];
    assert_eq!(said(&place.run(&init)).0, 0);
    let text = std::fs::read_to_string(file).unwrap();
    let mut expected = shipped::find("smoke").unwrap().profile().unwrap();
    expected.name = "mine".to_owned();
    assert_eq!(Profile::parse(&text, file).unwrap(), expected);
    let (code, _, stderr) = said(&place.run(&init));
    assert!(code == 2 && stderr.contains("mine.toml"), "{stderr}");
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
}

/// Every shipped profile that needs no data files passes `profile check`, which lists the benchmarks and
/// rewards of each source.
#[test]
fn shipped_profiles_whose_data_is_embedded_pass_the_check() {
    let place = Place::default();
    for one in shipped::all() {
        let profile = one.profile().unwrap();
        if profile.sources.iter().any(|source| source.kind.reads()) {
            continue;
        }
        let found = json(
            &place,
            &["profile", "check", one.name, "--from-scratch", "--json"],
        );
        assert_eq!(found["problems"], Value::Array(Vec::new()), "{}", one.name);
        assert_eq!(found["sources"].as_array().unwrap().len(), profile.sources.len());
    }
    let found = json(&place, &["profile", "check", "smoke", "--json"]);
    let source = |name: &str| {
        let all = found["sources"].as_array().unwrap();
        all.iter().find(|source| source["name"] == name).unwrap().clone()
    };
    assert_eq!(source("sums")["benchmarks"], serde_json::json!(["tabletop-sums"]));
    let rewards = |name: &str| source(name)["rewards"].to_string();
    assert!(rewards("draw").contains("\"draw\"") && rewards("draw").contains("correct"));
    assert!(rewards("sums").contains("format") && !rewards("sums").contains("\"draw\""));
}

/// `profile check` counts a source's rows and rejections, and reports the reasons for which a run would
/// fail.
#[test]
fn a_check_counts_the_rows_of_a_file_and_says_why_a_run_would_fail() {
    let place = Place::default();
    let data = place.path().join("rows.jsonl");
    let row = |number: usize| {
        format!(
            "{{\"question\": \"How much is {number} and {number}?\", \"answer\": \"So much. #### {}\"}}\n",
            2 * number
        )
    };
    let good: String = (1..40).map(row).collect();
    std::fs::write(&data, good.clone() + &row(7) + "broken\n").unwrap();
    let file = place.path().join("p.toml");
    let write = |more: &str, source: &str| {
        let text = format!(
            "name = \"p\"\n{more}[[source]]\nname = \"rows\"\nkind = \"jsonl\"\npath = \"{}\"\n{source}\
             [[stage]]\nname = \"a\"\nkind = \"align\"\n",
            data.display()
        );
        std::fs::write(&file, text).unwrap();
    };
    let check = ["profile", "check", file.to_str().unwrap(), "--json"];
    write("[limits]\nnear_duplicate = 2.0\n", "");
    let found = json(&place, &check);
    let rows = &found["sources"][0];
    assert_eq!(
        (&rows["rows"], &rows["kept"]),
        (&41.into(), &39.into()),
        "{found}"
    );
    let reasons = rows["turned_away"].as_object().unwrap();
    assert!(
        reasons["exact_dedup"] == 1 && reasons.keys().any(|key| key.starts_with("parse: ")),
        "{found}"
    );

    write("rewards = { draw = 1.0 }\n[limits]\nnear_duplicate = 2.0\n", "");
    let (code, stdout, stderr) = said(&place.run(&check));
    let found: Value = serde_json::from_str(&stdout).unwrap();
    assert!(
        code == 1 && stderr.contains("none of the weighted rewards can judge"),
        "{stderr}"
    );
    assert_eq!(found["problems"].as_array().unwrap().len(), 1);

    write("[limits]\nbad_row_share = 0.001\n", "");
    let (code, _, stderr) = said(&place.run(&check));
    assert!(
        code == 1 && stderr.contains("1 of 41 rows cannot be read"),
        "{stderr}"
    );

    write("", "weight = 0.0\n");
    let (code, _, stderr) = said(&place.run(&check));
    assert!(code == 2 && stderr.contains("add a [[source]]"), "{stderr}");

    write("", "");
    std::fs::remove_file(&data).unwrap();
    let (code, _, stderr) = said(&place.run(&check));
    assert!(
        code == 2 && stderr.contains("rows.jsonl") && stderr.contains("line 5"),
        "{stderr}"
    );
}
