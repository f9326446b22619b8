//! Training tokens a second on this machine, and the share of its measured bf16 matrix-product rate.
//!
//! The shape of `benches/train_rate.py`: d 192, 4 layers, 4 heads, feed-forward 512, vocabulary 1024, length 128,
//! batch 32, AdamW with clipping at 1. `cargo run --release -p demask-model --example train_rate -- [STEPS] [THREADS] [bf16|f32]`

use std::time::Instant;

use demask_api::{Adam, BackboneConfig, Sequence, Span, StepSettings, Task};
use demask_model::optimizer::AdamW;
use demask_model::{Backbone, trainer};
use tch::{Device, Kind, Tensor};

const LENGTH: usize = 128;
const BATCH: usize = 32;

fn main() -> anyhow::Result<()> {
    demask_model::device::keep_freed_memory();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, fallback| {
        arguments
            .get(at)
            .map_or(Ok(fallback), |text| text.parse::<usize>())
    };
    let (steps, threads) = (number(0, 20)?, number(1, 2)?);
    let kind = if arguments.get(2).is_some_and(|kind| kind == "f32") {
        Kind::Float
    } else {
        Kind::BFloat16
    };
    tch::set_num_threads(i32::try_from(threads)?);
    let config = BackboneConfig {
        d_model: 192,
        n_heads: 4,
        n_layers: 4,
        mlp_hidden_size: Some(512),
        max_sequence_length: LENGTH,
        vocab_size: 1024,
        mask_token_id: 1023,
        codebook_size: 0,
        ..BackboneConfig::default()
    };
    let mut backbone = Backbone::fresh(&config, 0, Device::Cpu, kind)?;
    let mut optimizer = AdamW::new(backbone.parameters())?;
    let (mut seconds, mut masked) = (0.0, 0);
    const WARM_UP: usize = 3;
    for step in 0..WARM_UP + steps {
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
        let report = trainer::train(&mut backbone, &mut optimizer, &[batch(step)], &settings)?;
        if step >= WARM_UP {
            seconds += report.seconds;
            masked += report.masked;
        }
    }
    let tokens = (steps * BATCH * LENGTH) as f64;
    let flops = flops(&config, tokens, masked as f64);
    let rate = matmul_rate(kind);
    println!(
        "{{\"what\": \"demask\", \"dtype\": \"{kind:?}\", \"tokens_per_s\": {:.0}, \"gflops\": {:.1}, \"matmul_gflops\": {:.1}, \"share\": {:.3}}}",
        tokens / seconds,
        flops / seconds / 1e9,
        rate / 1e9,
        flops / seconds / rate
    );
    Ok(())
}

fn batch(step: usize) -> Vec<Sequence> {
    let token = |at: usize| u32::try_from((at * 7919 + step * 104_729) % 1000).unwrap_or(0);
    let row = |row: usize| Sequence {
        id: String::new(),
        task: Task::Text,
        ids: (0..LENGTH).map(|at| token(row * LENGTH + at)).collect(),
        left_pad: 0,
        answer: vec![Span {
            start: 0,
            end: LENGTH,
        }],
    };
    (0..BATCH).map(row).collect()
}

/// Matrix products of forward and backward: 6 a weight and token, attention, the head at masked positions only.
fn flops(config: &BackboneConfig, tokens: f64, masked: f64) -> f64 {
    let width = config.d_model as f64;
    let block = 4.0 * width * width + 3.0 * width * config.hidden() as f64;
    let attention = 2.0 * LENGTH as f64 * width;
    6.0 * (tokens * config.n_layers as f64 * (block + attention) + masked * width * config.rows() as f64)
}

/// Operations a second of a large square product.
fn matmul_rate(kind: Kind) -> f64 {
    const SIDE: i64 = 1024;
    let matrix = Tensor::ones([SIDE, SIDE], (kind, Device::Cpu));
    let mut best = 0.0_f64;
    for _ in 0..8 {
        let started = Instant::now();
        let _product = matrix.matmul(&matrix);
        best = best.max(2.0 * (SIDE as f64).powi(3) / started.elapsed().as_secs_f64());
    }
    best
}
