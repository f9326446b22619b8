//! The whole loop on a user's files: read, cleaned, trained on, aligned, benchmarked, with every rejection as a row.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use demask_tests::Place;
use demask_tests::store::rows_as_json;

/// A model that learns nothing, on GSM8K's lines and Fashion-MNIST's files.
const PROFILE: &str = r#"
name = "given"
seed = 5
text_vocabulary = 400
pixels = 32

[engine]
device = "cpu"
dtype = "f32"
threads = 1

[model]
d_model = 32
n_heads = 2
n_layers = 1
mlp_hidden_size = 64
max_sequence_length = 256
rope_theta = 10000.0

[image_tokenizer]
codebook_bits = 6
norm_groups = 2
encoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }
decoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }

[budgets]
text_to_image = { prompt = 40, answer = 0, direct_answer = 0, codes = 16 }
text = { prompt = 120, answer = 80, direct_answer = 8, codes = 0 }
understand = { prompt = 64, answer = 20, direct_answer = 20, codes = 16 }
think_then_draw = { prompt = 24, answer = 16, direct_answer = 16, codes = 16 }

[sampling]
rollout_temperature = 1.0
text = { steps = 2, block = 0 }
image = { steps = 2 }

[checkpoint]
every_steps = 4
keep = 2

[[source]]
name = "gsm8k"
kind = "jsonl"
path = "gsm8k/train.jsonl"
licence = "MIT"

[[source]]
name = "fashion"
kind = "idx"
path = "fashion-mnist"
licence = "MIT"

[[stage]]
name = "codes"
kind = "tokenizer"
steps = 2
batch = 4
sources = ["fashion"]

[[stage]]
name = "cot"
kind = "finetune"
steps = 3
batch = 6

[[stage]]
name = "reason"
kind = "reason"
batch = 2
group = 2
sources = ["gsm8k"]

[[stage]]
name = "unigrpo"
kind = "align"
steps = 2
batch = 4
group = 2
learning_rate = 1e-4
objective = { clip = 0.2, kl = 0.01, inner_steps = 2 }

[[stage]]
name = "after"
kind = "evaluate"
suites = ["gsm8k", "fashion-ask", "fashion-draw"]
limit = 4
"#;

/// The only item of the benchmark that fits the model.
const TESTED: &str = "A baker has twelve loaves and sells five of them before noon, so how many loaves are left to sell after noon?";

fn line(question: &str, first: u32) -> String {
    let second = first + 5;
    format!(
        "{{\"question\": \"{question}\", \"answer\": \"He has {first}+5 = <<{first}+5={second}>>{second} now.\\n#### {second}\"}}\n"
    )
}

fn write_gsm8k(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let things = ["apples", "pens", "coins", "keys", "birds", "cups"];
    let mut train: String = (0..36)
        .map(|at| {
            let thing = things[at as usize % things.len()];
            let who = ["Tom", "Ann", "Ben", "Zoe", "Kim", "Leo"][at as usize / things.len()];
            line(
                &format!("{who} starts with {at} {thing} and finds 5. Count the {thing} of {who}."),
                at,
            )
        })
        .collect();
    train.push_str(&line(
        "Tom starts with 0 apples and finds 5. Count the apples of Tom.",
        0,
    ));
    train.push_str(&line(&format!("Listen: {TESTED}"), 7));
    train.push_str("{\"question\": \"cut off\n");
    fs::write(folder.join("train.jsonl"), train).unwrap();
    // Longer than the model allows: not asked, and counted as wrong.
    let endless = line(&"wug ".repeat(300), 1);
    fs::write(folder.join("test.jsonl"), line(TESTED, 7) + &endless).unwrap();
}

/// Writes thirty pictures with a bright bar as high as the label. The three of label 0 are blank, so two of them are
/// duplicates.
fn write_fashion(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for (part, count) in [("train", 30u32), ("t10k", 8)] {
        let big = |words: &[u32]| {
            words
                .iter()
                .flat_map(|word| word.to_be_bytes())
                .collect::<Vec<u8>>()
        };
        let (mut images, mut labels) = (big(&[0x803, count, 28, 28]), big(&[0x801, count]));
        for number in 0..count {
            let label = number % 10;
            labels.push(label as u8);
            let salt = if part == "train" { 0 } else { 100 };
            images.extend((0..28 * 28).map(|at| {
                if at / 28 < 2 * label {
                    200 + (number + salt) as u8 % 50
                } else {
                    0
                }
            }));
        }
        fs::write(folder.join(format!("{part}-images-idx3-ubyte")), images).unwrap();
        fs::write(folder.join(format!("{part}-labels-idx1-ubyte")), labels).unwrap();
    }
}

/// The whole loop runs on files of the user. Rejections are counted by reason, and no row that overlaps a
/// benchmark is trained on (L6). Every trained sequence has source, generator, verifier and score.
#[test]
fn l6_the_loop_runs_on_files_and_says_what_it_turned_away() {
    let place = Place::default();
    let data = place.path().join("data");
    write_gsm8k(&data.join("gsm8k"));
    write_fashion(&data.join("fashion-mnist"));
    let profile = place.path().join("given.toml");
    fs::write(&profile, PROFILE).unwrap();
    // A daemon that was started in another environment must not matter.
    assert!(place.run(&["daemon", "start"]).status.success());
    let out = place
        .demask(&[
            "run",
            "--headless",
            "--from-scratch",
            "--profile",
            profile.to_str().unwrap(),
        ])
        .env("DEMASK_DATA", &data)
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let turned_away = rows_as_json(
        &place,
        "SELECT gate, sum(passed) AS kept, sum(rejected) AS n FROM v_funnel WHERE source = 'gsm8k' AND round = 0 GROUP BY gate \
         ORDER BY gate",
    );
    assert_eq!(
        turned_away,
        serde_json::json!([
            {"gate": "accept", "kept": 36, "n": 0},
            {"gate": "decontaminate", "kept": 0, "n": 1},
            {"gate": "exact_dedup", "kept": 0, "n": 1},
            {"gate": "parse", "kept": 0, "n": 1}
        ])
    );
    let checks = rows_as_json(
        &place,
        "SELECT source, checked, overlapped FROM v_clean WHERE benchmark = 'gsm8k' ORDER BY source",
    );
    assert_eq!(
        checks,
        serde_json::json!([
            {"source": "fashion", "checked": 56, "overlapped": 0},
            {"source": "gsm8k", "checked": 37, "overlapped": 1}
        ])
    );
    let scored = rows_as_json(&place, "SELECT suite, n FROM v_eval ORDER BY suite");
    assert_eq!(
        scored,
        serde_json::json!([{"suite": "fashion-ask", "n": 4}, {"suite": "fashion-draw", "n": 4}, {"suite": "gsm8k", "n": 2}])
    );
    let unnamed = rows_as_json(
        &place,
        "SELECT count(*) AS n FROM v_lineage WHERE source IS NULL OR generator IS NULL OR verifier IS NULL OR score IS NULL",
    );
    assert_eq!(unnamed, serde_json::json!([{"n": 0}]));
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// The reasoning of every row is too long, so that only the answers can be trained on. A row that is drawn with its
/// reasoning has a reason in the funnel, and is counted once: where it was accepted.
#[test]
fn the_funnel_adds_up_when_a_stage_cannot_use_what_was_accepted() {
    let place = Place::default();
    let data = place.path().join("data");
    write_gsm8k(&data.join("gsm8k"));
    let profile = place.path().join("short.toml");
    let short = NARROW
        .replace("prompt = 4, answer = 48", "prompt = 120, answer = 4")
        .replace(
            "kind = \"pretrain\"\nsteps = 40\nbatch = 2",
            "kind = \"finetune\"\nsteps = 6\nbatch = 8",
        );
    assert!(short.contains("answer = 4,") && short.contains("finetune"));
    fs::write(&profile, short).unwrap();
    let flags = [
        "run",
        "--headless",
        "--from-scratch",
        "--profile",
        profile.to_str().unwrap(),
    ];
    let out = place.demask(&flags).env("DEMASK_DATA", &data).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    let funnel = "SELECT gate, sum(passed) AS kept, sum(rejected) AS n FROM v_funnel WHERE source = 'gsm8k' GROUP BY gate \
                  ORDER BY gate";
    assert_eq!(
        rows_as_json(&place, funnel),
        serde_json::json!([
            {"gate": "accept", "kept": 36, "n": 0},
            {"gate": "decontaminate", "kept": 0, "n": 1},
            {"gate": "exact_dedup", "kept": 0, "n": 1},
            {"gate": "parse", "kept": 0, "n": 1}
        ])
    );
    let reasons = "SELECT gate, rejected FROM v_funnel WHERE reason LIKE 'not used in stage pretrain: the answer is longer%'";
    assert_eq!(
        rows_as_json(&place, reasons),
        serde_json::json!([{"gate": "parse", "rejected": 0}])
    );
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// A source with too many broken rows fails the run, and the message names the source, the first broken row
/// and the limit.
#[test]
fn a_source_that_is_mostly_broken_is_refused_by_name() {
    let place = Place::default();
    let data = place.path().join("data");
    write_gsm8k(&data.join("gsm8k"));
    write_fashion(&data.join("fashion-mnist"));
    fs::write(data.join("gsm8k/train.jsonl"), "{}\n".repeat(30)).unwrap();
    let profile = place.path().join("given.toml");
    fs::write(&profile, PROFILE).unwrap();
    let out = place
        .demask(&[
            "run",
            "--headless",
            "--from-scratch",
            "--profile",
            profile.to_str().unwrap(),
        ])
        .env("DEMASK_DATA", &data)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    assert_eq!(out.status.code(), Some(1), "{said}");
    for word in ["source gsm8k", "train.jsonl:1", "bad_row_share"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(place.run(&["daemon", "stop"]).status.success());
}

/// The prompts are longer than the profile allows.
const NARROW: &str = r#"
name = "narrow"
text_vocabulary = 400

[engine]
device = "cpu"
dtype = "f32"
threads = 1

[model]
d_model = 32
n_heads = 2
n_layers = 1
mlp_hidden_size = 64
max_sequence_length = 160

[budgets]
text = { prompt = 4, answer = 48, direct_answer = 8, codes = 0 }

[[source]]
name = "gsm8k"
kind = "jsonl"
path = "gsm8k/train.jsonl"

[[stage]]
name = "pretrain"
kind = "pretrain"
steps = 40
batch = 2
"#;

/// A source whose rows do not fit the budgets fails the run before its first step, with the share of
/// rejected rows and the reason for each.
#[test]
fn a_source_that_does_not_fit_is_refused_before_the_run_begins() {
    let place = Place::default();
    let data = place.path().join("data");
    write_gsm8k(&data.join("gsm8k"));
    let profile = place.path().join("narrow.toml");
    fs::write(&profile, NARROW).unwrap();
    let flags = [
        "run",
        "--headless",
        "--from-scratch",
        "--profile",
        profile.to_str().unwrap(),
    ];
    let out = place.demask(&flags).env("DEMASK_DATA", &data).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for word in [
        "36 of 37 rows do not fit and 1 cannot be read",
        "limits.bad_row_share",
        "source gsm8k",
        "train.jsonl:",
        "longer than the 4 tokens that fit",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let found = "SELECT count(*) AS n FROM v_event WHERE kind = 'verdict' AND body LIKE '%train.jsonl:%longer than the 4 tokens%'";
    assert_eq!(rows_as_json(&place, found), serde_json::json!([{"n": 36}]));
    // However many rows may be rejected, a stage without any row is an error.
    let lenient = format!("{NARROW}\n[limits]\nbad_row_share = 1.0\n");
    fs::write(&profile, lenient).unwrap();
    let out = place.demask(&flags).env("DEMASK_DATA", &data).output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    for word in [
        "stage pretrain: none of 36 examples fits",
        "train.jsonl:",
        "longer than the 4 tokens",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for nothing in ["v_checkpoint", "v_metric"] {
        let counted = rows_as_json(&place, &format!("SELECT count(*) AS n FROM {nothing}"));
        assert_eq!(counted, serde_json::json!([{"n": 0}]), "{nothing}");
    }
    assert!(place.run(&["daemon", "stop"]).status.success());
}
