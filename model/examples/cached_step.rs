//! Measures what share of the machine's matrix-product rate a dual-cache step reaches.
//!
//! `cached_step [--prompt N] [--block N] [--batch N] [--rounds N] [--threads N] [--dtype auto|f32|bf16]
//! [SHAPE]` samples rows of a random network and fills a block one token per step. The first step of a block
//! is a full forward pass and is left out. The other steps compute the block alone, and the output head at
//! its masked positions. A large matrix product is timed between two steps. The program prints a JSON line of
//! medians.

mod shape;

use std::time::Instant;

use anyhow::ensure;
use demask_api::{SampleRequest, Sampler, Span, TextSampler};
use demask_model::Backbone;
use demask_model::engine::device_choice::Place;
use demask_model::sampler::{Batch, Limits};
use serde_json::json;
use shape::{Shape, USAGE, flags, matmul_rate, median, number};
use tch::Device;

/// The settings of a measurement.
struct Course {
    shape: Shape,
    prompt: usize,
    block: usize,
    batch: usize,
    rounds: usize,
    place: Place,
}

impl Course {
    fn parse() -> anyhow::Result<Self> {
        let mut shape = Shape::default();
        let (mut prompt, mut block, mut batch, mut rounds, mut threads) = (64, 32, 1, 3, 2);
        let mut dtype = "auto".to_owned();
        for (flag, value) in flags()? {
            match flag.as_str() {
                "--prompt" => prompt = number(&flag, &value)?,
                "--block" => block = number(&flag, &value)?,
                "--batch" => batch = number(&flag, &value)?,
                "--rounds" => rounds = number(&flag, &value)?,
                "--threads" => threads = number(&flag, &value)?,
                "--dtype" => dtype = value,
                _ => ensure!(
                    shape.take(&flag, &value)?,
                    "unknown flag {flag}: expected [--prompt N] [--block N] [--batch N] [--rounds N] [--threads N] \
                     [--dtype auto|f32|bf16] {USAGE}"
                ),
            }
        }
        shape.length = shape.length.max(prompt + block);
        Ok(Self {
            shape,
            prompt,
            block,
            batch,
            rounds,
            place: Place::choose("cpu", &dtype, Some(threads))?,
        })
    }

    fn request(&self, row: usize, mask: u32, words: usize) -> anyhow::Result<SampleRequest> {
        let token = |at: usize| u32::try_from((row * 7919 + at * 104_729) % words);
        let mut ids = (0..self.prompt).map(token).collect::<Result<Vec<_>, _>>()?;
        ids.resize(self.prompt + self.block, mask);
        let sampler: TextSampler = serde_json::from_value(json!({
            "steps": self.block, "block": self.block, "end": {"when": "never"},
            "cache": {"keep": "dual", "refresh": 1, "vicinity": 0},
        }))?;
        Ok(SampleRequest {
            id: row as u64,
            target: Span {
                start: self.prompt,
                end: ids.len(),
            },
            ids,
            left_pad: 0,
            sampler: Sampler::Text(sampler),
            grid: None,
            unconditional: None,
            unconditional_left_pad: 0,
            seed: row as u64,
            watch: false,
        })
    }

    /// Returns the floating-point operations of the matrix products of all cached steps of a block. A weight
    /// counts 2 operations per position. The output head is computed at the masked positions that are left,
    /// which are all but one at the second step.
    fn operations(&self, backbone: &Backbone) -> f64 {
        let config = backbone.config();
        let (width, block) = (config.d_model as f64, self.block as f64);
        let layer = 4.0 * width * width + 3.0 * width * config.hidden() as f64;
        let attention = 2.0 * (self.prompt + self.block) as f64 * width;
        let body = (block - 1.0) * block * config.n_layers as f64 * (layer + attention);
        let masks = block * (block - 1.0) / 2.0;
        2.0 * self.batch as f64 * (body + masks * width * config.rows() as f64)
    }
}

fn main() -> anyhow::Result<()> {
    demask_model::engine::device_choice::keep_freed_memory();
    let course = Course::parse()?;
    ensure!(course.block > 1, "--block 1: expected at least 2");
    let config = course.shape.config()?;
    let backbone = Backbone::random(&config, 1, Device::Cpu, course.place.kind)?;
    backbone.ready_to_sample()?;
    let words = (config.mask_token_id as usize - 1).max(1);
    let (mut whole, mut cached, mut rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut batch = Batch::new(&backbone, Limits::default());
    for round in 0..=course.rounds {
        let rows = (0..course.batch).map(|row| course.request(row, config.mask_token_id, words));
        batch.submit(rows.collect::<anyhow::Result<_>>()?)?;
        let mut steps = Vec::new();
        while !batch.is_empty() {
            let began = Instant::now();
            batch.step(&mut |_, _, _| Ok(()))?;
            steps.push(began.elapsed().as_secs_f64());
            if steps.len() % 4 == 0 && round > 0 {
                rates.push(matmul_rate(course.place.kind));
            }
        }
        // The last call of a block may only return finished samples, without a forward pass.
        steps.truncate(course.block);
        if round > 0 {
            whole.push(steps[0]);
            cached.push(steps[1..].iter().sum::<f64>());
        }
    }
    let (seconds, rate) = (median(cached), median(rates));
    let gflops = course.operations(&backbone) / seconds / 1e9;
    let line = json!({
        "what": "demask",
        "dtype": course.place.reason.split(':').next(),
        "batch": course.batch,
        "cached_step_ms": (seconds / (course.block - 1) as f64 * 1e5).round() / 1e2,
        "whole_pass_ms": (median(whole) * 1e5).round() / 1e2,
        "gflops": (gflops * 10.0).round() / 10.0,
        "matmul_gflops": (rate / 1e8).round() / 10.0,
        "share": (gflops * 1e12 / rate).round() / 1e3,
    });
    println!("{line}");
    Ok(())
}
