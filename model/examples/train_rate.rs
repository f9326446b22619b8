//! Measures training tokens per second on this machine, the share of its measured matrix-product rate, and
//! peak memory. All are medians over steps, and a step's share is that of the rate measured right after it, since
//! a shared machine's speed changes from second to second.
//!
//! `train_rate [--steps N] [--threads N] [--dtype auto|f32|bf16] [--rows N] [--recompute always|never]
//! [SHAPE]`. The default shape is that of `tests/benches/train_rate.py`: d 192, 4 layers, 4 heads,
//! feed-forward 512, vocabulary 1024, length 128, 32 rows; AdamW with clipping at 1. `auto` is bf16 where the
//! processor has native bf16 matrix products, else f32.

mod shape;

use anyhow::ensure;
use demask_api::{Adam, Recompute, StepSettings};
use demask_model::engine::device_choice::Place;
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};
use serde_json::json;
use shape::{Shape, USAGE, flags, matmul_rate, median, number, rows, training_flops};
use tch::Device;

/// The settings of a measurement.
struct Course {
    shape: Shape,
    rows: usize,
    steps: usize,
    place: Place,
    recompute: Recompute,
}

impl Course {
    fn parse() -> anyhow::Result<Self> {
        let (mut shape, mut rows, mut steps, mut threads) = (Shape::default(), 32, 20, 2);
        let (mut dtype, mut recompute) = ("auto".to_owned(), Recompute::Never);
        for (flag, value) in flags()? {
            match flag.as_str() {
                "--rows" => rows = number(&flag, &value)?,
                "--steps" => steps = number(&flag, &value)?,
                "--threads" => threads = number(&flag, &value)?,
                "--dtype" => dtype = value,
                "--recompute" => recompute = serde_json::from_value(json!(value))?,
                _ => ensure!(
                    shape.take(&flag, &value)?,
                    "unknown flag {flag}: expected [--steps N] [--threads N] [--dtype auto|f32|bf16] [--rows N] [--recompute always|never] {USAGE}"
                ),
            }
        }
        Ok(Self {
            shape,
            rows,
            steps,
            place: Place::choose("cpu", &dtype, Some(threads))?,
            recompute,
        })
    }
}

/// Number of steps that are not timed.
const WARM_UP: usize = 3;

fn main() -> anyhow::Result<()> {
    demask_model::engine::device_choice::keep_freed_memory();
    let course = Course::parse()?;
    let (config, kind) = (course.shape.config()?, course.place.kind);
    let words = (config.mask_token_id as usize).min(1000);
    let mut backbone = Backbone::fresh(&config, 0, Device::Cpu, kind)?;
    let mut optimizer = AdamW::new(backbone.parameters())?;
    let step_tokens = (course.rows * course.shape.length) as f64;
    let (mut steps, mut rates, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for step in 0..WARM_UP + course.steps {
        let settings = StepSettings {
            learning_rate: 1e-3,
            clip_norm: 1.0,
            adam: Adam::default(),
            task_weights: [1.0; 4],
            loss_normalization: demask_api::LossNormalization::Sequence,
            recompute: course.recompute,
            block_noise: demask_api::BlockNoise::default(),
            seed: step as u64,
            ema: 0.0,
        };
        let report = training::train(
            &mut backbone,
            &mut optimizer,
            &[rows(course.rows, course.shape.length, words, step)],
            &settings,
        )?;
        if step >= WARM_UP {
            let flops = training_flops(
                &config,
                step_tokens,
                course.shape.length as f64,
                report.masked as f64,
            );
            let (done, rate) = (flops / report.seconds, matmul_rate(kind));
            steps.push((step_tokens / report.seconds, done));
            rates.push(rate);
            shares.push(done / rate);
        }
    }
    let (tokens, flops): (Vec<_>, Vec<_>) = steps.into_iter().unzip();
    let line = json!({
        "what": "demask",
        "dtype": course.place.reason.split(':').next(),
        "tokens_per_s": median(tokens).round(),
        "gflops": (median(flops) / 1e8).round() / 10.0,
        "matmul_gflops": (median(rates) / 1e8).round() / 10.0,
        "share": (median(shares) * 1e3).round() / 1e3,
        "peak_mb": peak_megabytes(),
        "parameters": backbone.parameters().count(),
    });
    println!("{line}");
    Ok(())
}

/// Returns the peak memory of this process in MiB.
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kilobytes + 512) / 1024)
}
