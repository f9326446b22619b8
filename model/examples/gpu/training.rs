//! Training steps of the large shape: an adapter on the whole network, and full training of one block.

use std::path::Path;
use std::time::Instant;

use demask_api::{LoraConfig, Purpose, Sequence, StepSettings};
use demask_model::network::lora::Lora;
use demask_model::training::optimizer::AdamW;
use demask_model::{Backbone, training};
use tch::{Device, Kind, Tensor};

use crate::clock::{memory, wait};
use crate::figure::{Asked, Teller};
use crate::options::Options;
use crate::shape::{Shape, network, rows, settings};
use crate::sizes::training_flops;

/// Number of timed steps, after one that is not timed.
const STEPS: u64 = 3;

/// Measures an adapter's training step with several rows.
///
/// # Errors
/// Returns libtorch's errors, including out of memory.
pub fn lora(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let shape = Shape::of(options)?;
    let (rows, length) = (shape.rows, shape.context);
    adapter_step(options, teller, rows, length, Some((0.7, 0.5)))
}

/// Measures an adapter's training step with one long row.
///
/// # Errors
/// Returns libtorch's errors, including out of memory.
pub fn lora_long(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let shape = Shape::of(options)?;
    adapter_step(options, teller, 1, shape.long, None)
}

fn adapter_step(
    options: &Options,
    teller: &Teller,
    count: usize,
    length: usize,
    asked: Asked,
) -> anyhow::Result<()> {
    let (_, backbone) = network(options)?;
    let (device, kind, config) = (backbone.device(), backbone.kind(), backbone.config().clone());
    let adapter = Lora::fresh(
        &LoraConfig::default(),
        &config,
        Path::new("base"),
        (device, kind),
        Purpose::Train,
    )?;
    let mut backbone = backbone.adapted(adapter);
    let mut optimizer = AdamW::new(backbone.trained())?;
    let rows = rows(count, length, Shape::words(&config));
    let seconds = steps(&mut backbone, &mut optimizer, &rows, &settings)?.seconds;
    let asked = asked.filter(|_| options.asked());
    let figure = format!("LoRA step of {count} x {length} tokens, rank 8 on every layer");
    teller.at_most(&figure, seconds, "s", asked);
    let Some(memory) = memory(device) else {
        return Ok(());
    };
    teller.found("memory taken", memory.taken, "GB", "");
    if let Some(free) = memory.free {
        teller.at_least("memory to spare", free, "GB", asked.map(|_| (8.0, 8.0)));
    }
    Ok(())
}

/// The result of several steps.
pub struct Stepped {
    /// Seconds of the median step.
    pub seconds: f64,
    /// Masked positions of that step.
    pub masked: f64,
}

/// Takes a step that is not timed and then several that are. `settings` returns the settings of a step by its number.
///
/// # Errors
/// Returns libtorch's errors, and an error if a loss or a gradient is not finite.
pub fn steps(
    backbone: &mut Backbone,
    optimizer: &mut AdamW,
    rows: &[Sequence],
    settings: &dyn Fn(u64) -> StepSettings,
) -> anyhow::Result<Stepped> {
    let device = backbone.device();
    let mut all = Vec::new();
    for step in 0..=STEPS {
        wait(device);
        let began = Instant::now();
        let report = training::train(backbone, optimizer, &[rows.to_vec()], &settings(step))?;
        wait(device);
        anyhow::ensure!(report.finite, "step {step}: loss or gradient is not finite");
        all.push((began.elapsed().as_secs_f64(), report.masked));
    }
    let timed = &mut all[1..];
    timed.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (seconds, masked) = timed[timed.len() / 2];
    Ok(Stepped {
        seconds,
        masked: masked as f64,
    })
}

/// Measures full training of one block, and what share of the device's matrix-product rate a step reaches.
///
/// # Errors
/// Returns libtorch's errors.
pub fn full_step(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let shape = Shape::of(options)?;
    let config = shape.block_alone();
    let mut backbone = Backbone::fresh(&config, 1, place.device, place.kind)?;
    let mut optimizer = AdamW::new(backbone.parameters())?;
    let rows = rows(shape.rows, shape.context, Shape::words(&config));
    let stepped = steps(&mut backbone, &mut optimizer, &rows, &settings)?;
    let tokens = (shape.rows * shape.context) as f64;
    let flops = training_flops(&config, tokens, shape.context as f64, stepped.masked);
    let rate = product_rate(place.device, place.kind, if options.small { 256 } else { 8192 })?;
    let figure = format!("full step of a block, {} x {} tokens", shape.rows, shape.context);
    let note = format!("{:.2} TFLOP counted", flops / 1e12);
    teller.found(&figure, stepped.seconds * 1e3, "ms", &note);
    teller.found("its rate", flops / stepped.seconds / 1e12, "TFLOP/s", "");
    teller.found("a large matrix product's", rate / 1e12, "TFLOP/s", "");
    teller.found(
        "share of the peak",
        100.0 * flops / stepped.seconds / rate,
        "%",
        "",
    );
    Ok(())
}

/// Returns the floating-point operations per second of a large square matrix product.
///
/// # Errors
/// Returns libtorch's errors.
pub fn product_rate(device: Device, kind: Kind, side: i64) -> anyhow::Result<f64> {
    let matrix = Tensor::f_ones([side, side], (kind, device))?;
    let mut best = 0.0_f64;
    for _ in 0..8 {
        wait(device);
        let began = Instant::now();
        let _product = matrix.f_matmul(&matrix)?;
        wait(device);
        best = best.max(2.0 * (side as f64).powi(3) / began.elapsed().as_secs_f64());
    }
    Ok(best)
}
