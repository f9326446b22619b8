//! `demask plan`: contributions that add up, a verdict, and changes that need less memory, without an engine.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use demask_tests::Place;
use demask_tests::profile::smoke_with_stages;
use serde_json::{Value, json};

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

/// Full training of 8 billion parameters does not fit on a 141 GB GPU. The plan's parts add up, and every
/// suggested change needs less memory. bf16 moments with Muon, and recomputation, save what they promise.
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
    assert_eq!(part(&found, "f32 master weights"), 4 * trained);
    assert_eq!(part(&found, "optimizer moments"), 8 * trained);
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
    assert!(part(&found, "optimizer moments") < 3 * trained, "{found}");
    let kept = [&scratch[..], &["--set", "recompute=never"]].concat();
    let (_, kept) = planned(&place, &kept);
    assert!(
        part(&kept, "activations kept for backward") > 5 * part(&found, "activations kept for backward"),
        "{kept}"
    );
}

/// A GPU has logits for as many positions at a time as the engine takes on one of its size: a part of its memory, as a
/// power of two.
#[test]
fn logits_are_planned_for_the_positions_that_a_gpu_takes_at_a_time() {
    let place = Place::default();
    let profile = eight_billion(&place);
    for (memory, positions) in [("24GB", 256), ("80GB", 1024), ("150GB", 2048), ("1000GB", 4096)] {
        let whole = [profile.as_str(), "--from-scratch", "--device-memory", memory];
        let found = planned(&place, &whole).1;
        // Two numbers in bf16 and three in f32 for each of the vocabulary.
        assert_eq!(part(&found, "logits"), positions * 134_656 * 16, "{memory}");
    }
}

/// QLoRA's promise: a model that does not fit on a GPU of 24 GB in bf16 can be trained there in four bits.
#[test]
fn a_frozen_base_in_fewer_bits_is_counted() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let bytes = |base: &str| {
        let base = format!("lora.base={base}");
        let double = ["--set", "lora.double_quantization=true"];
        let arguments = [
            profile.as_str(),
            "--from-scratch",
            "--device-memory",
            "24GB",
            "--set",
            &base,
        ];
        let more: &[&str] = if base.ends_with("nf4") { &double } else { &[] };
        let (code, found) = planned(&place, &[&arguments[..], more].concat());
        (code, part(&found, "weights"), part(&found, "dequantised weight"))
    };
    let (full, eight, four) = (bytes("auto"), bytes("int8"), bytes("nf4"));
    assert_eq!((full.0, full.2, four.0), (1, 0, 0), "{full:?} {four:?}");
    // The embedding and the output head of 134,656 rows stay in bf16: 2.2 of 16.2 GB.
    assert!(
        full.1 > 16_000_000_000 && eight.1 < 9_500_000_000,
        "{full:?} {eight:?}"
    );
    assert!((5_500_000_000..6_100_000_000).contains(&four.1), "{four:?}");
    assert!(four.2 > 2 * 2 * 12_288 * 4096, "{four:?}");
}

/// Writes the shape of the shipped model, of 5 blocks of width 192, and an adapter of rank 3 on two layers beside it.
fn adapted(place: &Place) -> PathBuf {
    let folder = place.path().join("adapted");
    std::fs::create_dir(&folder).unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model/shipped/tabletop/config.json");
    std::fs::copy(shipped, folder.join("config.json")).unwrap();
    let targets = ["q_proj", "model.transformer.blocks.0.ff_out"];
    let config = json!({ "r": 3, "lora_alpha": 6, "target_modules": targets });
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    folder
}

/// A run that continues an adapter trains its numbers, beside the base in its format. No other adapter is proposed.
#[test]
fn an_adapter_that_exists_is_planned_as_it_is() {
    let place = Place::default();
    let folder = adapted(&place);
    let assigned = |key: &str| format!("{key}={}", folder.display());
    let plan = |set: &str| {
        let small = ["tabletop", "--device-memory", "1MB", "--set", set];
        planned(&place, &small).1
    };
    for key in ["start_from", "adapter"] {
        let found = plan(&assigned(key));
        // Per block, 192 inputs and outputs of q_proj, 512 inputs and 192 outputs of ff_out.
        assert_eq!(found["trained"], 3 * 5 * (192 + 192 + 512 + 192), "{found}");
        assert_eq!(part(&found, "dequantised weight"), 0);
        let changes = found["changes"].as_array().unwrap();
        let words = changes.iter().map(|change| change["change"].as_str().unwrap());
        assert!(!changes.is_empty() && !words.into_iter().any(|words| words.starts_with("lora")));
    }
    let format = folder.join("quantization_config.json");
    std::fs::write(&format, json!({ "load_in_8bit": true }).to_string()).unwrap();
    assert!(part(&plan(&assigned("start_from")), "dequantised weight") > 0);
    // A quantised base is not divided, and the plan says so.
    let set = assigned("start_from");
    let sharded = [
        "plan",
        "tabletop",
        "--json",
        "--ranks",
        "2",
        "--set",
        &set,
        "--set",
        "engine.shard=weights",
    ];
    let out = place.run(&sharded);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert!(stderr.contains("whole on every rank"), "{stderr}");
    let found: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(found["shard"], "state");

    // Broken and overlong files are refused by name.
    let refused = |file: &str, words: &str| {
        let out = place.run(&["plan", "tabletop", "--set", &set]);
        let stderr = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            out.status.code() == Some(1) && stderr.contains(file) && stderr.contains(words),
            "{stderr}"
        );
    };
    std::fs::write(&format, "{}").unwrap();
    refused("quantization_config.json", "expected one of");
    let long = std::fs::File::create(&format).unwrap();
    long.set_len((64 << 20) + 1).unwrap();
    refused("quantization_config.json", "longer than");
    std::fs::write(folder.join("adapter_config.json"), "{\"r\": 0}").unwrap();
    refused("adapter_config.json", "r is 0");
    let many = format!("{{\"r\": 1, \"rest\": [{}0]}}", "{\"a\":0},".repeat(500_000));
    std::fs::write(folder.join("adapter_config.json"), many).unwrap();
    refused(
        "adapter_config.json",
        "1000003 values in JSON, expected at most 1000000",
    );
}

/// A head with the embedding's weights has no weights of its own, but for a while a gradient of its own.
#[test]
fn a_tied_head_has_a_second_gradient() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let plan = |tying: &str| {
        let tying = format!("model.weight_tying={tying}");
        let whole = [
            profile.as_str(),
            "--from-scratch",
            "--device-memory",
            "141GB",
            "--set",
            &tying,
        ];
        let found = planned(&place, &whole).1;
        (found["trained"].as_u64().unwrap(), part(&found, "gradients"))
    };
    let (apart, tied) = (plan("false"), plan("true"));
    let table = apart.0 - tied.0;
    assert_eq!(table, 134_656 * 4096);
    // The accumulator in f32, the gradients of a pass in bf16.
    assert_eq!(apart.1, (4 + 2) * apart.0);
    assert_eq!(tied.1, (4 + 2) * tied.0 + 2 * table);
}

/// With offloading, moments and moving average count as host memory. On a CPU nothing is moved.
#[test]
fn offloaded_moments_are_in_host_memory() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let plan = |more: &[&str]| {
        planned(
            &place,
            &[&[profile.as_str(), "--from-scratch", "--set", "ema=0.9"], more].concat(),
        )
        .1
    };
    let gpu = ["--device-memory", "141GB"];
    let (kept, moved) = (
        plan(&gpu),
        plan(&[&gpu[..], &["--set", "optimizer.offload=true"]].concat()),
    );
    let trained = kept["trained"].as_u64().unwrap();
    assert_eq!(
        part(&kept, "optimizer moments") + part(&kept, "moving average of weights"),
        12 * trained
    );
    assert_eq!(
        part(&moved, "optimizer moments") + part(&moved, "moving average of weights"),
        0
    );
    let host: u64 = moved["host_parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(host, 12 * trained);
    // On a CPU there is no other memory to offload to.
    let cpu = plan(&["--set", "optimizer.offload=true"]);
    assert_eq!(
        (
            part(&cpu, "optimizer moments"),
            cpu["host_parts"].as_array().unwrap().len()
        ),
        (8 * trained, 0)
    );
}

/// `scale.md`'s table: master weights, a gradient accumulator and two moments take 16 bytes per parameter.
/// Eight billion parameters fit on eight ranks of 80 GB.
#[test]
fn ranks_own_parts_of_the_state_and_of_the_weights() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let plan = |more: &[&str]| {
        planned(
            &place,
            &[
                &[profile.as_str(), "--from-scratch", "--device-memory", "80GB"],
                more,
            ]
            .concat(),
        )
    };
    let (code, one) = plan(&["--ranks", "1"]);
    assert_eq!((code, &one["ranks"]), (1, &Value::from(1)));
    let trained = one["trained"].as_u64().unwrap();
    let changes = one["changes"].as_array().unwrap();
    let fitting = changes.iter().find(|change| {
        change["change"]
            .as_str()
            .unwrap()
            .starts_with("--ranks 4 --shard weights")
    });
    assert_eq!(fitting.unwrap()["fits"], true, "{one}");

    let (_, state) = plan(&["--ranks", "8"]);
    assert_eq!(
        part(&state, "f32 master weights"),
        4 * trained,
        "weights are on every rank"
    );
    assert_eq!(part(&state, "optimizer moments"), trained);
    let (code, weights) = plan(&["--ranks", "8", "--shard", "weights"]);
    assert_eq!((code, &weights["shard"]), (0, &Value::from("weights")));
    let owned: u64 = ["f32 master weights", "gradients", "optimizer moments"]
        .iter()
        .map(|name| part(&weights, name))
        .sum();
    assert_eq!(owned, 2 * trained, "16 bytes a number, in eight parts");
    let bytes = weights["bytes"].as_u64().unwrap();
    assert!((25_000_000_000..40_000_000_000).contains(&bytes), "{weights}");
    // The only rank of a world gathers weights as any other does. Without ranks there is nothing to gather.
    let (_, only) = plan(&["--ranks", "1", "--shard", "weights"]);
    assert_eq!(part(&only, "f32 master weights"), 4 * trained);
    assert!(part(&only, "weights") < part(&one, "weights") / 4, "{only}");
    // It takes a unit of the batch at a time, as they do. Without ranks, all of the batch is taken.
    let rows = |found: &Value| found["rows"].as_u64().unwrap();
    assert_eq!((rows(&one), rows(&state), rows(&plan(&[]).1)), (4, 4, 8));
    let (_, none) = plan(&["--shard", "weights"]);
    assert_eq!(
        (&none["shard"], &none["bytes"]),
        (&Value::from("state"), &plan(&[]).1["bytes"])
    );
    // More ranks need less memory each.
    let of = |ranks| {
        plan(&["--ranks", ranks, "--shard", "weights"]).1["bytes"]
            .as_u64()
            .unwrap()
    };
    assert!(of("2") > of("4") && of("4") > of("8"));

    // The frozen weights below an adapter are divided, 2 bytes a number, and the adapter is not.
    let adapted = |ranks| {
        let more = ["--ranks", ranks, "--shard", "weights", "--set", "lora.rank=2"];
        plan(&more).1
    };
    let (two, eight, whole) = (adapted("2"), adapted("8"), part(&one, "weights"));
    assert_eq!(
        part(&two, "weights") - part(&eight, "weights"),
        whole / 2 - whole / 8
    );
    assert_eq!(
        part(&two, "f32 master weights"),
        part(&eight, "f32 master weights")
    );

    // What ranks train with takes as little of each as of one: eight ranks divide the same state.
    let frugal = ["--set", "optimizer.moments=bf16", "--set", "optimizer.muon=true"];
    let (_, alone) = plan(&frugal);
    let (_, ranks) = plan(&[&frugal[..], &["--ranks", "8"]].concat());
    assert_eq!(
        part(&ranks, "optimizer moments"),
        part(&alone, "optimizer moments").div_ceil(8)
    );

    let refused = place.run(&[
        "plan",
        &profile,
        "--from-scratch",
        "--ranks",
        "2",
        "--shard",
        "weights",
        "--set",
        "lora.base=nf4",
    ]);
    assert_eq!(refused.status.code(), Some(2));
}

/// On a CPU the rows and the threads of a rank follow from its world. Every world that is proposed needs what its own
/// plan says.
#[test]
fn a_proposed_world_needs_what_its_own_plan_says() {
    let place = Place::default();
    let profile = eight_billion(&place);
    let settings: [&[&str]; 2] = [&[], &["--set", "engine.threads=4"]];
    for threads in settings {
        let plan = |more: &[&str]| {
            let stored = [profile.as_str(), "--from-scratch", "--set", "recompute=never"];
            planned(&place, &[&stored[..], threads, more].concat()).1
        };
        let alone = plan(&[]);
        assert_eq!(alone["device"], "cpu");
        let mut worlds = 0;
        for change in alone["changes"].as_array().unwrap() {
            let words = change["change"].as_str().unwrap();
            let (flags, _) = words.split_once(':').unwrap_or((words, ""));
            if flags.starts_with("--ranks") {
                let flags: Vec<&str> = flags.split_whitespace().collect();
                assert_eq!(change["bytes"], plan(&flags)["bytes"], "{flags:?} {threads:?}");
                worlds += 1;
            }
        }
        assert_eq!(worlds, 6, "with the state and with the weights divided: {alone}");
    }
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
    for word in [
        "f32 master weights",
        "activations kept for backward",
        "image tokenizer",
        "it fits",
    ] {
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
    let text = smoke_with_stages(
        "[[stage]]\nname = \"after\"\nkind = \"evaluate\"\nsuites = [\"tabletop-sums\"]\nlimit = 8\n",
    );
    let file = place.path().join("evaluates.toml");
    std::fs::write(&file, text).unwrap();
    let nothing = place.run(&["plan", &file.display().to_string(), "--from-scratch"]);
    let words = String::from_utf8_lossy(&nothing.stderr);
    assert_eq!(nothing.status.code(), Some(2), "{words}");
    assert!(words.contains("none of its stages trains the model"), "{words}");
}
