//! `demask plan`: contributions that add up, a verdict, and changes that need less memory, without an engine.
#![allow(clippy::unwrap_used)]

use demask_tests::Place;
use serde_json::Value;

/// Writes a profile of LLaDA's eight billion parameters, all of which are trained.
fn eight_billion(place: &Place) -> String {
    let path = place.path().join("eight.toml");
    let text = "name = \"eight\"\ntext_vocabulary = 134656\n\
        [model]\nd_model = 4096\nn_heads = 32\nn_layers = 32\nmlp_hidden_size = 12288\nmax_sequence_length = 1152\n\
        [budgets]\ntext = { prompt = 512, answer = 512, direct_answer = 512, codes = 0 }\n\
        [[source]]\nname = \"sums\"\nkind = \"tabletop_sums\"\n\
        [[stage]]\nname = \"sft\"\nkind = \"finetune\"\nsteps = 10\nbatch = 8\nlearning_rate = 1e-5\n";
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

fn planned(place: &Place, arguments: &[&str]) -> (i32, Value) {
    let all: Vec<&str> = ["plan"]
        .iter()
        .chain(arguments)
        .chain(&["--json"])
        .copied()
        .collect();
    let out = place.run(&all);
    let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
    let found = serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (out.status.code().unwrap(), found)
}

fn part(found: &Value, name: &str) -> u64 {
    let parts = found["parts"].as_array().unwrap();
    let part = parts.iter().find(|part| part["part"] == name);
    part.map_or(0, |part| part["bytes"].as_u64().unwrap())
}

#[test]
fn eight_billion_weights_do_not_fit_and_the_plan_says_what_would() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let scratch = [profile.as_str(), "--from-scratch", "--device-memory", "141GB"];
    let (code, found) = planned(&place, &scratch);
    assert_eq!((code, &found["fits"]), (1, &Value::Bool(false)));
    let sum: u64 = found["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(found["bytes"].as_u64().unwrap(), sum);
    let trained = found["trained"].as_u64().unwrap();
    assert!((8_000_000_000..8_200_000_000).contains(&trained), "{trained}");
    assert_eq!(part(&found, "master"), 4 * trained);
    assert_eq!(part(&found, "moments"), 8 * trained);
    // By default, activations are recomputed if they do not fit.
    assert_eq!(found["recomputed"], true);
    let changes = found["changes"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .all(|change| change["bytes"].as_u64().unwrap() < sum),
        "{found}"
    );
    let fitting = changes.iter().filter(|change| change["fits"] == true);
    assert!(
        fitting
            .clone()
            .any(|change| change["change"].as_str().unwrap().starts_with("lora")),
        "{found}"
    );

    let mut half = scratch.to_vec();
    half.extend(["--set", "optimizer.moments=bf16", "--set", "optimizer.muon=true"]);
    let (_, found) = planned(&place, &half);
    assert!(part(&found, "moments") < 3 * trained, "{found}");
    let kept = [&scratch[..], &["--set", "recompute=never"]].concat();
    let (_, kept) = planned(&place, &kept);
    assert!(
        part(&kept, "activations") > 5 * part(&found, "activations"),
        "{kept}"
    );
}

#[test]
fn the_tabletop_fits_here_and_nothing_is_asked_of_an_engine() {
    let place = Place::default();
    let out = place.run(&["plan", "tabletop", "--from-scratch"]);
    let (said, words) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}{words}");
    for word in ["master", "activations", "image tokenizer", "it fits"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    // From scratch, the vocabulary is the trained tokenizer's plus the picture codes.
    let (_, found) = planned(&place, &["tabletop", "--from-scratch"]);
    let trained = found["trained"].as_u64().unwrap();
    assert!((2_000_000..4_000_000).contains(&trained), "{trained}");
    let (code, small) = planned(&place, &["tabletop", "--from-scratch", "--device-memory", "10MB"]);
    assert_eq!((code, &small["device"]), (1, &Value::from("gpu")));
}

#[test]
fn what_is_no_memory_and_what_trains_nothing_is_refused() {
    let place = Place::default();
    let memory = place.run(&["plan", "tabletop", "--device-memory", "much"]);
    assert_eq!(memory.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&memory.stderr).contains("80GB"));
    let nobody = place.run(&["plan", "no-such-profile"]);
    assert_eq!(nobody.status.code(), Some(2));
}
