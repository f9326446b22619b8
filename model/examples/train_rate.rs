//! Training tokens a second on this machine, the share of its measured matrix-product rate, and the peak of memory.
//!
//! `train_rate [--steps N] [--threads N] [--dtype auto|f32|bf16] [--rows N] [SHAPE]`, by default the shape of
//! `tests/benches/train_rate.py`: d 192, 4 layers, 4 heads, feed-forward 512, vocabulary 1024, length 128, 32 rows; AdamW with clipping
//! at 1. `auto` is bf16 where the processor multiplies that natively, else f32.

mod shape;

use anyhow::{Context as _, ensure};
use demask_api::{Adam, BackboneConfig, Sequence, Span, StepSettings, Task};
use demask_model::engine::device_choice::Place;
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};
use serde_json::json;
use shape::{Shape, USAGE, matmul_rate, median, number};
use tch::Device;

/// What is measured.
struct Course {
    shape: Shape,
    rows: usize,
    steps: usize,
    place: Place,
}

impl Course {
    fn parse() -> anyhow::Result<Self> {
        let (mut shape, mut rows, mut steps, mut threads) = (Shape::default(), 32, 20, 2);
        let mut dtype = "auto".to_owned();
        let mut arguments = std::env::args().skip(1);
        while let Some(flag) = arguments.next() {
            let value = arguments
                .next()
                .with_context(|| format!("{flag} needs a value"))?;
            match flag.as_str() {
                "--rows" => rows = number(&flag, &value)?,
                "--steps" => steps = number(&flag, &value)?,
                "--threads" => threads = number(&flag, &value)?,
                "--dtype" => dtype = value,
                _ => ensure!(
                    shape.take(&flag, &value)?,
                    "unknown flag {flag}: expected [--steps N] [--threads N] [--dtype auto|f32|bf16] [--rows N] {USAGE}"
                ),
            }
        }
        Ok(Self {
            shape,
            rows,
            steps,
            place: Place::choose("cpu", &dtype, Some(threads))?,
        })
    }

    fn batch(&self, step: usize, words: usize) -> Vec<Sequence> {
        let length = self.shape.length;
        let token = |at: usize| u32::try_from((at * 7919 + step * 104_729) % words).unwrap_or(0);
        let row = |row: usize| Sequence {
            id: String::new(),
            task: Task::Text,
            ids: (0..length).map(|at| token(row * length + at)).collect(),
            left_pad: 0,
            answer: vec![Span {
                start: 0,
                end: length,
            }],
        };
        (0..self.rows).map(row).collect()
    }

    /// Matrix products of forward and backward: 6 a weight and token, attention, the head at masked positions only.
    fn flops(&self, config: &BackboneConfig, tokens: f64, masked: f64) -> f64 {
        let width = config.d_model as f64;
        let block = 4.0 * width * width + 3.0 * width * config.hidden() as f64;
        let attention = 2.0 * self.shape.length as f64 * width;
        6.0 * (tokens * config.n_layers as f64 * (block + attention) + masked * width * config.rows() as f64)
    }
}

/// Steps that are not timed.
const WARM_UP: usize = 3;

fn main() -> anyhow::Result<()> {
    demask_model::engine::device_choice::keep_freed_memory();
    let course = Course::parse()?;
    let (config, kind) = (course.shape.config()?, course.place.kind);
    let words = (config.mask_token_id as usize).min(1000);
    let mut backbone = Backbone::fresh(&config, 0, Device::Cpu, kind)?;
    let mut optimizer = AdamW::new(backbone.parameters())?;
    let (mut seconds, mut masked, mut rates) = (0.0, 0, Vec::new());
    for step in 0..WARM_UP + course.steps {
        let settings = StepSettings {
            learning_rate: 1e-3,
            clip_norm: 1.0,
            adam: Adam::default(),
            task_weights: [1.0; 4],
            loss_normalization: demask_api::LossNormalization::Sequence,
            block_noise: demask_api::BlockNoise::default(),
            seed: step as u64,
            ema: 0.0,
        };
        let report = training::train(
            &mut backbone,
            &mut optimizer,
            &[course.batch(step, words)],
            &settings,
        )?;
        if step >= WARM_UP {
            seconds += report.seconds;
            masked += report.masked;
            rates.push(matmul_rate(kind));
        }
    }
    let tokens = (course.steps * course.rows * course.shape.length) as f64;
    let flops = course.flops(&config, tokens, masked as f64);
    let rate = median(rates);
    let line = json!({
        "what": "demask",
        "dtype": course.place.reason.split(':').next(),
        "tokens_per_s": (tokens / seconds).round(),
        "gflops": (flops / seconds / 1e8).round() / 10.0,
        "matmul_gflops": (rate / 1e8).round() / 10.0,
        "share": (flops / seconds / rate * 1e3).round() / 1e3,
        "peak_mb": peak_megabytes(),
        "parameters": backbone.parameters().count(),
    });
    println!("{line}");
    Ok(())
}

/// The most memory that this process has had.
fn peak_megabytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = peak.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some((kilobytes + 512) / 1024)
}
