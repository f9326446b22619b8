//! The parts of `examples/gpu` that need no device: its sections and their time, its flags, the memory that it expects
//! and the operations that it counts. `tests/tests/programs/measurements/gpu_bench.rs` runs all of its sections on the
//! CPU with small sizes.
#![allow(clippy::unwrap_used, missing_docs, dead_code)]

#[path = "../examples/gpu/large/memory.rs"]
mod memory;
#[path = "../examples/gpu/options.rs"]
mod options;
#[path = "../examples/gpu/sections.rs"]
mod sections;
#[path = "../examples/gpu/shape.rs"]
mod shape;
#[path = "../examples/shape/mod.rs"]
mod sizes;

use std::collections::BTreeSet;

use demask_api::plan::LEAST_ROWS;
use demask_api::{BackboneConfig, BaseDtype, LoraConfig};
use memory::{AtOnce, adapter, layers_that_fit, sharded};
use options::{Options, Task};
use sections::SECTIONS;
use shape::Shape;

/// The parameters of a block's matrices at d 4096 and a feed-forward width of 12,288: 4 x 4096^2 + 3 x 4096 x 12,288.
const BLOCK: u64 = 218_103_808;
/// Those of the embedding, and of the head: 134,656 x 4096.
const TABLE: u64 = 551_550_976;

fn parsed(line: &str) -> anyhow::Result<(Task, Options)> {
    Options::parse(line.split_whitespace().map(str::to_owned))
}

fn eight_billion() -> Shape {
    Shape::of(&Options::default()).unwrap()
}

/// A unit of a sharded step on a GPU of so many bytes.
fn unit(total: u64) -> AtOnce {
    AtOnce {
        gpu: Some(total),
        number: 2,
        threads: 1,
        rows: LEAST_ROWS,
        length: 1024,
    }
}

fn part(plan: &demask_api::plan::TrainingPlan<'_>, name: &str) -> u64 {
    let parts = plan.parts();
    let found = parts.iter().find(|part| part.part == name);
    found.unwrap_or_else(|| panic!("{name}: {parts:?}")).bytes
}

#[test]
fn all_sections_fit_into_the_minutes_of_a_run() {
    let names: BTreeSet<&str> = SECTIONS.iter().map(|section| section.name).collect();
    assert_eq!(names.len(), SECTIONS.len(), "each name once");
    for section in &SECTIONS {
        assert!(section.needs < section.limit, "{}", section.name);
    }
    // The profile runs on request only, and comes last.
    let (profile, others) = SECTIONS.split_last().unwrap();
    assert_eq!(profile.name, "profile");
    let needed: u64 = others.iter().map(|section| section.needs).sum();
    let minutes = Options::default().minutes;
    assert!(needed as f64 <= minutes * 60.0, "{needed} s in {minutes} minutes");
}

#[test]
fn a_section_and_a_rank_get_the_flags_of_the_run() {
    let given = "--device cuda:1 --small --layers 4 --out o --programs p --tests t --golden g --shipped s";
    let (_, options) = parsed(&format!("run {given}")).unwrap();
    for task in ["section world", "rank rounds"] {
        let line = format!("{task} {}", options.flags().join(" "));
        let (found, passed) = parsed(&line).unwrap();
        match found {
            Task::Section(name) => assert_eq!(name, "world"),
            Task::Rank(scene) => assert_eq!(scene, "rounds"),
            Task::Run => panic!("{line}"),
        }
        assert_eq!(passed.flags(), options.flags(), "{line}");
        // A rank's own device comes last, and counts.
        let (_, own) = parsed(&format!("{line} --device cuda:0")).unwrap();
        assert_eq!(own.device, "cuda:0");
    }
    for (line, words) in [
        ("section backward", "no section backward: expected one of doctor"),
        ("rank", "rank: expected a scene"),
        ("rank rounds --device gpu", "--device gpu: expected cpu or cuda:N"),
        (
            "play",
            "expected `run`, `section NAME` or `rank SCENE`, found play",
        ),
    ] {
        let error = parsed(line).err().unwrap().to_string();
        assert!(error.contains(words), "{line}: {error}");
    }
}

#[test]
fn the_large_shape_is_the_published_one() {
    let config = eight_billion().config;
    assert_eq!(
        (
            config.d_model,
            config.n_layers,
            config.n_heads,
            config.hidden(),
            config.rows()
        ),
        (4096, 32, 32, 12_288, 134_656)
    );
    assert_eq!(demask_api::memory::block_numbers(&config), Some(BLOCK));
    let all = 32 * BLOCK + 2 * TABLE;
    assert_eq!(all, 8_082_423_808);
    assert_eq!(demask_api::memory::backbone_numbers(&config), Some(all));
}

/// Six operations per weight and token, twelve times width and length for attention, and the head at masked positions.
#[test]
fn the_operations_of_a_step_are_counted_by_hand() {
    let config = eight_billion().config;
    let of = |tokens: f64, masked: f64| sizes::training_flops(&config, tokens, 1024.0, masked);
    assert_eq!(of(1.0, 0.0), 43_486_543_872.0);
    assert_eq!(of(0.0, 1.0), 6.0 * TABLE as f64);
    // The measured step: 32 rows of 1024 tokens, half of them masked.
    let step = of(32_768.0, 16_384.0);
    assert_eq!(step, 32_768.0 * 43_486_543_872.0 + 16_384.0 * 6.0 * TABLE as f64);
    assert!((1.4e15..1.6e15).contains(&step), "{step}");
}

#[test]
fn the_whole_shape_fits_on_a_gpu_of_139_gib_and_eighteen_layers_on_one_of_80_gb() {
    let (large, small) = (139_u64 << 30, 80_000_000_000_u64);
    let config = eight_billion().config;
    let plan = sharded(&config, unit(large));
    let all = 32 * BLOCK + 2 * TABLE;
    assert_eq!(part(&plan, "f32 master weights"), 4 * all);
    assert_eq!(part(&plan, "gradients"), 4 * all);
    assert_eq!(part(&plan, "optimizer moments"), 4 * all, "two of two bytes");
    // The only rank of a world gathers as the others do: two blocks, the embedding and the head.
    assert_eq!(part(&plan, "weights"), 2 * (2 * BLOCK + 2 * TABLE));
    // The engine computes the logits of 2048 of a unit's 4096 positions at a time, and of 1024 on the smaller GPU.
    let logits = |total| part(&sharded(&config, unit(total)), "logits");
    assert_eq!(
        (logits(large), logits(small)),
        (2048 * 134_656 * 16, 1024 * 134_656 * 16)
    );
    assert_eq!(layers_that_fit(&config, large, unit(large)), Some(32));
    assert_eq!(layers_that_fit(&config, small, unit(small)), Some(18));
    assert_eq!(layers_that_fit(&config, 10_000_000_000, unit(small)), None);
    // A layer more than fits would not.
    let with = |n_layers| BackboneConfig {
        n_layers,
        ..config.clone()
    };
    let usable = demask_api::memory::usable(small);
    let bytes = |layers| sharded(&with(layers), unit(small)).bytes();
    assert!(bytes(18) <= usable && bytes(19) > usable);
}

#[test]
fn a_quantised_base_takes_what_its_bits_say() {
    let config = eight_billion().config;
    let weights = |base, double_quantization| {
        let lora = LoraConfig {
            base,
            double_quantization,
            ..LoraConfig::default()
        };
        let now = AtOnce {
            rows: 8,
            ..unit(24_000_000_000)
        };
        part(&adapter(&config, &lora, now), "weights") as f64
    };
    let blocks = (32 * BLOCK) as f64;
    let tables = (2 * 2 * TABLE) as f64;
    // Beside blocks and tables there are the adapter's copy in the compute dtype and the rotary tables: below 0.1 GB.
    let beside = 0.1e9;
    for (base, double, bits) in [
        (BaseDtype::Nf4, true, 4.127),
        (BaseDtype::Nf4, false, 4.5),
        (BaseDtype::Int8, false, 8.0),
    ] {
        let found = weights(base, double);
        let expected = blocks * bits / 8.0 + tables;
        assert!(
            found > 0.999 * expected && found < 1.001 * expected + beside,
            "{base:?}: {found}, expected about {expected}"
        );
    }
}
