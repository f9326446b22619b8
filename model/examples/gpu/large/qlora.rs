//! QLoRA: a training step of an adapter over the 8B shape, whose blocks are in NF4 or int8.

use std::path::Path;

use anyhow::ensure;
use demask_api::{BaseDtype, LoraConfig, Purpose, Recompute, StepSettings};
use demask_model::Backbone;
use demask_model::device::cuda;
use demask_model::engine::device_choice::Place;
use demask_model::network::lora::Lora;
use demask_model::training::optimizer::AdamW;

use super::memory::{AtOnce, adapter};
use super::tell_memory;
use crate::clock;
use crate::figure::Teller;
use crate::options::Options;
use crate::ranks::attempt;
use crate::shape::{Shape, rows, settings};
use crate::training::steps;

/// Measures a step over each format.
///
/// # Errors
/// Returns an error if the device does not exist.
pub fn qlora(options: &Options, teller: &Teller) -> anyhow::Result<()> {
    let place = options.place("auto")?;
    let shape = Shape::of(options)?;
    for (name, base, double_quantization) in [
        ("NF4, double quantisation", BaseDtype::Nf4, true),
        ("int8", BaseDtype::Int8, false),
    ] {
        let lora = LoraConfig {
            base,
            double_quantization,
            ..LoraConfig::default()
        };
        attempt(teller, &format!("an adapter over {name}"), || {
            step(teller, name, (&shape, &lora), &place)
        });
        cuda::release(place.device);
    }
    Ok(())
}

fn step(
    teller: &Teller,
    name: &str,
    (shape, lora): (&Shape, &LoraConfig),
    place: &Place,
) -> anyhow::Result<String> {
    let (device, kind, config) = (place.device, place.kind, &shape.config);
    cuda::forget_peak(device);
    let backbone = Backbone::random_frozen(config, 1, (device, kind), lora.frozen_base())?;
    let stored = backbone.quantized().bytes() as f64 / 1e9;
    ensure!(stored > 0.0, "the base is not quantised");
    let fresh = Lora::fresh(lora, config, Path::new("base"), (device, kind), Purpose::Train)?;
    let mut backbone = backbone.adapted(fresh);
    let mut optimizer = AdamW::new(backbone.trained())?;
    let batch = rows(shape.rows, shape.context, Shape::words(config));
    let settings = |seed| StepSettings {
        recompute: Recompute::Always,
        ..settings(seed)
    };
    let seconds = steps(&mut backbone, &mut optimizer, &batch, &settings)?.seconds;
    let (count, length) = (shape.rows, shape.context);
    let figure = format!("{name}: step of {count} x {length} tokens");
    teller.found(&figure, seconds, "s", "rank 8 on every layer, blocks recomputed");
    let tokens = (count * length) as f64 / seconds;
    teller.found(&format!("{name}: tokens"), tokens, "tokens/s", "");
    let threads = place.threads.max(1);
    let most = backbone.room().forward_tokens() / length * threads;
    let now = AtOnce {
        gpu: cuda::memory(device).map(|memory| memory.total),
        number: kind.elt_size_in_bytes() as u64,
        threads: threads.min(count) as u64,
        rows: count.min(most.max(1)) as u64,
        length: length as u64,
    };
    let taken = clock::memory(device);
    tell_memory(teller, name, taken.as_ref(), &adapter(config, lora, now));
    Ok(format!("{stored:.2} GB of quantised weights"))
}
