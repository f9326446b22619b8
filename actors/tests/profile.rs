//! What a profile may contain. Mistakes are refused before anything is started, with their line and what is
//! allowed.
#![allow(clippy::unwrap_used, missing_docs)]

use demask_actors::profile::{Gate, Profile, shipped};

const SOURCE: &str = "[[source]]\nname = \"t\"\nkind = \"tabletop_sums\"\n";
const STAGE: &str = "[[stage]]\nname = \"a\"\nkind = \"pretrain\"\n";

fn parsed(sections: &str) -> Result<Profile, String> {
    let source = if sections.contains("[[source]]") {
        ""
    } else {
        SOURCE
    };
    let text = format!("name = \"x\"\n{sections}{source}{STAGE}");
    Profile::parse(&text, "x.toml").map_err(|error| error.to_string())
}

/// A teacher needs an address and a model; its other settings have defaults. Mistakes are reported with
/// their line.
#[test]
fn a_teacher_that_cannot_be_asked_is_refused_with_its_line() {
    let whole = "[teacher]\nurl = \"http://127.0.0.1:1/v1\"\nmodel = \"m\"\n";
    let teacher = parsed(whole).unwrap().teacher.unwrap();
    assert_eq!(
        (teacher.share, teacher.concurrency, teacher.token_cap),
        (1.0, 4, 1_000_000)
    );
    for (section, line, word) in [
        ("[teacher]\nmodel = \"m\"\n", 2, "url"),
        ("[teacher]\nurl = \"http://127.0.0.1:1/v1\"\n", 2, "model"),
        (
            "[teacher]\nurl = \"localhost\"\nmodel = \"m\"\n",
            3,
            "url of the teacher",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \" \"\n",
            4,
            "model of the teacher",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \"m\"\nshare = 1.5\n",
            5,
            "share is 1.5",
        ),
        (
            "[teacher]\nurl = \"http://a\"\nmodel = \"m\"\ncap = 1\n",
            5,
            "cap",
        ),
    ] {
        let error = parsed(section).unwrap_err();
        assert!(
            error.contains(&format!("line {line}")) && error.contains(word),
            "{section}: {error}"
        );
    }
}

#[test]
fn the_gate_has_defaults_and_knows_the_suites() {
    assert_eq!(parsed("").unwrap().gate, Gate::default());
    let gate = parsed("[gate]\nrollback = true\nsuites = [\"tabletop-ask\"]\n")
        .unwrap()
        .gate;
    assert!(gate.rollback && gate.enabled && gate.suites == ["tabletop-ask"]);
    let error = parsed("[gate]\nsuites = [\"tabletop-asc\"]\n").unwrap_err();
    assert!(
        error.contains("line 3") && error.contains("tabletop-asc"),
        "{error}"
    );
}

#[test]
fn two_of_a_name_are_refused_at_the_second() {
    let source = |name: &str| format!("[[source]]\nname = \"{name}\"\nkind = \"tabletop_sums\"\n");
    assert!(parsed(&(source("sums") + &source("more"))).is_ok());
    let error = parsed(&(source("sums") + &source("sums"))).unwrap_err();
    assert!(
        error.contains("line 6") && error.contains("source is sums, which another source has too"),
        "{error}"
    );
    let error = parsed(STAGE).unwrap_err();
    assert!(
        error.contains("line 9") && error.contains("stage is a, which another stage has too"),
        "{error}"
    );
}

/// A reward network counts only if the profile names its folder, with its published weight unless the
/// profile sets another. An unknown network is refused.
#[test]
fn reward_networks_that_are_named_weigh_as_published_unless_the_profile_says_otherwise() {
    let without = parsed("").unwrap();
    assert!(without.reward_networks.is_empty());
    assert!(!without.rewards.contains_key("clip") && !without.rewards.contains_key("image_reward"));
    assert!(
        !serde_json::to_string(&without)
            .unwrap()
            .contains("reward_networks")
    );
    let clip = parsed("[reward_networks]\nclip = \"a\"\n").unwrap();
    assert_eq!(
        (clip.rewards["clip"], clip.rewards.get("image_reward")),
        (0.1, None)
    );
    let both = parsed(
        "[rewards]\ndraw = 1.0\nimage_reward = 0.7\n[reward_networks]\nclip = \"a\"\nimage_reward = \"b\"\n",
    )
    .unwrap();
    assert_eq!(
        (
            both.rewards["clip"],
            both.rewards["image_reward"],
            both.rewards.len()
        ),
        (0.1, 0.7, 3)
    );
    let error = parsed("[reward_networks]\nblip = \"a\"\n").unwrap_err();
    assert!(error.contains("line 3") && error.contains("blip"), "{error}");
}

const SMOKE: &str = include_str!("../profiles/smoke.toml");

/// Returns the error for the smoke profile with this `--set` flag.
fn with(flag: &str) -> String {
    let text = Profile::set(SMOKE, "smoke", &[flag.to_owned()]).unwrap();
    Profile::parse(&text, "smoke").unwrap_err().to_string()
}

#[test]
fn every_profile_that_ships_is_right() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        Profile::parse(&text, &path.to_string_lossy()).unwrap();
        seen += 1;
    }
    assert_eq!(seen, shipped::all().count(), "each is in the list too");
}

/// Every setting that is out of range is refused with its name, its value and the allowed range.
#[test]
fn values_out_of_range_are_named_with_what_is_allowed() {
    for (flag, words) in [
        (
            "engine.device=\"tpu\"",
            "device is 'tpu'; allowed is auto, cpu, cuda or cuda:N",
        ),
        (
            "engine.dtype=\"f8\"",
            "dtype is 'f8'; allowed is auto, f32 or bf16",
        ),
        ("engine.threads=0", "threads is 0; allowed is 1 to 1024"),
        ("model.d_model=33", "d_model is 33; expected a multiple of 4"),
        ("model.n_heads=0", "n_heads is 0; allowed is 1"),
        (
            "model.n_kv_heads=3",
            "n_kv_heads is 3; expected a divisor of n_heads 2",
        ),
        ("model.mlp_hidden_size=0", "mlp_hidden_size is 0; allowed is 1"),
        ("model.rope_theta=-1", "rope_theta is -1; allowed is 1"),
        (
            "model.max_sequence_length=60",
            "takes 112 positions, but model.max_sequence_length is 60",
        ),
        (
            "image_tokenizer.norm_groups=3",
            "expected a multiple of norm_groups 3",
        ),
        (
            "image_tokenizer.codebook_bits=5",
            "z_channels is 6, but must equal codebook_bits, which is 5",
        ),
        (
            "image_tokenizer.decoder.ch_mult=[1,1]",
            "num_res_blocks has 4 numbers, but ch_mult has 2",
        ),
        (
            "budgets.text.answer=500",
            "text takes 564 positions, but model.max_sequence_length is 160",
        ),
        (
            "budgets.understand.codes=15",
            "codes is 15, but the image tokenizer makes 16",
        ),
        ("sampling.image.steps=0", "steps is 0; allowed is 1"),
        ("sampling.text.temperature=-1", "temperature is -1; allowed is 0"),
        (
            "sampling.rollout_temperature=nan",
            "rollout_temperature is NaN; allowed is 0 to 10",
        ),
        (
            "rewards.beauty=1",
            "beauty is not a reward; there are correct, format",
        ),
        ("rewards.draw=-1", "draw is -1; allowed is 0 to 100"),
        ("task_weights=[0,0,0,0]", "task_weights are all 0"),
        ("task_weights=[1,1,1,-1]", "task_weights is -1; allowed is 0"),
        ("optimizer.eps=0", "eps is 0; allowed is 1e-30 to 1"),
        ("stage.after.limit=0", "limit is 0; allowed is 1"),
        (
            "stage.after.limit=1000001",
            "limit is 1000001; allowed is 1 to 1000000",
        ),
        ("stage.after.suites=[]", "suites is missing; `demask eval --list`"),
        ("stage.reason.group=0", "group is 0; allowed is 1"),
        ("stage.unigrpo.group=1", "group is 1; allowed is 2"),
        (
            "stage.cot.sources=[\"som\"]",
            "names som; there are draw, ask, sums",
        ),
        ("source.sums.limit=0", "limit is 0; allowed is 1"),
        ("source.sums.kind=\"jsonl\"", "path is missing in source sums"),
        (
            "source.sums.path=\"sums.jsonl\"",
            "path is given in source sums, which is generated",
        ),
        (
            "source.sums.limit=7",
            "limit is given in source sums, which is generated",
        ),
        (
            "stage.unigrpo.objective.clip=11",
            "clip is 11; allowed is 0 to 10",
        ),
        (
            "stage.unigrpo.estimator={kind=\"trace_rl\",merge=0,views=1}",
            "merge is 0; allowed is 1",
        ),
    ] {
        let said = with(flag);
        assert!(said.contains(words), "{flag}: {said}");
    }
}

/// Numbers that are each in their range may have a product that no memory holds.
#[test]
fn l9_the_samples_of_a_step_have_a_limit() {
    let with = |flags: &[&str]| {
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let text = Profile::set(SMOKE, "smoke", &flags).unwrap();
        Profile::parse(&text, "smoke").map_err(|error| error.to_string())
    };
    let batch = ["stage.unigrpo.batch=4096", "stage.unigrpo.group=64"];
    assert!(with(&batch).is_ok());
    let said = with(&[&batch[..], &["stage.unigrpo.resample=1"]].concat()).unwrap_err();
    let words = "batch is 4096, which makes 524288 samples a step (batch * (1 + resample) * group); allowed are at most 262144";
    assert!(said.contains("line") && said.contains(words), "{said}");
    let said = with(&["stage.reason.batch=65536", "stage.reason.group=5"]).unwrap_err();
    assert!(said.contains("327680 samples a step (batch * group)"), "{said}");
}

#[test]
fn unknown_keys_are_named_where_networks_are_described_too() {
    for (flag, key) in [
        ("model.d_modle=3", "model.d_modle"),
        ("image_tokenizer.encoder.chs=4", "image_tokenizer.encoder.chs"),
        ("image_tokenizer.groups=4", "image_tokenizer.groups"),
        ("stage.cot.learnig_rate=1", "learnig_rate"),
        (
            "stage.unigrpo.estimator={kind=\"trace_rl\",merge=1,views=1,vews=2}",
            "vews",
        ),
    ] {
        let said = with(flag);
        assert!(said.contains("unknown") && said.contains(key), "{flag}: {said}");
    }
}

/// The reported line is that of the wrong value itself, although the same key and the same number occur
/// elsewhere.
#[test]
fn the_line_is_the_one_that_has_the_wrong_value() {
    let text = format!(
        "name = \"x\"\n[model]\nn_layers = 2\nd_hidden = 7\n[[source]]\nname = \"a\"\nkind = \"tabletop_sums\"\n{STAGE}\
         steps = 3\n[[stage]]\nname = \"b\"\nkind = \"align\"\nobjective = {{ kl = 0.0, clip = 11 }}\nsteps = 0\n"
    );
    let line = |text: &str| Profile::parse(text, "x.toml").unwrap_err().line;
    assert_eq!(line(&text), Some(4));
    let text = text.replace("d_hidden = 7\n", "\n");
    assert_eq!(line(&text), Some(15), "inside an inline table");
    let text = text.replace("clip = 11", "clip = 1");
    assert_eq!(line(&text), Some(16), "steps of the second stage");
    let text = text
        .replace("steps = 0", "steps = 1")
        .replace("n_layers = 2", "n_layers = 0");
    assert_eq!(line(&text), Some(3));
    let text = text.replace("n_layers = 0", "n_heads = 7");
    assert_eq!(
        line(&text),
        Some(2),
        "what is wrong is not written: its table is named"
    );
}

/// Anchoring a profile replaces relative paths by absolute ones, so that it is valid in the daemon's working
/// directory. A path that does not exist is refused with its line.
#[test]
fn what_a_profile_names_is_made_to_hold_elsewhere_or_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("sums.jsonl"), "{}\n").unwrap();
    let source = "[[source]]\nname = \"a\"\nkind = \"jsonl\"\npath = \"sums.jsonl\"\n";
    let text = format!(
        "name = \"x\"\ndata = {:?}\n{source}{STAGE}",
        data.to_string_lossy()
    );
    let anchored = Profile::anchored(&text, "x.toml", true).unwrap();
    let profile = Profile::parse(&anchored, "x.toml").unwrap();
    assert_eq!(
        profile.sources[0].path.as_deref(),
        Some(data.join("sums.jsonl").as_path())
    );
    assert_eq!(profile.data.as_deref(), Some(data.as_path()));
    let wrong = |text: &str, from_scratch| {
        let error = Profile::anchored(text, "x.toml", from_scratch).unwrap_err();
        (error.line, error.message)
    };
    let (line, said) = wrong(&text.replace("sums.jsonl", "some.jsonl"), true);
    assert!(
        line == Some(6) && said.contains("some.jsonl") && said.contains("DEMASK_DATA"),
        "{said}"
    );
    let starts = text.replace("[[source]]", "start_from = \"nowhere\"\n[[source]]");
    let (line, said) = wrong(&starts, false);
    assert!(
        line == Some(3) && said.contains("start_from is nowhere"),
        "{said}"
    );
    assert!(
        Profile::anchored(&starts, "x.toml", true).is_ok(),
        "--from-scratch starts from nothing"
    );
}

#[test]
fn a_run_starts_from_a_checkpoint_or_a_published_folder() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("name = \"x\"\nstart_from = {:?}\n{SOURCE}{STAGE}", folder.path());
    let said = || Profile::anchored(&text, "x.toml", false).map_err(|error| (error.line, error.message));
    let write = |name: &str| std::fs::write(folder.path().join(name), "{}").unwrap();
    let (line, words) = said().unwrap_err();
    assert!(
        line == Some(2) && words.contains("found neither manifest.json nor config.json"),
        "{words}"
    );
    assert!(words.contains("no image tokenizer"), "{words}");
    write("config.json");
    let (_, words) = said().unwrap_err();
    assert!(words.contains("config.json without tokenizer.json"), "{words}");
    write("tokenizer.json");
    said().unwrap();
    std::fs::remove_file(folder.path().join("tokenizer.json")).unwrap();
    write("manifest.json");
    said().unwrap();
}

#[test]
fn reward_networks_lie_below_the_data_too_and_are_made_whole() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip");
    std::fs::create_dir(&clip).unwrap();
    let data = folder.path().to_string_lossy();
    let text = format!("name = \"x\"\ndata = {data:?}\n{SOURCE}{STAGE}[reward_networks]\nclip = \"clip\"\n");
    std::fs::write(clip.join("model.safetensors"), "").unwrap();
    let error = Profile::anchored(&text, "x.toml", true).unwrap_err();
    assert!(
        error.line == Some(10) && error.message.contains("no tokenizer.json"),
        "{error}"
    );
    std::fs::write(clip.join("tokenizer.json"), "").unwrap();
    let anchored = Profile::anchored(&text, "x.toml", true).unwrap();
    let profile = Profile::parse(&anchored, "x.toml").unwrap();
    assert_eq!(profile.reward_networks.clip, Some(clip));
}

#[test]
fn a_benchmark_whose_data_is_not_there_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_string_lossy();
    let stage = "[[stage]]\nname = \"b\"\nkind = \"evaluate\"\nsuites = [\"tabletop-ask\", \"gsm8k\"]\n";
    let of = |more: &str| format!("name = \"x\"\ndata = {data:?}\n{SOURCE}{STAGE}{more}");
    let gate = "[gate]\nsuites = [\"gsm8k\"]\n";
    for (more, line) in [(stage, 12), (gate, 10)] {
        let error = Profile::anchored(&of(more), "x.toml", true).unwrap_err();
        let words = ["names gsm8k", "benchmarks/gsm8k", "DEMASK_DATA"];
        assert!(
            error.line == Some(line) && words.iter().all(|word| error.message.contains(word)),
            "{error}"
        );
    }
    Profile::anchored(&of(&format!("{gate}enabled = false\n")), "x.toml", true).unwrap();
    std::fs::create_dir(folder.path().join("gsm8k")).unwrap();
    std::fs::write(folder.path().join("gsm8k/test.jsonl"), "").unwrap();
    Profile::anchored(&of(stage), "x.toml", true).unwrap();
}

/// An adapter has defaults and an optional quantized base. Invalid settings are refused with their line.
#[test]
fn an_adapter_has_defaults_and_what_makes_none_is_refused_with_its_line() {
    assert!(parsed("").unwrap().lora.is_none());
    let lora = parsed("[lora]\nrank = 4\n").unwrap().lora.unwrap();
    assert_eq!((lora.rank, lora.alpha, lora.target_modules.len()), (4, 16.0, 7));
    assert!(!lora.frozen_base().is_quantized());
    let qlora = parsed("[lora]\nbase = \"nf4\"\ndouble_quantization = true\n").unwrap();
    assert!(qlora.lora.unwrap().frozen_base().double_quantization);
    for (section, line, word) in [
        ("[lora]\nrank = 0\n", 3, "rank is 0"),
        ("[lora]\nalpha = 8.0\ndropout = 1.0\n", 4, "dropout is 1"),
        ("[lora]\nranks = 4\n", 3, "ranks"),
        ("[lora]\nbase = \"fp4\"\n", 3, "nf4"),
        (
            "[lora]\nbase = \"int8\"\ndouble_quantization = true\n",
            4,
            "constants of nf4",
        ),
    ] {
        let error = parsed(section).unwrap_err();
        assert!(
            error.contains(&format!("line {line}")) && error.contains(word),
            "{section}: {error}"
        );
    }
}

#[test]
fn weights_are_sharded_over_ranks_where_there_are_some() {
    let sharded = parsed("[engine]\nranks = 2\nshard = \"weights\"\n").unwrap();
    assert_eq!(sharded.engine.shard, demask_api::Shard::Weights);
    let error = parsed("[engine]\nshard = \"weights\"\n").unwrap_err();
    assert!(
        error.contains("shard is weights") && error.contains("ranks = 2"),
        "{error}"
    );
    assert!(parsed("[engine]\nranks = 2\nshard = \"all\"\n").is_err());
    for adapter in ["lora = { rank = 2 }\n", "adapter = \"a\"\n"] {
        assert!(parsed(&format!("{adapter}[engine]\nranks = 2\nshard = \"weights\"\n")).is_ok());
    }
    // A quantised base cannot be sharded. The profile's check says so before a run starts.
    for base in ["nf4", "int8"] {
        let ranks = format!("lora = {{ rank = 2, base = \"{base}\" }}\n[engine]\nranks = 2\n");
        assert!(parsed(&ranks).is_ok());
        let error = parsed(&format!("{ranks}shard = \"weights\"\n")).unwrap_err();
        assert!(
            error.contains("shard is weights")
                && error.contains("cannot be sharded")
                && error.contains("use \"state\""),
            "{error}"
        );
    }
}

#[test]
fn a_run_may_go_on_with_as_few_ranks_as_the_profile_allows() {
    assert_eq!(parsed("[engine]\nranks = 3\n").unwrap().engine.min_ranks, None);
    for least in [1, 3] {
        let profile = parsed(&format!("[engine]\nranks = 3\nmin_ranks = {least}\n")).unwrap();
        assert_eq!(profile.engine.min_ranks, Some(least));
    }
    assert!(parsed("[engine]\nranks = 3\nmin_ranks = 2\njoin = true\n").is_ok());
    for (section, words) in [
        ("ranks = 3\nmin_ranks = 4\n", "expected 1 to 3"),
        ("ranks = 3\nmin_ranks = 0\n", "min_ranks is 0"),
        ("min_ranks = 1\n", "there is only one process"),
    ] {
        let error = parsed(&format!("[engine]\n{section}")).unwrap_err();
        assert!(error.contains(words), "{section}: {error}");
    }
}

#[test]
fn ranks_are_allowed_with_every_optimizer() {
    for optimizer in [
        "muon = true",
        "moments = \"bf16\"",
        "muon = true\nmoments = \"bf16\"",
    ] {
        assert!(parsed(&format!("[optimizer]\n{optimizer}\n[engine]\nranks = 2\n")).is_ok());
    }
}

/// A profile may add either an adapter or picture codes to its checkpoint, not both. What it adds must exist
/// and fit the checkpoint, and needs a checkpoint to start from.
#[test]
fn what_is_put_on_a_checkpoint_is_one_thing_and_there() {
    for (more, line, words) in [
        (
            "adapter = \"a\"\nlora = { rank = 2 }\n",
            2,
            "adapter is given together with lora",
        ),
        (
            "lora = { rank = 2 }\ngrow = { seed = 1 }\n",
            3,
            "grow is given together with an adapter",
        ),
        (
            "adapter = \"a\"\ngrow = { seed = 1 }\n",
            3,
            "grow is given together with an adapter",
        ),
        (
            "[grow]\ncodebook_size = 0\n",
            3,
            "codebook_size is 0; allowed is 1",
        ),
        ("[grow]\ncodes = 1\n", 3, "codes"),
    ] {
        let error = parsed(more).unwrap_err();
        assert!(
            error.contains(&format!("line {line}")) && error.contains(words),
            "{more}: {error}"
        );
    }
    let place = tempfile::tempdir().unwrap();
    let [text, adapter] = ["text", "adapter"].map(|name| place.path().join(name));
    for (folder, file) in [(&text, "manifest.json"), (&adapter, "adapter_config.json")] {
        std::fs::create_dir(folder).unwrap();
        std::fs::write(folder.join(file), "{}").unwrap();
    }
    let says = |more: &str, from_scratch: bool, words: &[&str]| {
        let whole = format!("name = \"x\"\n{more}\n{SOURCE}{STAGE}");
        let error = Profile::anchored(&whole, "x.toml", from_scratch).unwrap_err();
        assert_eq!(error.line, Some(2), "{error}");
        for word in words {
            assert!(error.message.contains(word), "'{word}' is missing in: {error}");
        }
    };
    for key in ["lora = { rank = 2 }", "adapter = \"a\"", "grow = { seed = 1 }"] {
        let name = key.split(' ').next().unwrap();
        says(key, true, &[name, "--from-scratch"]);
    }
    says(
        &format!("adapter = {adapter:?}"),
        false,
        &["no adapter_model.safetensors", "PEFT"],
    );
    says("grow = { seed = 1 }", false, &["grow", "start_from"]);
    let start = format!("\nstart_from = {text:?}");
    says(
        &format!("grow = {{ seed = 1 }}{start}"),
        false,
        &["needs an image tokenizer", "image_tokenizer_from"],
    );
    let images = text.join("image_tokenizer");
    std::fs::create_dir(&images).unwrap();
    std::fs::write(images.join("config.json"), "{\"codebook_bits\": 10}").unwrap();
    says(
        &format!("grow = {{ codebook_size = 64 }}{start}"),
        false,
        &["codebook_size is 64, but the image tokenizer has 1024"],
    );
    let whole = format!("name = \"x\"\ngrow = {{ codebook_size = 1024 }}{start}\n{SOURCE}{STAGE}");
    Profile::anchored(&whole, "x.toml", false).unwrap();
    // A checkpoint with an adapter accepts no other adapter.
    std::fs::write(text.join("adapter_config.json"), "{}").unwrap();
    says(
        &format!("lora = {{ rank = 2 }}{start}"),
        false,
        &["lora", "contains an adapter", "demask merge"],
    );
}
