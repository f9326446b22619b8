//! Measures seconds per step, waiting time and memory of ranks that train one network on this machine.
//!
//! `rank_rate [--ranks N] [--shard state|weights] [--steps N] [--rows N] [--dtype f32|bf16] [--keep-memory
//! yes|no] [SHAPE]` starts one process per rank, with one thread each, over the loopback interface. Each rank
//! prints a line of JSON. A process that finds `RANK` and `WORLD_SIZE` set is that rank and starts no others,
//! so that ranks can also be started in network namespaces or on several machines. `DEMASK_PREFETCH=0` turns
//! off prefetching: the difference in waiting time is the communication that prefetching hides.

mod shape;

use std::process::Command;
use std::rc::Rc;

use anyhow::ensure;
use demask_api::{Adam, Recompute, Shard, StepSettings};
use demask_model::engine::device_choice::{self, Place};
use demask_model::training::optimizer::AdamW;
use demask_model::training::ranks::{Reduction, Share};
use demask_model::weights::shards::RankOf;
use demask_model::world::environment::STORE_FILE;
use demask_model::world::{Membership, World};
use demask_model::{Backbone, training};
use serde_json::json;
use shape::{Shape, USAGE, flags, number, rows};
use tch::Device;

/// Number of steps that are not timed.
const WARM_UP: usize = 2;

/// The settings of a measurement.
struct Course {
    shape: Shape,
    rows: usize,
    steps: usize,
    ranks: usize,
    shard: Shard,
    dtype: String,
    /// Whether the process keeps freed memory. `None` leaves it as the engine has it.
    keeps: Option<bool>,
}

impl Course {
    fn parse() -> anyhow::Result<Self> {
        let mut course = Self {
            shape: Shape::default(),
            rows: 16,
            steps: 5,
            ranks: 2,
            shard: Shard::Weights,
            dtype: "f32".into(),
            keeps: None,
        };
        for (flag, value) in flags()? {
            match flag.as_str() {
                "--rows" => course.rows = number(&flag, &value)?,
                "--steps" => course.steps = number(&flag, &value)?,
                "--ranks" => course.ranks = number(&flag, &value)?,
                "--shard" => course.shard = serde_json::from_value(json!(value))?,
                "--dtype" => course.dtype = value,
                "--keep-memory" => course.keeps = Some(value == "yes"),
                _ => ensure!(
                    course.shape.take(&flag, &value)?,
                    "unknown flag {flag}: expected [--ranks N] [--shard state|weights] [--steps N] [--rows N] [--dtype f32|bf16] [--keep-memory yes|no] {USAGE}"
                ),
            }
        }
        Ok(course)
    }
}

fn main() -> anyhow::Result<()> {
    let course = Course::parse()?;
    match course.keeps.unwrap_or(course.shard == Shard::State) {
        true => device_choice::keep_freed_memory(),
        false => device_choice::give_freed_memory_back(),
    }
    if std::env::var_os("RANK").is_some() {
        return as_a_rank(&course);
    }
    let place = tempfile::tempdir()?;
    let ranks = (0..course.ranks).map(|rank| {
        Command::new(std::env::current_exe()?)
            .args(std::env::args().skip(1))
            .env(STORE_FILE, place.path().join("store"))
            .envs([
                ("RANK", rank.to_string()),
                ("WORLD_SIZE", course.ranks.to_string()),
            ])
            .spawn()
    });
    for mut rank in ranks.collect::<Result<Vec<_>, _>>()? {
        ensure!(rank.wait()?.success(), "a rank failed");
    }
    Ok(())
}

fn as_a_rank(course: &Course) -> anyhow::Result<()> {
    let kind = Place::choose("cpu", &course.dtype, Some(1))?.kind;
    let membership = Membership::from_variables(&|name| std::env::var(name).ok())?;
    let world = Rc::new(World::join(membership, Device::Cpu)?);
    let own = RankOf {
        rank: world.rank(),
        size: world.size(),
    };
    let config = course.shape.config()?;
    let words = (config.mask_token_id as usize).min(1000);
    let part = (course.shard == Shard::Weights).then_some(own);
    let before = megabytes("VmRSS:");
    let mut backbone = Backbone::fresh_on(&config, 0, (Device::Cpu, kind), part)?;
    let share = Share::of(&world, &backbone, Reduction::Exact)?;
    let mut optimizer = match part {
        None => AdamW::shared(share, backbone.parameters())?,
        Some(_) => {
            let mut own = AdamW::new(backbone.parameters())?;
            own.join(share);
            own
        }
    };
    let (mut seconds, mut waited, mut crossing, mut bytes) = (0.0, 0.0, 0.0, 0);
    for step in 0..WARM_UP + course.steps {
        let settings = StepSettings {
            learning_rate: 1e-3,
            clip_norm: 1.0,
            adam: Adam::default(),
            task_weights: [1.0; 4],
            loss_normalization: demask_api::LossNormalization::Sequence,
            recompute: Recompute::Always,
            block_noise: demask_api::BlockNoise::default(),
            seed: step as u64,
            ema: 0.0,
        };
        let batch = rows(course.rows, course.shape.length, words, step);
        let report = training::train(&mut backbone, &mut optimizer, &[batch], &settings)?;
        if step >= WARM_UP {
            let dist = report.ranks[own.rank].dist;
            seconds += report.seconds;
            waited += dist.wait_seconds;
            crossing += dist.seconds;
            bytes += dist.bytes;
        }
    }
    let a_step = |sum: f64| (sum / course.steps as f64 * 1e3).round() / 1e3;
    let line = json!({
        "rank": own.rank,
        "ranks": own.size,
        "shard": course.shard,
        "parameters": backbone.parameters().count(),
        "seconds": a_step(seconds),
        "wait_seconds": a_step(waited),
        "crossing_seconds": a_step(crossing),
        "mb_a_step": bytes / course.steps as u64 / 1_000_000,
        "mib_before": before,
        "mib_of_files": megabytes("RssFile:"),
        "mib_at_most": megabytes("VmHWM:"),
    });
    println!("{line}");
    Ok(())
}

/// Returns a field of `/proc/self/status` in MiB.
fn megabytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let figure = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = figure.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kilobytes + 512) / 1024)
}
